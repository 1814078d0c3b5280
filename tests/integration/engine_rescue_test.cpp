// SPDX-License-Identifier: Apache-2.0
// Workers that die, stop or lose a reply: what they held comes back, with attempts and crashes counted exactly.
#include <gmock/gmock.h>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class EngineRescue : public EngineTest {
 protected:
  std::int64_t reap() { return sql.number("select reap()"); }
  std::string crashes(std::int64_t id) {
    return sql.one("select coalesce(options ->> 'crashes', 'none') from job where id = $1", id);
  }
  /// Every claim of a fresh worker until nothing is left, closed at once.
  std::vector<std::vector<Claimed>> drain() {
    Hand next(sql);
    std::vector<std::vector<Claimed>> batches;
    for (;;) {
      auto const got = next.claim(100);
      if (got.empty()) break;
      for (auto const& job : got) {
        if (batches.empty() || batches.back().front().token != job.token) batches.emplace_back();
        batches.back().push_back(job);
      }
      for (auto const& job : got) next.finish(job.token);
    }
    next.leave();
    return batches;
  }
};

TEST_F(EngineRescue, CountsAnAttemptBelowStartedToAndNoneAbove) {
  auto const jobs = enqueue_some(5);
  Hand worker(sql);
  auto const got = worker.claim(5, 1);
  worker.finish(got.at(0).token, "10000", 3);  // the first has ended; the second and third may run
  expire(sql, worker.id());
  EXPECT_EQ(reap(), 4);
  EXPECT_EQ(state(jobs.at(0)), "succeeded");
  EXPECT_EQ(attempt(jobs.at(1)), 1);
  EXPECT_EQ(attempt(jobs.at(2)), 1);
  EXPECT_EQ(attempt(jobs.at(3)), 0);
  EXPECT_EQ(attempt(jobs.at(4)), 0);
  EXPECT_EQ(crashes(jobs.at(1)), "1");
  EXPECT_EQ(crashes(jobs.at(3)), "none");
  EXPECT_THAT(
      sql.column("select job || ' ' || attempt || ' ' || type || ' ' || worker from attempt_error order by job"),
      ElementsAre(std::to_string(jobs.at(1)) + " 1 worker lost " + std::to_string(worker.id()),
                  std::to_string(jobs.at(2)) + " 1 worker lost " + std::to_string(worker.id())));
  EXPECT_EQ(reap(), 0);
  EXPECT_TRUE(
      sql.truth("select reaped_at is not null and end_reason = 'lease lapsed' from worker where id = $1", worker.id()));
}

// Quick jobs may start far ahead of the slots. Those that never ran must not be spent on a crash.
TEST_F(EngineRescue, MoreThanTheSlotsAreACrashAndNobodysAttempt) {
  auto const jobs = numbers(sql.column("select enqueue('k', max_attempts => 1) from generate_series(1, 12)"));
  Hand worker(sql);  // of ten slots
  auto const got = worker.claim(12, 12);
  worker.finish(got.at(0).token, "100000000000", 12);  // eleven are left
  expire(sql, worker.id());
  EXPECT_EQ(reap(), 11);
  EXPECT_EQ(sql.number("select count(*) from attempt_error"), 0);
  EXPECT_EQ(state(jobs.at(0)), "succeeded");
  EXPECT_EQ(attempt(jobs.at(11)), 0);
  EXPECT_EQ(crashes(jobs.at(11)), "1");

  // From now on each is in a batch of its own, and what happens to it is known.
  Hand next(sql);
  ASSERT_THAT(next.claim(1), SizeIs(1));
  expire(sql, next.id());
  reap();
  EXPECT_EQ(sql.number("select count(*) from jobs where state = 'failed'"), 1);
  EXPECT_EQ(sql.number("select count(*) from attempt_error"), 1);
}

// Three ended by transactions of their handlers: what may have been running fits into the slots.
TEST_F(EngineRescue, CompletedOnesAreNotAmongThoseThatMayHaveRun) {
  auto const jobs = enqueue_some(12);
  Hand worker(sql);
  auto const got = worker.claim(12, 12);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(worker.complete(sql, got.at(static_cast<std::size_t>(i))));
  expire(sql, worker.id());
  EXPECT_EQ(reap(), 9);
  EXPECT_EQ(attempt(jobs.at(11)), 1);
  EXPECT_EQ(sql.number("select count(*) from attempt_error"), 9);
}

