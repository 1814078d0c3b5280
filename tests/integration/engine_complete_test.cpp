// SPDX-License-Identifier: Apache-2.0
// complete(): a completion inside the handler's own transaction against commit, rollback, the reaper and a stopping
// worker. Whatever the order, the job ends once or runs again, never both.
#include <gmock/gmock.h>

#include <map>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class EngineComplete : public EngineTest {
 protected:
  EngineComplete() : handler_(open()), worker_(sql) {}

  Claimed claim_one() {
    enqueue();
    return worker_.claim(1).at(0);
  }
  std::int64_t reap() { return sql.number("select reap()"); }
  /// Claims what has come back; it must be this job, nothing, …
  Ids claim_again() {
    Hand next(sql);
    auto const got = next.claim(10);
    attempts_.clear();
    for (auto const& job : got) attempts_.push_back(job.attempt);
    return ids(got);
  }

  Sql handler_;
  Hand worker_;
  std::vector<int> attempts_;
};

TEST_F(EngineComplete, CommitsWithTheTransaction) {
  auto const job = claim_one();
  handler_.exec("begin");
  EXPECT_TRUE(worker_.complete(handler_, job));
  EXPECT_EQ(state(job.id), "running");
  handler_.exec("commit");
  EXPECT_EQ(state(job.id), "succeeded");
  expire(sql, worker_.id());
  EXPECT_EQ(reap(), 0);
  EXPECT_EQ(state(job.id), "succeeded");
  EXPECT_THAT(claim_again(), IsEmpty());
}

TEST_F(EngineComplete, RollsBackWithTheTransaction) {
  auto const job = claim_one();
  handler_.exec("begin");
  EXPECT_TRUE(worker_.complete(handler_, job));
  handler_.exec("rollback");
  EXPECT_EQ(state(job.id), "running");
  handler_.exec("begin; savepoint a");
  EXPECT_TRUE(worker_.complete(handler_, job));
  handler_.exec("rollback to a");
  EXPECT_TRUE(worker_.complete(handler_, job));
  handler_.exec("commit");
  EXPECT_EQ(state(job.id), "succeeded");
}

// A second time means that the first one's commit was in doubt: its effects must not come twice.
TEST_F(EngineComplete, ASecondTimeIsRefused) {
  auto const job = claim_one();
  EXPECT_TRUE(worker_.complete(handler_, job));
  EXPECT_FALSE(worker_.complete(handler_, job));
  EXPECT_THAT(worker_.finish(job.token), IsEmpty());
  EXPECT_FALSE(worker_.complete(handler_, job)) << "the batch is closed";
  EXPECT_EQ(sql.number("select count(*) from done"), 1);
  sql.rows("select prune()");
  EXPECT_EQ(sql.number("select count(*) from done"), 0) << "upkeep takes those of closed batches";
}

TEST_F(EngineComplete, OfAnotherWorkerPlaceOrJobIsRefused) {
  auto const job = claim_one();
  Hand thief(sql);
  EXPECT_FALSE(thief.complete(handler_, job));
  auto wrong = job;
  ++wrong.id;
  EXPECT_FALSE(worker_.complete(handler_, wrong));
  wrong = job;
  ++wrong.position;
  EXPECT_FALSE(worker_.complete(handler_, wrong));
  wrong = job;
  ++wrong.token;
  EXPECT_FALSE(worker_.complete(handler_, wrong));
  EXPECT_TRUE(worker_.complete(handler_, job));
}

