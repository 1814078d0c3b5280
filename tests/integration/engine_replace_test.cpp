// SPDX-License-Identifier: Apache-2.0
// on_duplicate replace and reschedule: what they change, what they leave alone, and races with claims, promotion,
// cancels and each other.
#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class EngineReplace : public EngineTest {
 protected:
  static std::string put(std::string const& payload, std::string const& more = "", std::string const& how = "replace") {
    return "select id || ' ' || status from enqueue_outcome('k', '" + payload +
           "', dedupe_key => 'a', on_duplicate => '" + how + "'" + (more.empty() ? "" : ", " + more) + ")";
  }
  static std::string push(std::string const& when, std::string const& payload = "0") {
    return put(payload, when, "reschedule");
  }
  std::string said(std::int64_t id, std::string const& status) { return std::to_string(id) + " " + status; }
  std::string payload(std::int64_t id) { return sql.one("select payload from jobs where id = $1", id); }
  std::int64_t created(std::string const& statement) { return std::stoll(sql.one(statement)); }
  std::int64_t jobs() { return sql.number("select count(*) from jobs"); }
};

TEST_F(EngineReplace, APayloadThatHasNotStartedIsReplaced) {
  auto const first = enqueue();
  auto const id = created(put("1", "headers => '{\"h\": \"1\"}', max_attempts => 7"));
  auto const last = enqueue();
  EXPECT_EQ(sql.one(put("2")), said(id, "replaced"));
  EXPECT_EQ(sql.one("select concat_ws(' ', payload, headers, max_attempts, state) from jobs where id = $1", id),
            R"(2 {"h": "1"} 7 available)");
  EXPECT_EQ(sql.one(put("3", "headers => '{\"h\": \"2\"}'")), said(id, "replaced"));
  EXPECT_EQ(sql.number("select enqueue_bytes('k', 'raw', dedupe_key => 'a', on_duplicate => 'replace')"), id);
  EXPECT_EQ(sql.one("select concat_ws(' ', payload is null, encode(payload_bytes, 'escape'), headers) from jobs where "
                    "id = $1",
                    id),
            R"(t raw {"h": "2"})");
  EXPECT_EQ(sql.one(put("4")), said(id, "replaced"));
  // It keeps its place, and there is one of it.
  Hand hand(sql);
  EXPECT_THAT(ids(hand.claim(10)), ElementsAre(first, id, last));
  EXPECT_EQ(jobs(), 3);
}

TEST_F(EngineReplace, OneThatWaitsForItsTimeToo) {
  auto const id = created(put("1", "delay => '1 hour'"));
  auto const due = sql.one("select due_at from deferred");
  EXPECT_EQ(sql.one(put("2")), said(id, "replaced"));
  EXPECT_EQ(payload(id), "2");
  EXPECT_EQ(sql.one("select due_at from deferred"), due);
  // Promoted, it lies in the express lane of the log.
  sql.exec("update deferred set due_at = now()");
  EXPECT_EQ(sql.number("select promote()"), 1);
  EXPECT_EQ(sql.one(put("3")), said(id, "replaced"));
  EXPECT_EQ(payload(id), "3");
  EXPECT_EQ(jobs(), 1);
}

TEST_F(EngineReplace, OneThatHasStartedIsADuplicate) {
  auto const id = created(put("1"));
  Hand hand(sql);
  auto const job = hand.claim(1).at(0);
  for (auto const& statement : {put("2"), push("delay => '1 hour'")}) {
    EXPECT_EQ(sql.one(statement), said(id, "duplicate"));
  }
  EXPECT_EQ(sql.number("select count(*) from pg_locks where locktype = 'advisory'"), 0);
  hand.finish(job.token, "1", 1, "[" + move_of(job, "retry", 3'600'000) + "]");
  EXPECT_EQ(state(id), "retryable");
  for (auto const& statement : {put("2"), push("delay => '1 hour'")}) {
    EXPECT_EQ(sql.one(statement), said(id, "duplicate")) << "it has made an attempt";
  }
  sql.rows("select retry($1)", id);
  EXPECT_EQ(sql.one(put("2")), said(id, "duplicate"));
  EXPECT_EQ(payload(id), "1");
  auto const again = hand.claim(1).at(0);
  EXPECT_EQ(again.id, id);
  hand.finish(again.token);
  auto const other = created(put("5"));
  EXPECT_NE(other, id);
  EXPECT_EQ(payload(other), "5");
}