// Three crashes convict the job and not its neighbours.
TEST_F(EngineRescue, AJobThatWasInACrashGetsABatchOfItsOwn) {
  auto const jobs = enqueue_some(3);
  Hand worker(sql);
  worker.claim(3, 2);
  expire(sql, worker.id());
  ASSERT_EQ(reap(), 3);
  auto const batches = drain();
  ASSERT_THAT(batches, SizeIs(3));
  EXPECT_THAT(ids(batches[0]), ElementsAre(jobs.at(0)));
  EXPECT_THAT(ids(batches[1]), ElementsAre(jobs.at(1)));
  EXPECT_THAT(ids(batches[2]), ElementsAre(jobs.at(2)));
}

TEST_F(EngineRescue, ACrashedJobBetweenOthersCutsTheirBatch) {
  auto const crashed = enqueue();
  Hand worker(sql);
  worker.claim(1, 1);
  auto const before = enqueue_some(2);
  Hand releaser(sql);
  auto got = releaser.claim(2, 0);
  releaser.give_back({got.at(0).token});  // two jobs are in the express lane, then the crashed one, then two more
  expire(sql, worker.id());
  ASSERT_EQ(reap(), 1);
  auto const after = enqueue_some(2);
  got = releaser.claim(2, 0, array({lane()}));
  releaser.give_back({got.at(0).token});
  auto const batches = drain();
  ASSERT_THAT(batches, SizeIs(3));
  EXPECT_THAT(ids(batches[0]), ElementsAreArray(before));
  EXPECT_THAT(ids(batches[1]), ElementsAre(crashed));
  EXPECT_THAT(ids(batches[2]), ElementsAreArray(after));
}

TEST_F(EngineRescue, TheAttemptCeilingEndsAJobThatKillsItsWorkers) {
  auto const mine = sql.number("select enqueue('k', max_attempts => 2)");
  auto const by_kind = enqueue("three");
  auto const by_default = enqueue("plain");
  for (int life = 1; life <= 3; ++life) {
    Hand worker(sql, {.kinds = "{k,three,plain}", .max_attempts = "{25,3,25}"});
    while (!worker.claim(1).empty()) {
    }
    expire(sql, worker.id());
    reap();
    EXPECT_EQ(state(mine), life < 2 ? "available" : "failed") << life;
    EXPECT_EQ(state(by_kind), life < 3 ? "available" : "failed") << life;
    EXPECT_EQ(attempt(by_kind), life);
    EXPECT_EQ(state(by_default), "available");
  }
  EXPECT_EQ(attempt(mine), 2);
  EXPECT_EQ(sql.one("select last_error from jobs where id = $1", mine), "worker lost on the last attempt");
  EXPECT_EQ(sql.number("select count(*) from attempt_error where job = $1", by_kind), 3);
  EXPECT_EQ(crashes(by_default), "3");
}

TEST_F(EngineRescue, GiveBackCountsNothing) {
  auto const jobs = enqueue_some(3);
  Hand worker(sql);
  auto const lost = worker.claim(3);  // the reply never arrived
  EXPECT_EQ(worker.give_back({lost.at(0).token, 12345}), 3);
  for (auto const id : jobs) {
    EXPECT_EQ(state(id), "available");
    EXPECT_EQ(attempt(id), 0);
    EXPECT_EQ(crashes(id), "none");
  }
  EXPECT_EQ(worker.give_back({lost.at(0).token}), 0) << "again";
  EXPECT_EQ(sql.number("select count(*) from attempt_error"), 0);
  auto const again = worker.claim(10);
  EXPECT_THAT(ids(again), ElementsAreArray(jobs)) << "together: nobody crashed";
}

TEST_F(EngineRescue, GiveBackLeavesAckedMembersAndOtherBatches) {
  auto const jobs = enqueue_some(4);
  Hand worker(sql);
  auto const first = worker.claim(2);
  auto const second = worker.claim(2);
  worker.finish(first.at(0).token, "10", 2);
  EXPECT_EQ(worker.give_back({first.at(0).token}), 1);
  EXPECT_EQ(state(jobs.at(0)), "succeeded");
  EXPECT_EQ(state(jobs.at(1)), "available");
  EXPECT_EQ(state(jobs.at(2)), "running");
  Hand other(sql);
  EXPECT_EQ(other.give_back({second.at(0).token}), 0) << "not its own";
}

