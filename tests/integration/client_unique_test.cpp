// SPDX-License-Identifier: Apache-2.0
// The client's dedupe keys and tokens, and enqueues whose reply is lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include <posthouse/adapter/libpq.hpp>
#include <posthouse/client.hpp>

#include "support/engine.hpp"
#include "support/tcp_gate.hpp"

namespace posthouse::test {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ClientUnique : public EngineTest {
 protected:
  std::int64_t jobs() { return sql.number("select count(*) from posthouse.jobs"); }

  Client client{{.database = options()}};
  TcpGate gate{url()};
  Client safe{{.database_url = gate.url(), .safe_resend = true}};
};

constexpr char const* token = "0190b3a4-5c6d-4e7f-8a9b-0c1d2e3f4a5b";

std::string refusal(std::function<void()> const& call) {
  try {
    call();
  } catch (InvalidArgument const& error) {
    return error.what();
  }
  return "accepted";
}

TEST_F(ClientUnique, ADuplicateIsAnOutcome) {
  auto const first = client.enqueue("k", json{"1"}, {.dedupe_key = "a"});
  EXPECT_EQ(first.status, EnqueueStatus::created);
  auto const again = client.enqueue("k", json{"2"}, {.dedupe_key = "a", .dedupe_window = 1h});
  EXPECT_EQ(again.status, EnqueueStatus::duplicate);
  EXPECT_EQ(again.id, first.id);
  EXPECT_EQ(client.enqueue("k", bytes{"x"}, {.dedupe_key = "a"}).status, EnqueueStatus::duplicate);
  EXPECT_EQ(client.find(first.id)->dedupe_key, "a");
  try {
    client.enqueue("k", {}, {.dedupe_key = "a", .on_duplicate = OnDuplicate::error});
    ADD_FAILURE() << "not refused";
  } catch (InvalidArgument const& error) {
    EXPECT_EQ(error.sqlstate(), "23505");
    EXPECT_THAT(error.what(), HasSubstr("has the dedupe_key 'a'"));
  }
  auto const scoped = client.enqueue("k", {},
                                     {.delay = 1h,
                                      .headers = {{"h", "1"}},
                                      .max_attempts = 3,
                                      .dedupe_key = "b\"'\n",
                                      .dedupe_scope = DedupeScope::until_claimed,
                                      .dedupe_window = 1500ms});
  EXPECT_EQ(sql.one("select concat_ws(' ', u.scope, d.options ->> 'max_attempts', d.headers, until > now()) from "
                    "unique_key u join deferred d on d.id = u.job where u.job = $1",
                    scoped.id),
            R"(until_claimed 3 {"h": "1"} t)");
}

TEST_F(ClientUnique, InATransactionOfTheCaller) {
  sql.exec("begin");
  auto const first = client.enqueue(sql.connection(), "k", json{"1"}, {.dedupe_key = "a"});
  EXPECT_EQ(client.enqueue(sql.connection(), "k", bytes{"2"}, {.dedupe_key = "a"}).status, EnqueueStatus::duplicate);
  std::vector<Request> const requests{{"k", json{"1"}, {.dedupe_key = "a"}}, {"k", json{"2"}, {.dedupe_key = "b"}}};
  auto const many = client.enqueue_many(sql.connection(), requests);
  EXPECT_EQ(many[0].id, first.id);
  EXPECT_EQ(many[0].status, EnqueueStatus::duplicate);
  EXPECT_EQ(many[1].status, EnqueueStatus::created);
  sql.exec("rollback");
  EXPECT_EQ(client.enqueue("k", {}, {.dedupe_key = "a"}).status, EnqueueStatus::created);
}

TEST_F(ClientUnique, ManyInOneCallAndBesideACopy) {
  client.enqueue("k", {}, {.dedupe_key = "held"});
  for (std::size_t const plain : {0U, 6000U}) {
    std::vector<Request> requests{{"k", json{"1"}, {.dedupe_key = "a" + std::to_string(plain)}},
                                  {"k", json{"2"}, {.dedupe_key = "held"}},
                                  {"k", json{"3"}, {.dedupe_key = "a" + std::to_string(plain)}}};
    requests.resize(3 + plain, Request{"k", json{"0"}, {}});
    auto const before = jobs();
    auto const outcomes = client.enqueue_many(requests);
    ASSERT_EQ(outcomes.size(), requests.size());
    EXPECT_EQ(outcomes[0].status, EnqueueStatus::created);
    EXPECT_EQ(outcomes[1].status, EnqueueStatus::duplicate);
    EXPECT_EQ(outcomes[2].status, EnqueueStatus::duplicate);
    EXPECT_EQ(outcomes[2].id, outcomes[0].id);
    EXPECT_EQ(jobs() - before, static_cast<std::int64_t>(plain) + 1);
  }
  std::vector<Payload> const payloads(2, json{"1"});
  EXPECT_THAT(refusal([&] { client.enqueue_many("k", payloads, {.dedupe_key = "a"}); }), HasSubstr("dedupe_key"));
  EXPECT_THAT(refusal([&] { client.enqueue_many("k", payloads, {.token = token}); }), HasSubstr("token"));
}

TEST_F(ClientUnique, ATokenNamesOneJob) {
  auto const first = client.enqueue("k", json{"1"}, {.token = token});
  auto const again = client.enqueue("k", json{"1"}, {.token = token});
  EXPECT_EQ(again.id, first.id);
  EXPECT_EQ(again.status, EnqueueStatus::created);
  auto const other = client.enqueue("k", json{"2"}, {.token = token});
  EXPECT_EQ(other.id, first.id);
  EXPECT_EQ(other.status, EnqueueStatus::mismatch);
  EXPECT_EQ(jobs(), 1);
}

TEST_F(ClientUnique, BadInputIsFoundBeforeAnythingIsSent) {
  EnqueueOptions const bad[] = {{.dedupe_key = std::string(513, 'x')},
                                {.dedupe_key = std::string("a\0b", 3)},
                                {.dedupe_key = "\xff"},
                                {.on_duplicate = OnDuplicate::error},
                                {.dedupe_scope = DedupeScope::until_claimed},
                                {.dedupe_window = 1s},
                                {.dedupe_key = "a", .dedupe_window = 0ms},
                                {.dedupe_key = "a", .dedupe_window = 24h * 3651},
                                {.token = "0190b3a4"},
                                {.token = "0190b3a4-5c6d-4e7f-8a9b-0c1d2e3f4a5g"}};
  for (auto const& options : bad) {
    EXPECT_THAT(refusal([&] { client.enqueue("k", {}, options); }),
                ::testing::AnyOf(HasSubstr("dedupe"), HasSubstr("token")));
  }
  EXPECT_THAT(refusal([&] { Client({.database = options(), .resend_timeout = 99ms}); }), HasSubstr("resend_timeout"));
  EXPECT_EQ(jobs(), 0);
}

// The server did it, the client did not hear.
TEST_F(ClientUnique, ALostReplyCostsNeitherALossNorADuplicate) {
  safe.enqueue("k", json{"0"});
  gate.lose_reply("\"lost\"");
  auto const outcome = safe.enqueue("k", json{"\"lost\""});
  EXPECT_TRUE(gate.sprung());
  EXPECT_EQ(outcome.status, EnqueueStatus::created);
  EXPECT_THAT(sql.column("select id from posthouse.jobs where payload = '\"lost\"'"),
              ElementsAre(std::to_string(outcome.id)));
}

// The server never saw it.
TEST_F(ClientUnique, ALostRequestIsSentAgain) {
  safe.enqueue("k", json{"0"});
  gate.lose_request("\"lost\"");
  auto const outcome = safe.enqueue("k", json{"\"lost\""});
  EXPECT_TRUE(gate.sprung());
  EXPECT_THAT(sql.column("select id from posthouse.jobs where payload = '\"lost\"'"),
              ElementsAre(std::to_string(outcome.id)));
}

// A token of the caller's is enough.
TEST_F(ClientUnique, ATokenIsSentAgainWithoutTheOption) {
  Client plain{{.database_url = gate.url()}};
  plain.enqueue("k");
  gate.lose_reply("\"lost\"");
  auto const outcome = plain.enqueue("k", json{"\"lost\""}, {.dedupe_key = "a", .token = token});
  EXPECT_EQ(outcome.status, EnqueueStatus::created);
  EXPECT_EQ(jobs(), 2);
  gate.lose_reply("\"lost\"");
  EXPECT_THROW(plain.enqueue("k", json{"\"lost\""}), Unavailable);
}

TEST_F(ClientUnique, ManyWhoseCommitIsNotAnsweredAreLookedUp) {
  // The message itself, since "read committed" has the word as well.
  std::string const commit(
      "Q\0\0\0\x0b"
      "commit",
      11);
  safe.enqueue("k");
  for (std::size_t const count : {10U, 6000U}) {
    for (bool const seen : {true, false}) {
      auto const before = jobs();
      if (seen) {
        gate.lose_reply(commit);
      } else {
        gate.lose_request(commit);
      }
      auto const ids = safe.enqueue_many("k", std::vector<Payload>(count, json{"1"}));
      EXPECT_TRUE(gate.sprung()) << count << seen;
      EXPECT_EQ(ids.size(), count);
      EXPECT_EQ(jobs() - before, static_cast<std::int64_t>(count));
      EXPECT_TRUE(client.find(ids.back())) << "the ids are those of the jobs that are there";
    }
  }
}

// The first sending still runs, somewhere: the verdict waits for it, and in the end says that it is in doubt.
TEST_F(ClientUnique, AZombieTransactionIsWaitedForAndNotForEver) {
  Sql zombie = open();
  auto const enqueue = "select enqueue('k', '1', token => '" + std::string(token) + "')";
  zombie.exec("begin");
  auto const id = zombie.number(enqueue);
  Client impatient{{.database_url = gate.url(), .resend_timeout = 300ms}};
  impatient.enqueue("k");
  gate.lose_request(token);
  try {
    impatient.enqueue("k", json{"1"}, {.token = token});
    ADD_FAILURE() << "not in doubt";
  } catch (Unavailable const& error) {
    EXPECT_TRUE(error.in_doubt());
  }
  Client patient{{.database_url = gate.url(), .resend_timeout = 60s}};
  patient.enqueue("k");
  gate.lose_request(token);
  auto waiting = std::async(std::launch::async, [&] { return patient.enqueue("k", json{"1"}, {.token = token}).id; });
  EXPECT_TRUE(eventually([&] {
    return sql.number(
               "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like "
               "'%enqueue_outcome%'") > 0;
  }));
  zombie.exec("commit");
  EXPECT_EQ(waiting.get(), id);
  EXPECT_EQ(jobs(), 3);
}

// No reply was lost, and another sending of the token is in an open transaction: the server's lock_timeout ends each try,
// resend_timeout the tries.
TEST_F(ClientUnique, AZombieWithTheTokenHoldsNobodyForEver) {
  sql.exec("alter database " + database.name() + " set posthouse.lock_timeout = '20ms'");
  Sql zombie = open();
  zombie.exec("begin");
  auto const id = zombie.number("select enqueue('k', '1', token => '" + std::string(token) + "')");
  Client impatient{{.database = options(), .resend_timeout = 100ms}};
  try {
    impatient.enqueue("k", json{"1"}, {.token = token});
    ADD_FAILURE() << "not refused";
  } catch (Error const& error) {
    EXPECT_EQ(error.sqlstate(), "55P03");
    EXPECT_FALSE(error.in_doubt()) << "this sending did nothing";
  }
  // Patience outlasts any number of such tries.
  Client patient{{.database = options(), .resend_timeout = 60s}};
  auto waiting = std::async(std::launch::async, [&] { return patient.enqueue("k", json{"1"}, {.token = token}); });
  auto const timeouts =
      "select count(*) from pg_stat_activity where datname = current_database() and query like "
      "'%enqueue_outcome%' and query_start > $1::timestamptz";
  for (int i = 0; i < 20; ++i) {
    auto const now = sql.one("select clock_timestamp()");
    EXPECT_TRUE(eventually([&] { return sql.number(timeouts, now) > 0; })) << "it has been sent once more";
  }
  zombie.exec("commit");
  auto const outcome = waiting.get();
  EXPECT_EQ(outcome.id, id);
  EXPECT_EQ(outcome.status, EnqueueStatus::created);
  EXPECT_EQ(jobs(), 1);
}

TEST_F(ClientUnique, ReplaceAndRescheduleAreOutcomes) {
  auto const first = client.enqueue("k", json{"1"}, {.dedupe_key = "a", .on_duplicate = OnDuplicate::replace});
  auto const again = client.enqueue("k", json{"2"}, {.dedupe_key = "a", .on_duplicate = OnDuplicate::replace});
  EXPECT_EQ(again.id, first.id);
  EXPECT_EQ(again.status, EnqueueStatus::replaced);
  EXPECT_EQ(client.find(first.id)->payload.data(), "2");
  auto const pushed =
      client.enqueue("k", json{"3"}, {.delay = 1h, .dedupe_key = "a", .on_duplicate = OnDuplicate::reschedule});
  EXPECT_EQ(pushed.status, EnqueueStatus::rescheduled);
  EXPECT_EQ(client.find(first.id)->state, "scheduled");
  std::vector<Request> const requests{{"k", json{"4"}, {.dedupe_key = "a", .on_duplicate = OnDuplicate::replace}},
                                      {"k", json{"5"}, {.dedupe_key = "b", .on_duplicate = OnDuplicate::replace}}};
  auto const many = client.enqueue_many(requests);
  EXPECT_EQ(many[0].status, EnqueueStatus::replaced);
  EXPECT_EQ(many[1].status, EnqueueStatus::created);
  safe.enqueue("k", json{"0"});
  gate.lose_reply("\"lost\"");
  auto const lost = safe.enqueue("k", json{"\"lost\""}, {.dedupe_key = "a", .on_duplicate = OnDuplicate::replace});
  EXPECT_TRUE(gate.sprung());
  EXPECT_EQ(lost.status, EnqueueStatus::replaced) << "as the first sending was";
  EXPECT_EQ(client.find(first.id)->payload.data(), "\"lost\"");
  EXPECT_THAT(refusal([&] { client.enqueue("k", {}, {.dedupe_key = "a", .on_duplicate = OnDuplicate::reschedule}); }),
              HasSubstr("without delay or run_at"));
}

TEST_F(ClientUnique, WithoutAServerTheDoubtStays) {
  Client hasty{{.database_url = gate.url(), .safe_resend = true, .resend_timeout = 100ms}};
  hasty.enqueue("k");
  gate.refuse();
  gate.lose_reply("\"lost\"");
  try {
    hasty.enqueue("k", json{"\"lost\""});
    ADD_FAILURE() << "not in doubt";
  } catch (Unavailable const& error) {
    EXPECT_TRUE(error.in_doubt());
  }
  gate.accept();
  EXPECT_TRUE(eventually([&] { return jobs() == 2; }));
}

}  // namespace
}  // namespace posthouse::test