// Scope until_claimed: once claimed, the key is free, so there is a new job instead of a duplicate.
TEST_F(EngineReplace, WithoutAHolderThereIsANewJob) {
  auto const id = created(put("1", "dedupe_scope => 'until_claimed'"));
  EXPECT_EQ(sql.one(put("2", "dedupe_scope => 'until_claimed'")), said(id, "replaced"));
  Hand hand(sql);
  hand.claim(1);
  auto const next = created(put("3", "dedupe_scope => 'until_claimed'"));
  EXPECT_NE(next, id);
  sql.rows("select cancel($1)", next);
  EXPECT_NE(created(put("4")), next);
}

TEST_F(EngineReplace, ATimeIsPushed) {
  auto const id = created(push("delay => '1 hour'", "1"));
  EXPECT_EQ(sql.one(push("run_at => '2090-01-01 00:00:00+00'", "2")), said(id, "rescheduled"));
  EXPECT_EQ(sql.one("select run_at = '2090-01-01 00:00:00+00' from jobs"), "t");
  EXPECT_EQ(payload(id), "1") << "the payload stays";
  // To now: it is promoted with the next round.
  EXPECT_EQ(sql.one(push("delay => '0'")), said(id, "rescheduled"));
  EXPECT_EQ(sql.number("select promote()"), 1);
  EXPECT_EQ(state(id), "available");
  EXPECT_EQ(sql.one(push("delay => '0'")), said(id, "rescheduled")) << "it is available already";
  EXPECT_EQ(state(id), "available");
  // An available job leaves the log.
  auto const before = sql.one("select enqueued_at from jobs");
  EXPECT_EQ(sql.one(push("delay => '1 hour'")), said(id, "rescheduled"));
  EXPECT_EQ(state(id), "scheduled");
  EXPECT_EQ(sql.one("select enqueued_at from jobs"), before);
  Hand hand(sql);
  EXPECT_THAT(hand.claim(1), IsEmpty());
  sql.rows("select retry($1)", id);
  EXPECT_THAT(ids(hand.claim(2)), ElementsAre(id));
  EXPECT_EQ(jobs(), 1);
}

TEST_F(EngineReplace, ARollbackLeavesTheJobAsItWas) {
  auto const id = created(put("1"));
  for (auto const& statement : {put("2"), push("delay => '1 hour'")}) {
    sql.exec("begin");
    sql.one(statement);
    sql.exec("rollback");
    EXPECT_EQ(payload(id) + state(id), "1available");
  }
  Hand hand(sql);
  EXPECT_THAT(ids(hand.claim(2)), ElementsAre(id));
}

TEST_F(EngineReplace, ManyInOneCall) {
  auto const id = created(put("1"));
  auto const rows = sql.column(R"(select concat_ws(' ', id = $1, status) from enqueue_many_outcome('[
    {"kind": "k", "payload": 2, "dedupe_key": "a", "on_duplicate": "replace"},
    {"kind": "k", "payload": 3, "dedupe_key": "a", "on_duplicate": "replace"},
    {"kind": "k", "payload": 4, "dedupe_key": "a"},
    {"kind": "k", "payload": 5, "dedupe_key": "b", "on_duplicate": "replace"},
    {"kind": "k", "payload": 6, "dedupe_key": "b", "on_duplicate": "replace"},
    {"kind": "k", "payload": 7, "dedupe_key": "a", "on_duplicate": "reschedule", "delay_ms": 3600000}]'))",
                               id);
  EXPECT_THAT(rows,
              ElementsAre("t replaced", "t replaced", "t duplicate", "f created", "f duplicate", "t rescheduled"));
  EXPECT_EQ(payload(id) + state(id), "3scheduled");
  EXPECT_EQ(sql.one("select payload from jobs where id <> $1", id), "5") << "inside a call the first wins";
  EXPECT_EQ(
      sql.one(
          R"(select enqueue_many('[{"kind": "k", "dedupe_key": "a", "on_duplicate": "replace"}]') = array[$1::bigint])",
          id),
      "t");
  EXPECT_EQ(jobs(), 2);
}

