// SPDX-License-Identifier: Apache-2.0
// Dedupe keys: who holds one, for how long, and that nothing which can happen to a job leaves a key behind.
#include <gmock/gmock.h>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class EngineUnique : public EngineTest {
 protected:
  std::int64_t keyed(std::string const& more = "", std::string const& key = "a") {
    return sql.number("select enqueue('k', dedupe_key => $1" + more + ")", key);
  }
  /// "created" or "duplicate of ID".
  std::string outcome(std::string const& more = "", std::string const& key = "a") {
    auto const row = sql.rows("select id, status from enqueue_outcome('k', dedupe_key => $1" + more + ")", key).at(0);
    return *row[1] == "created" ? "created" : *row[1] + " of " + *row[0];
  }
  std::string duplicate_of(std::int64_t id) { return "duplicate of " + std::to_string(id); }
  std::int64_t keys() { return sql.number("select count(*) from unique_key"); }
};

TEST_F(EngineUnique, TheIdOfTheHolderComesBackUntilItHasSucceeded) {
  auto const id = keyed();
  EXPECT_EQ(keyed(), id);
  EXPECT_EQ(outcome(), duplicate_of(id));
  EXPECT_EQ(sql.one("select dedupe_key from jobs where id = $1", id), "a");
  EXPECT_THAT(refusal_of("select enqueue('k', dedupe_key => 'a', on_duplicate => 'error')"),
              AllOf(HasSubstr("23505"), HasSubstr("job " + std::to_string(id) + " of kind k has the dedupe_key 'a'")));
  // A key is its kind's, whatever the queue and priority.
  EXPECT_EQ(sql.number("select enqueue('k', dedupe_key => 'a', queue => 'q', priority => 7)"), id);
  EXPECT_NE(sql.number("select enqueue('other', dedupe_key => 'a')"), id);
  EXPECT_EQ(sql.number("select enqueue_bytes('k', 'x', dedupe_key => 'a')"), id);
  EXPECT_EQ(outcome("", "A"), "created");

  Hand worker(sql);
  auto const jobs = worker.claim(1);
  ASSERT_EQ(ids(jobs), Ids{id});
  EXPECT_EQ(outcome(), duplicate_of(id));
  worker.finish(jobs[0].token);
  EXPECT_EQ(state(id), "succeeded");
  EXPECT_EQ(outcome(), "created");
  EXPECT_EQ(sql.number("select count(*) from jobs where kind = 'k' and dedupe_key = 'a'"), 2);
}

TEST_F(EngineUnique, EveryOtherEndFreesTheKeyAndNothingElseDoes) {
  Hand worker(sql, {.max_attempts = "{2}"});
  auto const id = keyed(", delay => '1 hour'");
  EXPECT_EQ(state(id), "scheduled");
  EXPECT_EQ(outcome(), duplicate_of(id));
  EXPECT_TRUE(sql.truth("select retry($1)", id));
  EXPECT_EQ(outcome(), duplicate_of(id));
  auto job = worker.claim(1).at(0);
  worker.finish(job.token, "1", 1, "[" + move_of(job, "retry", 3600000) + "]");
  EXPECT_EQ(state(id), "retryable");
  EXPECT_EQ(outcome(), duplicate_of(id));
  sql.exec("update deferred set due_at = now()");
  sql.exec("select promote()");
  EXPECT_EQ(outcome(), duplicate_of(id));
  job = worker.claim(1).at(0);
  worker.finish(job.token, "1", 1, "[" + move_of(job, "release") + "]");
  EXPECT_EQ(outcome(), duplicate_of(id));
  job = worker.claim(1).at(0);
  worker.finish(job.token, "1", 1, "[" + move_of(job, "fail") + "]");
  EXPECT_EQ(state(id), "failed");

  auto const second = keyed();
  EXPECT_NE(second, id);
  EXPECT_EQ(sql.one("select cancel($1)", second), "cancelled");
  auto const third = keyed();
  EXPECT_GT(third, second);
  EXPECT_TRUE(sql.truth("select delete_job($1)", third));
  EXPECT_EQ(keys(), 0);
  EXPECT_EQ(outcome(), "created");
}

