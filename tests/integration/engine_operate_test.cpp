// SPDX-License-Identifier: Apache-2.0
// What operators see and do: the view's states, counts, cancel, retry, delete.
#include <gmock/gmock.h>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

class EngineOperate : public EngineTest {
 protected:
  std::string cancel(std::int64_t id) { return sql.one("select cancel($1)", id); }
  bool retry(std::int64_t id) { return sql.truth("select retry($1)", id); }
  /// counts() says what counting through the view says.
  void expect_counts() {
    EXPECT_EQ(
        sql.column("select concat_ws(' ', queue, kind, state, jobs) from counts() order by 1"),
        sql.column(
            "select concat_ws(' ', queue, kind, state, count(*)) from jobs group by queue, kind, state order by 1"));
  }
  /// A job that has failed for good.
  std::int64_t failed(Hand& worker, int attempts = 1) {
    auto const job = enqueue();
    for (int i = 1; i <= attempts; ++i) {
      auto const got = worker.claim(1);
      worker.finish(got.at(0).token, std::nullopt, 1, "[" + move_of(got.at(0), i < attempts ? "retry" : "fail") + "]");
    }
    return job;
  }
};

// -- the view --------------------------------------------------------------------------------------------------------

TEST_F(EngineOperate, EachWayOfAJobHasItsState) {
  Hand worker(sql);
  auto const job = enqueue();
  EXPECT_EQ(state(job), "available") << "before any worker knows the lane";
  EXPECT_EQ(sql.one("select kind || ' ' || queue || ' ' || priority from jobs where id = $1", job), "k default 0");
  EXPECT_EQ(attempt(job), 0);
  expect_counts();
  auto got = worker.claim(1);
  EXPECT_EQ(state(job), "running");
  EXPECT_EQ(attempt(job), 1);
  EXPECT_TRUE(sql.truth("select started_at is not null and finished_at is null and worker = $2 from jobs where id = $1",
                        job, worker.id()));
  expect_counts();
  worker.finish(got.at(0).token, std::nullopt, 1, "[" + move_of(got.at(0), "retry", 60000) + "]");
  EXPECT_EQ(state(job), "retryable");
  EXPECT_TRUE(sql.truth("select run_at > now() and last_error = 'oops' from jobs where id = $1", job));
  expect_counts();
  EXPECT_TRUE(retry(job));
  EXPECT_EQ(state(job), "available");
  got = worker.claim(1);
  EXPECT_EQ(state(job), "running");
  EXPECT_EQ(attempt(job), 2);
  worker.finish(got.at(0).token, std::nullopt, 1, "[" + move_of(got.at(0), "snooze", 60000) + "]");
  EXPECT_EQ(state(job), "scheduled");
  expect_counts();
  retry(job);
  got = worker.claim(1);
  worker.finish(got.at(0).token, std::nullopt, 1, "[" + move_of(got.at(0), "release") + "]");
  EXPECT_EQ(state(job), "available");
  got = worker.claim(1);
  worker.finish(got.at(0).token);
  EXPECT_EQ(state(job), "succeeded");
  EXPECT_EQ(attempt(job), 2);
  EXPECT_TRUE(sql.truth("select finished_at >= started_at and enqueued_at < started_at from jobs where id = $1", job));
  EXPECT_EQ(sql.number("select count(*) from jobs"), 1);
  expect_counts();
}

TEST_F(EngineOperate, TheEndsThatAreNoSuccess) {
  Hand worker(sql);
  auto const scheduled = sql.number("select enqueue('never_seen', delay => '1 hour')");
  auto const dead = failed(worker);
  auto const cancelled = enqueue();
  cancel(cancelled);
  EXPECT_EQ(state(scheduled), "scheduled");
  EXPECT_EQ(sql.one("select kind from jobs where id = $1", scheduled), "never_seen");
  EXPECT_EQ(state(dead), "failed");
  EXPECT_EQ(sql.one("select last_error from jobs where id = $1", dead), "oops");
  EXPECT_TRUE(sql.truth("select finished_at is not null and worker = $2 from jobs where id = $1", dead, worker.id()));
  EXPECT_EQ(state(cancelled), "cancelled");
  expect_counts();
}

TEST_F(EngineOperate, AJobOfAnOpenTransactionIsThereForItAlone) {
  auto session = open();
  session.exec("begin");
  auto const job = session.number("select enqueue('k')");
  EXPECT_EQ(session.one("select state from jobs where id = $1", job), "available");
  EXPECT_THAT(sql.rows("select from jobs where id = $1", job), IsEmpty());
  session.exec("commit");
  EXPECT_EQ(state(job), "available");
}