TEST_F(EngineReplace, ATokenSaysTheSameAgain) {
  std::string const token = "token => '11111111-2222-4333-8444-555555555555'";
  auto const id = created(put("1"));
  EXPECT_EQ(sql.one(put("2", token)), said(id, "replaced"));
  EXPECT_EQ(sql.one(put("3")), said(id, "replaced"));
  EXPECT_EQ(sql.one(put("2", token)), said(id, "replaced"));
  EXPECT_EQ(payload(id), "3") << "the resent call changes nothing";
  EXPECT_EQ(sql.one(put("4", token)), said(id, "mismatch"));
  Hand hand(sql);
  hand.claim(1);
  EXPECT_EQ(sql.one(put("2", token)), said(id, "replaced"));
}

TEST_F(EngineReplace, BadInput) {
  auto const refusal = [&](std::string const& statement) {
    try {
      sql.one(statement);
      return std::string("accepted");
    } catch (SqlError const& error) {
      return error.sqlstate() + " " + error.what();
    }
  };
  EXPECT_THAT(refusal("select enqueue('k', on_duplicate => 'replace')"), HasSubstr("without dedupe_key"));
  EXPECT_THAT(refusal("select enqueue('k', dedupe_key => 'a', on_duplicate => 'reschedule')"),
              HasSubstr("without run_at or delay"));
  EXPECT_THAT(refusal(R"(select enqueue_many('[{"kind": "k", "dedupe_key": "a", "on_duplicate": "reschedule"}]'))"),
              HasSubstr("element 0: on_duplicate is reschedule without run_at or delay"));
  EXPECT_THAT(refusal(R"(select enqueue_many('[{"kind": "k", "dedupe_key": "a", "on_duplicate": "replaced"}]'))"),
              HasSubstr("element 0: on_duplicate is 'replaced'"));
  created(put("1"));
  EXPECT_THAT(refusal(put("2", "headers => '[]'")), HasSubstr("headers is a JSON array"));
  EXPECT_THAT(
      refusal("select enqueue('k', to_jsonb(repeat('x', 1048577)), dedupe_key => 'a', on_duplicate => 'replace')"),
      HasSubstr("more than 1048576"));
  sql.exec("begin isolation level repeatable read");
  EXPECT_THAT(refusal(put("2")), HasSubstr("25001"));
  sql.exec("rollback");
}

TEST_F(EngineReplace, AClaimInFlightIsWaitedForAndThenItIsADuplicate) {
  auto const id = created(put("1"));
  Sql worker = open();
  Sql producer = open();
  Hand hand(worker);
  for (auto const& statement : {put("2"), push("delay => '1 hour'")}) {
    worker.exec("begin");
    auto const jobs = hand.claim(1);
    ASSERT_EQ(jobs.size(), 1U);
    auto waiting = beside(producer, statement);
    EXPECT_TRUE(waits_for_lock(sql, producer.backend_pid()));
    worker.exec("commit");
    EXPECT_EQ(waiting.get(), said(id, "duplicate"));
    EXPECT_EQ(payload(id), "1");
    worker.exec("select give_back(" + std::to_string(hand.id()) + ", '" + array({jobs[0].token}) + "')");
    EXPECT_EQ(state(id), "available");
  }
}

TEST_F(EngineReplace, AClaimThatRollsBackLeavesItToTheProducer) {
  auto const id = created(put("1"));
  Sql worker = open();
  Sql producer = open();
  Hand hand(worker);
  worker.exec("begin");
  ASSERT_EQ(hand.claim(1).size(), 1U);
  auto waiting = beside(producer, put("2"));
  EXPECT_TRUE(waits_for_lock(sql, producer.backend_pid()));
  worker.exec("rollback");
  EXPECT_EQ(waiting.get(), said(id, "replaced"));
}

TEST_F(EngineReplace, AClaimDoesNotSeeWhatIsBeingReplaced) {
  auto const id = created(put("1"));
  Sql producer = open();
  Hand hand(sql);
  producer.exec("begin");
  producer.one(put("2"));
  EXPECT_THAT(hand.claim(1), IsEmpty());
  producer.exec("commit");
  auto const job = sql.rows("select id, payload from claim($1, $2, null, 1, 1)", hand.id(), hand.take_token());
  ASSERT_EQ(job.size(), 1U);
  EXPECT_EQ(*job[0][0] + " " + *job[0][1], std::to_string(id) + " 2");
}