TEST_F(EngineUnique, ADeadWorkersJobKeepsItsKeyUntilItHasEnded) {
  auto const id = keyed();
  Hand lost(sql);
  ASSERT_EQ(ids(lost.claim(1)), Ids{id});
  expire(sql, lost.id());
  EXPECT_EQ(outcome(), duplicate_of(id));
  sql.exec("select reap()");
  EXPECT_EQ(state(id), "available");
  EXPECT_EQ(outcome(), duplicate_of(id));
  Hand worker(sql);
  auto const jobs = worker.claim(1);
  ASSERT_EQ(ids(jobs), Ids{id});
  EXPECT_EQ(outcome(), duplicate_of(id));
  worker.finish(jobs[0].token);
  EXPECT_EQ(outcome(), "created");
}

TEST_F(EngineUnique, OneOfABatchFreesItsKeyBeforeTheBatchIsClosed) {
  auto const first = keyed("", "a");
  auto const second = keyed("", "b");
  Hand worker(sql);
  auto const jobs = worker.claim(2);
  ASSERT_EQ(ids(jobs), (Ids{first, second}));
  worker.finish(jobs[0].token, "01", 2);
  EXPECT_EQ(outcome("", "a"), duplicate_of(first));
  EXPECT_EQ(outcome("", "b"), "created");
  // A completion inside the handler's transaction counts when that commits.
  Sql handler = open();
  handler.exec("begin");
  EXPECT_TRUE(worker.complete(handler, jobs[0]));
  EXPECT_EQ(outcome("", "a"), duplicate_of(first));
  handler.exec("commit");
  EXPECT_EQ(outcome("", "a"), "created");
}

TEST_F(EngineUnique, UntilClaimedHoldsWhileTheJobWaits) {
  std::string const scope = ", dedupe_scope => 'until_claimed'";
  auto const id = keyed(scope);
  EXPECT_EQ(outcome(scope), duplicate_of(id));
  // The scope is the holder's.
  EXPECT_EQ(outcome(), duplicate_of(id));
  Hand worker(sql);
  auto job = worker.claim(1).at(0);
  worker.finish(job.token, "1", 1, "[" + move_of(job, "retry", 3600000) + "]");
  EXPECT_EQ(outcome(scope), duplicate_of(id));  // it waits again
  EXPECT_TRUE(sql.truth("select retry($1)", id));
  job = worker.claim(1).at(0);
  auto const next = keyed(scope);
  EXPECT_NE(next, id);
  EXPECT_EQ(state(id), "running");
  EXPECT_EQ(outcome(scope), duplicate_of(next));
  worker.finish(job.token);
  EXPECT_EQ(outcome(scope), duplicate_of(next));
}

TEST_F(EngineUnique, AWindowHoldsTheKeyOfASucceededJob) {
  auto const id = keyed(", dedupe_window => '1 hour'");
  Hand worker(sql);
  worker.finish(worker.claim(1).at(0).token);
  EXPECT_EQ(state(id), "succeeded");
  EXPECT_EQ(outcome(), duplicate_of(id));
  sql.exec("select prune()");
  EXPECT_EQ(outcome(), duplicate_of(id));
  sql.exec("delete from job");  // as when its partition is dropped
  EXPECT_EQ(outcome(), duplicate_of(id));
  sql.exec("update unique_key set until = now() - interval '1 s'");
  EXPECT_EQ(outcome(), "created");
  EXPECT_EQ(sql.number("select count(*) from unique_key where until is null"), 1);
  // One that is cancelled, failed or deleted does not hold it.
  auto const other = keyed(", dedupe_window => '1 hour'", "b");
  sql.rows("select cancel($1)", other);
  auto const again = keyed(", dedupe_window => '1 hour'", "b");
  EXPECT_NE(again, other);
  EXPECT_TRUE(sql.truth("select delete_job($1)", again));
  EXPECT_EQ(outcome("", "b"), "created");
  // An unfinished one holds it beyond the window.
  auto const slow = keyed(", dedupe_window => '1 hour'", "c");
  sql.exec("update unique_key set until = now() - interval '1 s' where key = 'c'");
  EXPECT_EQ(outcome("", "c"), duplicate_of(slow));
}