TEST_F(EngineOperate, CountsAgreeWithTheViewAfterEveryKindOfChange) {
  Hand worker(sql, {.kinds = "{k,other}"});
  expect_counts();
  enqueue_some(40);
  enqueue_some(10, "other");
  sql.exec(
      "select enqueue('k', queue => 'mail', priority => 5), enqueue('unfolded'), enqueue('unfolded', delay => '1 h')");
  expect_counts();
  sql.rows("select look($1)", worker.id());  // folds the lanes, so that they can be named
  auto got = worker.claim(20, 20, array({lane()}));
  expect_counts();
  worker.finish(got.at(0).token, std::string(got.size(), '0').replace(0, 3, "111"), 3,
                "[" + move_of(got.at(1), "release") + "]");
  expect_counts();
  auto handler = open();
  auto const more = worker.claim(10);
  worker.complete(handler, more.at(0));
  expect_counts();
  worker.give_back({more.at(0).token});
  expect_counts();
  auto late = open();
  late.exec("begin; select enqueue('k')");
  enqueue();
  worker.claim(1000);
  late.exec("commit");
  expect_counts();
  expire(sql, worker.id());
  sql.exec("select reap()");
  expect_counts();
  Hand last(sql, {.kinds = "{k,other}"});
  for (;;) {
    got = last.claim(100);
    if (got.empty()) break;
    for (auto const& job : got) last.finish(job.token);
  }
  expect_counts();
}

// -- cancel ----------------------------------------------------------------------------------------------------------

TEST_F(EngineOperate, CancelTellsTheTruth) {
  Hand worker(sql);
  auto const waiting = enqueue();
  EXPECT_EQ(cancel(waiting), "cancelled");
  EXPECT_EQ(cancel(waiting), "finished");
  auto const scheduled = sql.number("select enqueue('k', delay => '1 hour')");
  EXPECT_EQ(cancel(scheduled), "cancelled");
  EXPECT_EQ(cancel(999999), "not_found");
  auto const running = enqueue();
  auto const got = worker.claim(10);
  ASSERT_THAT(ids(got), ElementsAre(running)) << "what was cancelled is not claimed";
  EXPECT_EQ(cancel(running), "requested");
  EXPECT_EQ(state(running), "running");
  worker.finish(got.at(0).token);
  EXPECT_EQ(cancel(running), "finished");
  EXPECT_EQ(state(running), "succeeded");
  EXPECT_EQ(cancel(failed(worker)), "finished");
}

TEST_F(EngineOperate, CancelBeforeClaim) {
  auto const jobs = enqueue_some(2);
  auto session = open();
  auto waiting = open();
  Hand worker(waiting);
  session.exec("begin");
  EXPECT_EQ(session.one("select cancel($1)", jobs.at(0)), "cancelled");
  auto answer = std::async(std::launch::async, [&] { return ids(worker.claim(10)); });
  ASSERT_TRUE(waits_for_lock(sql, waiting.backend_pid()));
  session.exec("commit");
  EXPECT_THAT(answer.get(), ElementsAre(jobs.at(1)));
  EXPECT_EQ(state(jobs.at(0)), "cancelled");
}

TEST_F(EngineOperate, ClaimBeforeCancel) {
  auto const job = enqueue();
  auto session = open();
  auto waiting = open();
  Hand worker(session);
  session.exec("begin");
  EXPECT_THAT(ids(worker.claim(10)), ElementsAre(job));
  auto answer = beside(waiting, "select cancel(" + std::to_string(job) + ")");
  ASSERT_TRUE(waits_for_lock(sql, waiting.backend_pid()));
  session.exec("commit");
  EXPECT_EQ(answer.get(), "requested");
  EXPECT_EQ(state(job), "running");
}

TEST_F(EngineOperate, AClaimThatIsRolledBackLeavesTheJobToCancel) {
  auto const job = enqueue();
  auto session = open();
  auto waiting = open();
  Hand worker(session);
  session.exec("begin");
  worker.claim(10);
  auto answer = beside(waiting, "select cancel(" + std::to_string(job) + ")");
  ASSERT_TRUE(waits_for_lock(sql, waiting.backend_pid()));
  session.exec("rollback");
  EXPECT_EQ(answer.get(), "cancelled");
  EXPECT_THAT(worker.claim(10), IsEmpty());
}

// It runs when cancel looks for it, and waits for its next attempt when cancel has the lock.
TEST_F(EngineOperate, CancelFollowsAJobThatMovesMeanwhile) {
  auto const job = enqueue();
  Hand worker(sql);
  auto const got = worker.claim(1);
  auto locker = open();
  auto waiting = open();
  locker.exec("begin; select pg_advisory_xact_lock(key_space(), hashint8(lane_of('default', 'k', 0, false)) & -4)");
  auto answer = beside(waiting, "select cancel(" + std::to_string(job) + ")");
  ASSERT_TRUE(waits_for_lock(sql, waiting.backend_pid()));
  worker.finish(got.at(0).token, std::nullopt, 1, "[" + move_of(got.at(0), "retry", 60000) + "]");
  ASSERT_EQ(state(job), "retryable");
  locker.exec("rollback");
  EXPECT_EQ(answer.get(), "cancelled");
  EXPECT_EQ(state(job), "cancelled");
}