TEST_F(EngineReplace, PromotionAndReplaceGoOneAfterTheOther) {
  auto const id = created(put("1", "delay => '1 hour'"));
  sql.exec("update deferred set due_at = now()");
  Sql leader = open();
  Sql producer = open();
  leader.exec("begin");
  EXPECT_EQ(leader.number("select promote()"), 1);
  auto waiting = beside(producer, put("2"));
  EXPECT_TRUE(waits_for_lock(sql, producer.backend_pid()));
  leader.exec("commit");
  EXPECT_EQ(waiting.get(), said(id, "replaced"));
  EXPECT_EQ(payload(id) + state(id), "2available");
  // The other way round the job stays where it is until the producer has decided.
  producer.exec("begin");
  producer.one(push("delay => '1 hour'"));
  EXPECT_EQ(sql.number("select promote()"), 0);
  producer.exec("commit");
  EXPECT_EQ(state(id), "scheduled");
}

TEST_F(EngineReplace, ACancelWins) {
  auto const id = created(put("1"));
  Sql operators = open();
  Sql producer = open();
  operators.exec("begin");
  EXPECT_EQ(operators.one("select cancel($1)", id), "cancelled");
  auto waiting = beside(producer, put("2"));
  EXPECT_TRUE(waits_for_lock(sql, producer.backend_pid()));
  operators.exec("commit");
  auto const answer = waiting.get();
  EXPECT_THAT(answer, HasSubstr(" created"));
  EXPECT_EQ(state(id) + payload(id), "cancelled1");
  EXPECT_EQ(payload(std::stoll(answer)), "2");
}

TEST_F(EngineReplace, TheWaitIsBounded) {
  created(put("1"));
  Sql worker = open();
  Hand hand(worker);
  worker.exec("begin");
  ASSERT_EQ(hand.claim(1).size(), 1U);
  sql.exec("set posthouse.lock_timeout = '20ms'");
  EXPECT_EQ(sql.sqlstate_of(put("2")), "55P03");
  worker.exec("commit");
}

// Sixteen producers and a claim beside them. Whoever is told "replaced" has replaced: the payload that runs is the one of
// the last of them, and nobody's payload is lost behind a "replaced" that came before the claim.
TEST_F(EngineReplace, SixteenProducersAndAClaim) {
  constexpr int producers = 16;
  sql.exec("create table posthouse.told (id bigint, payload jsonb, status text)");
  Sql worker = open();
  Hand hand(worker);
  for (int round = 0; round < 10; ++round) {
    sql.exec("truncate told");
    std::atomic<int> ready{0};
    std::vector<std::thread> threads;
    std::atomic<int> failures{0};
    for (int i = 0; i < producers; ++i) {
      threads.emplace_back([&, i] {
        try {
          Sql own = open();
          ++ready;
          while (ready.load() < producers) std::this_thread::yield();
          for (int n = 0; n < 4; ++n) {
            auto const mine = std::to_string(i * 100 + n);
            own.exec("begin; insert into told select id, '" + mine + "'::jsonb, status from enqueue_outcome('k', '" +
                     mine + "', dedupe_key => 'a', on_duplicate => 'replace'); commit");
          }
        } catch (std::exception const& error) {
          ADD_FAILURE() << error.what();
          ++failures;
          ++ready;
        }
      });
    }
    std::vector<Sql::Row> got;
    EXPECT_TRUE(eventually([&] {
      got = worker.rows("select id, payload, token from claim($1, $2, null, 1, 1)", hand.id(), hand.take_token());
      return !got.empty();
    }));
    for (auto& thread : threads) thread.join();
    ASSERT_EQ(failures.load(), 0);
    auto const id = *got.at(0).at(0);
    EXPECT_EQ(sql.number("select count(distinct id) from told"), 1);
    EXPECT_EQ(sql.number("select count(*) from told where status = 'created'"), 1);
    EXPECT_EQ(sql.number("select count(*) from told where status not in ('created', 'replaced', 'duplicate')"), 0);
    EXPECT_EQ(sql.one("select payload from job where id = $1", id), *got[0][1])
        << "nothing changes it once it is claimed";
    EXPECT_EQ(sql.one("select status in ('created', 'replaced') from told where payload = $1", *got[0][1]), "t");
    // Whoever was told that it had started came after the claim; before it, every call has changed it.
    EXPECT_EQ(sql.number("select count(*) from told t where t.payload = $1 and t.status = 'duplicate'", *got[0][1]), 0);
    hand.finish(std::stoll(*got[0][2]));
  }
  sql.exec("drop table told");
}

}  // namespace
}  // namespace posthouse::test