TEST_F(EngineUnique, RetryOfADeadJobTakesItsKeyBackOrIsRefused) {
  auto const old = keyed(", dedupe_scope => 'until_claimed'");
  sql.rows("select cancel($1)", old);
  auto const holder = keyed();
  EXPECT_THAT(refusal_of("select retry(" + std::to_string(old) + ")"),
              AllOf(HasSubstr("23505"), HasSubstr("job " + std::to_string(holder) + " has its dedupe_key 'a'")));
  EXPECT_EQ(state(old), "cancelled");
  sql.rows("select cancel($1)", holder);
  EXPECT_TRUE(sql.truth("select retry($1)", old));
  EXPECT_EQ(outcome(), duplicate_of(old));
  EXPECT_EQ(sql.one("select scope from unique_key"), "until_claimed");
  // Also when nobody has the key any more.
  sql.rows("select cancel($1)", old);
  sql.exec("select prune()");
  EXPECT_EQ(keys(), 0);
  EXPECT_TRUE(sql.truth("select retry($1)", old));
  EXPECT_EQ(outcome(), duplicate_of(old));
}

TEST_F(EngineUnique, AJobInAPartitionThatIsBeingDetachedKeepsItsKey) {
  auto const id = keyed();
  sql.exec("update job set queued_at = queued_at + interval '1 day'");  // into another partition than today's
  auto const partition = sql.one("select tableoid::regclass::text from job where id = $1", id);
  sql.exec("alter table job detach partition " + partition);
  EXPECT_EQ(sql.number("select count(*) from job"), 0);
  EXPECT_EQ(outcome(), duplicate_of(id));
  sql.exec("select prune()");
  EXPECT_EQ(outcome(), duplicate_of(id));
  Hand worker(sql);
  EXPECT_TRUE(sql.truth("select drop_detached(d) from detached() d"));
  EXPECT_EQ(outcome(), duplicate_of(id));
  auto const jobs = worker.claim(1);
  ASSERT_EQ(ids(jobs), Ids{id});
  worker.finish(jobs[0].token);
  EXPECT_EQ(outcome(), "created");
}

TEST_F(EngineUnique, ManyFirstWinsAndADuplicateIsNull) {
  auto const held = keyed("", "held");
  auto const rows = sql.rows(R"(select id, status from enqueue_many_outcome('[
    {"kind": "k", "payload": 1, "dedupe_key": "x", "priority": 3},
    {"kind": "k", "payload": 2, "dedupe_key": "held"},
    {"kind": "k", "payload": 3, "dedupe_key": "x", "delay": "1 hour"},
    {"kind": "k", "payload": 4},
    {"kind": "other", "payload": 5, "dedupe_key": "x"},
    {"kind": "k", "payload": 6, "dedupe_key": "y", "delay": "1 hour", "max_attempts": 3}]'))");
  std::vector<std::string> said;
  for (auto const& row : rows) said.push_back(*row[1]);
  EXPECT_THAT(said, ElementsAre("created", "duplicate", "duplicate", "created", "created", "created"));
  EXPECT_EQ(rows[1][0], std::to_string(held));
  EXPECT_EQ(rows[2][0], rows[0][0]);
  EXPECT_THAT(
      sql.column("select concat_ws(' ', payload, kind, priority, state, max_attempts, dedupe_key) from jobs "
                 "where payload is not null order by id"),
      ElementsAre("1 k 3 available 25 x", "4 k 0 available 25", "5 other 0 available 25 x", "6 k 0 scheduled 3 y"));
  EXPECT_THAT(sql.column(R"(select coalesce(u::text, 'null') from unnest(enqueue_many('[
    {"kind": "k", "dedupe_key": "x"}, {"kind": "k", "dedupe_key": "y"}]')) u)"),
              ElementsAre("null", "null"));
  EXPECT_THAT(refusal_of(R"(select enqueue_many('[{"kind": "k", "dedupe_key": "new"}, {"kind": "k"},
    {"kind": "k", "dedupe_key": "x", "on_duplicate": "error"}]'))"),
              AllOf(HasSubstr("23505"), HasSubstr("element 2: job"), HasSubstr("has the dedupe_key 'x'")));
  EXPECT_EQ(outcome("", "new"), "created");
}