TEST_F(EngineOperate, CancelBehindAPromotion) {
  auto const job = sql.number("select enqueue('k', delay => '1 hour')");
  sql.exec("update deferred set due_at = now()");
  auto session = open();
  auto waiting = open();
  session.exec("begin; select promote()");
  auto answer = beside(waiting, "select cancel(" + std::to_string(job) + ")");
  ASSERT_TRUE(waits_for_lock(sql, waiting.backend_pid()));
  session.exec("commit");
  EXPECT_EQ(answer.get(), "cancelled");
  EXPECT_EQ(state(job), "cancelled");
  Hand worker(sql);
  EXPECT_THAT(worker.claim(10), IsEmpty());
}

TEST_F(EngineOperate, CancelInTheTransactionThatEnqueued) {
  sql.exec("begin");
  auto const job = enqueue();
  EXPECT_EQ(cancel(job), "cancelled");
  sql.exec("commit");
  Hand worker(sql);
  EXPECT_THAT(worker.claim(10), IsEmpty());
  EXPECT_EQ(state(job), "cancelled");
}

// -- retry and delete ------------------------------------------------------------------------------------------------

TEST_F(EngineOperate, RetryOfADeadJobRaisesItsCeiling) {
  Hand worker(sql, {.max_attempts = "{2}"});
  auto const job = sql.number("select enqueue('k', max_attempts => 2)");
  for (int i = 1; i <= 2; ++i) {
    auto const got = worker.claim(1);
    worker.finish(got.at(0).token, std::nullopt, 1, "[" + move_of(got.at(0), i < 2 ? "retry" : "fail") + "]");
    sql.exec("select promote()");
  }
  ASSERT_EQ(state(job), "failed");
  EXPECT_TRUE(retry(job));
  EXPECT_EQ(sql.number("select max_attempts from jobs where id = $1", job), 3);
  auto got = worker.claim(1);
  ASSERT_THAT(ids(got), ElementsAre(job));
  EXPECT_EQ(got.at(0).attempt, 2);
  // A crash of this attempt is its last.
  expire(sql, worker.id());
  sql.exec("select reap()");
  EXPECT_EQ(state(job), "failed");
  EXPECT_EQ(attempt(job), 3);
  EXPECT_EQ(sql.number("select count(*) from attempt_error where job = $1", job), 3);
}

TEST_F(EngineOperate, RetryOfAJobWithAttemptsLeftKeepsItsCeiling) {
  Hand worker(sql);
  auto const job = failed(worker, 2);
  EXPECT_TRUE(retry(job));
  EXPECT_EQ(sql.number("select max_attempts from jobs where id = $1", job), 25);
  EXPECT_EQ(attempt(job), 2);
}

TEST_F(EngineOperate, RetryTouchesNothingThatIsAvailableRunningOrDone) {
  Hand worker(sql);
  auto const job = enqueue();
  EXPECT_FALSE(retry(job));
  auto const got = worker.claim(1);
  EXPECT_FALSE(retry(job));
  worker.finish(got.at(0).token);
  EXPECT_FALSE(retry(job));
  EXPECT_FALSE(retry(424242));
  EXPECT_EQ(state(job), "succeeded");
  EXPECT_THAT(worker.claim(10), IsEmpty());
  auto const cancelled = enqueue();
  cancel(cancelled);
  EXPECT_TRUE(retry(cancelled));
  EXPECT_THAT(ids(worker.claim(10)), ElementsAre(cancelled));
}

TEST_F(EngineOperate, DeleteRemovesWhatDoesNotRun) {
  Hand worker(sql);
  auto const deleted = [&](std::int64_t id) { return sql.truth("select delete_job($1)", id); };
  auto const waiting = enqueue();
  auto const scheduled = sql.number("select enqueue('k', delay => '1 hour')");
  EXPECT_TRUE(deleted(waiting));
  EXPECT_TRUE(deleted(scheduled));
  EXPECT_FALSE(deleted(waiting));
  auto const dead = failed(worker);
  EXPECT_TRUE(deleted(dead));
  auto const running = enqueue();
  auto const got = worker.claim(1);
  EXPECT_FALSE(deleted(running));
  worker.finish(got.at(0).token);
  EXPECT_FALSE(deleted(running));
  EXPECT_THAT(sql.column("select id from jobs"), ElementsAre(std::to_string(running)));
}

}  // namespace
}  // namespace posthouse::test