// Its row of its own, never the batch's: other acks of the batch, heartbeats and claims go on beside the open one.
TEST_F(EngineComplete, AnOpenOneHoldsUpNobody) {
  enqueue_some(3);
  auto const got = worker_.claim(3);
  handler_.exec("begin");
  EXPECT_TRUE(worker_.complete(handler_, got.at(0)));
  sql.exec("set lock_timeout = '1ms'");
  EXPECT_THAT(worker_.finish(got.at(0).token, "010", 3), IsEmpty());
  EXPECT_THAT(worker_.finish(got.at(0).token, "011", 3, "[" + move_of(got.at(2), "retry", 60'000) + "]"), IsEmpty());
  worker_.beat();
  enqueue();
  EXPECT_EQ(worker_.claim(10).size(), 1U);
  EXPECT_EQ(reap(), 0);
  handler_.exec("commit");
  EXPECT_EQ(state(got.at(0).id), "succeeded");
}

TEST_F(EngineComplete, AMoveOfACompletedJobDoesNothing) {
  auto const job = claim_one();
  EXPECT_TRUE(worker_.complete(handler_, job));
  EXPECT_THAT(worker_.finish(job.token, std::nullopt, 1, "[" + move_of(job, "retry") + "]"), IsEmpty());
  EXPECT_EQ(state(job.id), "succeeded");
}

// -- against the reaper ----------------------------------------------------------------------------------------------

class EngineCompleteAndReaper : public EngineComplete,
                                public ::testing::WithParamInterface<std::tuple<char const*, bool>> {
 protected:
  std::string begin() const { return std::string("begin isolation level ") + std::get<0>(GetParam()); }
  bool commits() const { return std::get<1>(GetParam()); }
};

TEST_P(EngineCompleteAndReaper, CompletionFirst) {
  auto const job = claim_one();
  handler_.exec(begin());
  EXPECT_TRUE(worker_.complete(handler_, job));
  expire(sql, worker_.id());
  EXPECT_EQ(reap(), 0) << "left alone while that transaction is open";
  EXPECT_EQ(state(job.id), "running");
  handler_.exec(commits() ? "commit" : "rollback");
  EXPECT_EQ(reap(), commits() ? 0 : 1);
  EXPECT_EQ(state(job.id), commits() ? "succeeded" : "available");
  if (commits()) {
    EXPECT_THAT(claim_again(), IsEmpty());
  } else {
    EXPECT_THAT(claim_again(), ElementsAre(job.id));
    EXPECT_THAT(attempts_, ElementsAre(1));
  }
  EXPECT_EQ(reap(), 0);
  EXPECT_EQ(sql.number("select count(*) from worker where id = $1 and reaped_at is not null", worker_.id()), 1);
}

TEST_P(EngineCompleteAndReaper, ReaperFirst) {
  auto const job = claim_one();
  handler_.exec(begin());
  handler_.one("select count(*) from lane");  // a REPEATABLE READ snapshot is from before the rescue
  expire(sql, worker_.id());
  EXPECT_EQ(reap(), 1);
  bool done = false;
  try {
    done = worker_.complete(handler_, job);
    handler_.exec(commits() ? "commit" : "rollback");
  } catch (SqlError const& error) {
    EXPECT_EQ(error.sqlstate(), "40001");
    handler_.exec("rollback");
    done = false;
  }
  EXPECT_FALSE(done);
  EXPECT_EQ(state(job.id), "available");
  EXPECT_THAT(claim_again(), ElementsAre(job.id));
}

// The reaper has the job's lock and has not committed: the completion waits, and then is refused.
TEST_P(EngineCompleteAndReaper, ReaperInTheMiddle) {
  auto const job = claim_one();
  handler_.exec(begin());
  handler_.one("select count(*) from lane");
  expire(sql, worker_.id());
  auto reaper = open();
  reaper.exec("begin");
  EXPECT_EQ(reaper.number("select reap()"), 1);
  auto answer = std::async(std::launch::async, [&] { return worker_.complete(handler_, job); });
  ASSERT_TRUE(waits_for_lock(sql, handler_.backend_pid()));
  reaper.exec(commits() ? "commit" : "rollback");
  bool done = false;
  try {
    done = answer.get();
    handler_.exec("commit");
  } catch (SqlError const& error) {
    EXPECT_EQ(error.sqlstate(), "40001");
    handler_.exec("rollback");
  }
  EXPECT_EQ(done, !commits());
  reap();
  EXPECT_EQ(state(job.id), commits() ? "available" : "succeeded");
}

INSTANTIATE_TEST_SUITE_P(Levels, EngineCompleteAndReaper,
                         ::testing::Combine(::testing::Values("read committed", "repeatable read", "serializable"),
                                            ::testing::Bool()));

// What is left in a batch of an express lane keeps its place; what was moved is not moved again.
TEST_F(EngineComplete, ARescueInPiecesMovesEachMemberOnce) {
  auto const jobs = enqueue_some(3);
  auto const first = worker_.claim(3, 3);
  worker_.finish(first.at(0).token, std::nullopt, 3,
                 "[" + move_of(first.at(0), "release") + "," + move_of(first.at(1), "release") + "," +
                     move_of(first.at(2), "release") + "]");
  auto const got = worker_.claim(3, 2);
  ASSERT_EQ(got.size(), 3U);
  ASSERT_EQ(got.at(0).lane, lane("k", 0, true));
  handler_.exec("begin");
  EXPECT_TRUE(worker_.complete(handler_, got.at(1)));
  expire(sql, worker_.id());
  EXPECT_EQ(reap(), 2);
  Hand next(sql);
  std::map<std::int64_t, int> attempts;
  Ids tokens;
  auto const claim = [&] {
    for (int i = 0; i < 3; ++i) {  // a job that was in a crash comes alone
      for (auto const& job : next.claim(10)) {
        EXPECT_TRUE(attempts.emplace(job.id, job.attempt).second) << "job " << job.id << " came twice";
        tokens.push_back(job.token);
      }
    }
  };
  claim();
  EXPECT_EQ(reap(), 0);
  claim();
  EXPECT_THAT(attempts,
              ::testing::UnorderedElementsAre(::testing::Pair(got.at(0).id, 1), ::testing::Pair(got.at(2).id, 0)));
  handler_.exec("rollback");
  EXPECT_EQ(reap(), 1);
  claim();
  EXPECT_THAT(attempts,
              ::testing::UnorderedElementsAre(::testing::Pair(got.at(0).id, 1), ::testing::Pair(got.at(1).id, 1),
                                              ::testing::Pair(got.at(2).id, 0)));
  for (auto const token : tokens) EXPECT_THAT(next.finish(token), IsEmpty());
  for (auto const id : jobs) EXPECT_EQ(state(id), "succeeded");
}

// -- against a worker that stops -------------------------------------------------------------------------------------

TEST_F(EngineComplete, AStoppingWorkerLeavesAnOpenCompletionAlone) {
  for (bool const commit : {true, false}) {
    Hand worker(sql);
    enqueue_some(2);
    auto const got = worker.claim(2);
    handler_.exec("begin");
    EXPECT_TRUE(worker.complete(handler_, got.at(0)));
    worker.leave();
    EXPECT_EQ(state(got.at(0).id), "running");
    EXPECT_EQ(state(got.at(1).id), "available");
    EXPECT_EQ(attempt(got.at(1).id), 0) << "an orderly stop burns no attempt";
    handler_.exec(commit ? "commit" : "rollback");
    EXPECT_EQ(reap(), commit ? 0 : 1);
    EXPECT_EQ(state(got.at(0).id), commit ? "succeeded" : "available");
    EXPECT_EQ(attempt(got.at(0).id), commit ? 1 : 0);
    Hand next(sql);
    for (auto const& job : next.claim(10)) next.finish(job.token);
    next.leave();
  }
}

TEST_F(EngineComplete, AfterAStopACompletionFromAnOldSnapshotIsRefused) {
  auto const job = claim_one();
  handler_.exec("begin isolation level repeatable read; select count(*) from posthouse.lane");
  worker_.leave();
  EXPECT_THROW(worker_.complete(handler_, job), SqlError);
  handler_.exec("rollback");
  EXPECT_THAT(claim_again(), ElementsAre(job.id));
  EXPECT_THAT(attempts_, ElementsAre(0));
}

}  // namespace
}  // namespace posthouse::test