TEST_F(EngineUnique, BadInput) {
  for (auto const& [more, words] : std::vector<std::pair<std::string, std::string>>{
           {"dedupe_key => ''", "dedupe_key has 0 bytes"},
           {"dedupe_key => repeat('x', 513)", "dedupe_key has 513 bytes"},
           {"dedupe_key => 'a', on_duplicate => 'nothing'", "on_duplicate is 'nothing'"},
           {"dedupe_key => 'a', on_duplicate => null", "on_duplicate is null"},
           {"dedupe_key => 'a', dedupe_scope => 'ever'", "dedupe_scope is 'ever'"},
           {"dedupe_key => 'a', dedupe_window => '0'", "dedupe_window is 00:00:00"},
           {"dedupe_key => 'a', dedupe_window => '11 years'", "dedupe_window is 11 years"},
           {"on_duplicate => 'error'", "without dedupe_key"},
           {"dedupe_scope => 'until_claimed'", "without dedupe_key"},
           {"dedupe_window => '1 s'", "without dedupe_key"}}) {
    EXPECT_THAT(refusal_of("select enqueue('k', " + more + ")"), AllOf(HasSubstr("22023"), HasSubstr(words))) << more;
    EXPECT_THAT(refusal_of("select enqueue_bytes('k', 'x', " + more + ")"), HasSubstr(words)) << more;
  }
  EXPECT_THAT(refusal_of("select enqueue(null, dedupe_key => 'a')"), HasSubstr("kind null is not a name"));
  EXPECT_THAT(refusal_of("select enqueue('bad kind', dedupe_key => 'a')"), HasSubstr("kind 'bad kind' is not a name"));
  EXPECT_THAT(refusal_of(R"(select enqueue_many('[{"kind": "k"}, {"kind": "k", "dedupe_scope": "ever"}]'))"),
              HasSubstr("element 1: dedupe_scope is 'ever'"));
  EXPECT_THAT(refusal_of(R"(select enqueue_many('[{"kind": "k", "token": "x"}]'))"),
              HasSubstr("element 0: invalid input syntax for type uuid"));
  EXPECT_EQ(keys() + sql.number("select count(*) from job"), 0);
  EXPECT_EQ(refusal_of("select enqueue('k', dedupe_key => repeat('x', 512), dedupe_window => '10 years')"), "accepted");
}

TEST_F(EngineUnique, PruneTakesWhatNobodyHolds) {
  for (int i = 0; i < 10; ++i) keyed("", "done" + std::to_string(i));
  Hand worker(sql);
  worker.finish(worker.claim(10).at(0).token);
  auto const waiting = keyed("", "m_waiting");
  auto const scheduled = keyed(", delay => '1 hour'", "s");
  auto const dead = keyed("", "dead");
  sql.rows("select cancel($1)", dead);
  std::int64_t pruned = 0;
  // Four rows a call, round and round.
  for (int i = 0; i < 8; ++i) pruned += sql.number("select prune_unique(1)");
  EXPECT_EQ(pruned, 11);
  EXPECT_THAT(numbers(sql.column("select job from unique_key order by 1")), ElementsAre(waiting, scheduled));
  // A dead job that is pruned itself takes the rest of its window with it.
  auto const window = keyed(", dedupe_window => '1 hour'", "w");
  sql.rows("select cancel($1)", window);
  sql.exec("update dead set ended_at = now() - interval '1 year'; select prune()");
  EXPECT_EQ(sql.number("select count(*) from dead"), 0);
  EXPECT_EQ(outcome("", "w"), "created");
}