TEST_F(EngineRescue, LeaveGivesEverythingBackUncountedAndEndsTheIncarnation) {
  auto const jobs = enqueue_some(4);
  Hand worker(sql);
  auto const got = worker.claim(4, 2);
  worker.finish(got.at(0).token, "1000", 2);
  worker.leave();
  EXPECT_EQ(state(jobs.at(0)), "succeeded");
  for (std::size_t i = 1; i < 4; ++i) {
    EXPECT_EQ(state(jobs[i]), "available");
    EXPECT_EQ(attempt(jobs[i]), 0);
    EXPECT_EQ(crashes(jobs[i]), "none");
  }
  EXPECT_THAT(worker.claim(10), IsEmpty());
  EXPECT_THAT(worker.finish(got.at(0).token), ElementsAre(got.at(0).token));
  worker.leave();  // again: nothing
  EXPECT_EQ(reap(), 0);
  EXPECT_EQ(drain().size(), 1U);
}

// -- when a worker is dead -------------------------------------------------------------------------------------------

TEST_F(EngineRescue, NobodyIsReapedBeforeItsLeaseHasLapsed) {
  enqueue();
  Hand worker(sql, {.lease_ms = 60000});
  worker.claim(1);
  EXPECT_EQ(reap(), 0);
  // The last sign of life counts, whatever its batches' age.
  sql.exec(
      "update batch set claimed_at = claimed_at - interval '1 day'; update worker set started_at = started_at - "
      "interval '1 day'; "
      "update heartbeat set at = at - interval '59 s'");
  EXPECT_EQ(reap(), 0);
  worker.beat();
  sql.exec("update heartbeat set at = at - interval '59 s'");
  EXPECT_EQ(reap(), 0);
  EXPECT_EQ(state(enqueue()), "available");
}

// After an outage nobody has been able to beat.
TEST_F(EngineRescue, TheLeaseCountsFromTheServersStartAtTheEarliest) {
  enqueue();
  Hand worker(sql, {.lease_ms = 600000});
  worker.claim(1);
  auto const up = sql.number("select extract(epoch from clock_timestamp() - pg_postmaster_start_time())::int");
  if (up > 590) GTEST_SKIP() << "the server has been up for " << up << " s";
  sql.exec(
      "update heartbeat set at = at - interval '1 day'; update worker set started_at = started_at - interval '1 day'");
  EXPECT_EQ(reap(), 0) << "the server has been up for less than the lease";
  sql.exec("update worker set lease = interval '1 ms'");
  EXPECT_EQ(reap(), 1);
}

// A new leader may be new because nobody could beat: it gives everybody the time to.
TEST_F(EngineRescue, ANewLeaderWaitsBeforeItReaps) {
  enqueue();
  Hand dead(sql);
  dead.claim(1);
  expire(sql, dead.id());
  EXPECT_EQ(sql.number("select reap(clock_timestamp() + interval '1 minute')"), 0);
  EXPECT_EQ(sql.number("select reap(clock_timestamp() - interval '1 minute')"), 1);
}

TEST_F(EngineRescue, AWorkerThatClaimsOrAcksAtThisMomentIsLeftAlone) {
  enqueue();
  auto session = open();
  Hand worker(session);
  session.exec("begin");
  worker.claim(1);
  expire(sql, worker.id());
  EXPECT_EQ(reap(), 0);
  EXPECT_TRUE(sql.truth("select ended_at is null from worker where id = $1", worker.id()));
  session.exec("commit");
  EXPECT_EQ(reap(), 1);
}

// The claim of a worker that is being reaped waits for that, and then finds itself dead.
TEST_F(EngineRescue, AClaimBehindTheReaperGetsNothing) {
  enqueue();
  auto session = open();
  Hand worker(session);
  worker.claim(1);
  expire(sql, worker.id());
  auto reaper = open();
  reaper.exec("begin");
  EXPECT_EQ(reaper.number("select reap()"), 1);
  enqueue();
  auto answer = std::async(std::launch::async, [&] { return worker.claim(10); });
  ASSERT_TRUE(waits_for_lock(sql, session.backend_pid()));
  reaper.exec("commit");
  EXPECT_THAT(answer.get(), IsEmpty());
}

// low_token only spares work: batches below it are closed.
TEST_F(EngineRescue, WithManyClosedBatchesOnlyTheOpenOnesAreRead) {
  Hand worker(sql);
  for (int i = 0; i < 50; ++i) {
    enqueue();
    worker.finish(worker.claim(1).at(0).token);
  }
  auto const open_job = enqueue();
  auto const got = worker.claim(1);
  worker.beat(got.at(0).token);
  EXPECT_EQ(sql.one("select beat($1, $2, 1, 1) ->> 'open'", worker.id(), got.at(0).token),
            "[" + std::to_string(got.at(0).token) + "]");
  expire(sql, worker.id());
  EXPECT_EQ(reap(), 1);
  EXPECT_EQ(state(open_job), "available");
  EXPECT_EQ(drain().size(), 1U);
}

}  // namespace
}  // namespace posthouse::test