TEST_F(EngineUnique, ATokenGivesTheSameAnswerAgain) {
  std::string const token = "11111111-2222-4333-8444-555555555555";
  std::string const call =
      "select id, status from enqueue_outcome('k', payload => $1, queue => $2, token => '" + token + "')";
  auto const first = sql.rows(call, R"({"a": 1, "b": 2})", "q").at(0);
  EXPECT_EQ(*first[1], "created");
  auto const again = sql.rows(call, R"({"b":2,"a":1})", "q").at(0);
  EXPECT_EQ(*again[1], "replayed");
  EXPECT_EQ(again[0], first[0]);
  for (auto const& [payload, queue] :
       std::vector<std::pair<std::string, std::string>>{{R"({"a": 1})", "q"}, {R"({"a": 1, "b": 2})", "other"}}) {
    auto const row = sql.rows(call, payload, queue).at(0);
    EXPECT_EQ(*row[1], "mismatch");
    EXPECT_EQ(row[0], first[0]);
  }
  EXPECT_THAT(refusal_of("select enqueue('k', '1', token => '" + token + "')"),
              AllOf(HasSubstr("22023"), HasSubstr("token " + token + " has enqueued another job")));
  EXPECT_THAT(refusal_of(R"(select enqueue_many('[{"kind": "k", "token": ")" + token + R"("}]'))"),
              HasSubstr("another job"));
  EXPECT_THAT(refusal_of(R"(select enqueue_many('[{"kind": "k", "token": "0b3f2c1e-0000-4000-8000-000000000001"},
    {"kind": "k", "token": "0b3f2c1e-0000-4000-8000-000000000001"}]'))"),
              HasSubstr("is given twice"));
  // The key, too, by each way in.
  std::string const keyed =
      "select status from enqueue_outcome('k', token => '0b3f2c1e-0000-4000-8000-000000000003', key => ";
  EXPECT_EQ(sql.one(keyed + "'x')"), "created");
  EXPECT_EQ(sql.one(keyed + "'x')"), "replayed");
  EXPECT_EQ(sql.one(keyed + "'y')"), "mismatch");
  EXPECT_EQ(sql.one(keyed + "null)"), "mismatch");
  std::string const many =
      R"(select status from enqueue_many_outcome('[{"kind": "k", "token": "0b3f2c1e-0000-4000-8000-000000000003")";
  EXPECT_EQ(sql.one(many + R"(, "key": "x"}]'))"), "replayed");
  EXPECT_EQ(sql.one(many + R"(, "key": "y"}]'))"), "mismatch");
  EXPECT_EQ(sql.one(many + "}]')"), "mismatch");
  // Also when the job has ended, until the token is pruned.
  sql.rows("select cancel($1)", *first[0]);
  EXPECT_EQ(*sql.rows(call, R"({"a": 1, "b": 2})", "q").at(0)[1], "replayed");
  EXPECT_EQ(sql.number("select enqueue_bytes('k', '\\x00ff', token => '0b3f2c1e-0000-4000-8000-000000000002')"),
            sql.number("select enqueue_bytes('k', '\\x00ff', token => '0b3f2c1e-0000-4000-8000-000000000002')"));
  EXPECT_THAT(refusal_of("select enqueue_bytes('k', '\\x00fe', token => '0b3f2c1e-0000-4000-8000-000000000002')"),
              HasSubstr("another job"));
  sql.exec("select prune()");
  EXPECT_EQ(sql.number("select count(*) from enqueue_token"), 3);
  sql.exec("update enqueue_token set at = at - interval '1 day'; select prune()");
  EXPECT_EQ(sql.number("select count(*) from enqueue_token"), 0);
  EXPECT_EQ(*sql.rows(call, R"({"a": 1})", "q").at(0)[1], "created");
}

// An element that only repeats what its token made says nothing about the key of another.
TEST_F(EngineUnique, ATokenAndItsKeyInOneCall) {
  std::string const first = R"({"kind": "k", "dedupe_key": "a", "token": "11111111-2222-4333-8444-555555555555"})";
  auto const id = sql.number("select unnest(enqueue_many('[" + first + "]'))");
  sql.rows("select cancel($1)", id);
  EXPECT_THAT(sql.column("select status from enqueue_many_outcome('[" + first +
                         R"(, {"kind": "k", "dedupe_key": "a"}, {"kind": "k", "dedupe_key": "a"}]'))"),
              ElementsAre("replayed", "created", "duplicate"));
}

// Nothing was enqueued, so nothing is remembered: sent again it may be created.
TEST_F(EngineUnique, ATokenOfADuplicateIsFree) {
  std::string const call =
      "select status from enqueue_outcome('k', dedupe_key => 'a', token => '11111111-2222-4333-8444-555555555555')";
  auto const holder = keyed();
  EXPECT_EQ(sql.one(call), "duplicate");
  sql.rows("select cancel($1)", holder);
  EXPECT_EQ(sql.one(call), "created");
  EXPECT_EQ(sql.one(call), "replayed");
}

}  // namespace
}  // namespace posthouse::test
