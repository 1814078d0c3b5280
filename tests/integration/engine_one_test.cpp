// SPDX-License-Identifier: Apache-2.0
// finish_and_claim_one answers as finish_and_claim does: plain or not, once or twice, whoever else is there.
#include <gmock/gmock.h>

#include <map>
#include <set>

#include "support/engine.hpp"
#include "support/seed.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

class EngineOne : public EngineTest {
 protected:
  EngineOne() : worker_(sql), lane_(lane()) {
    enqueue_some(1);
    worker_.finish(worker_.claim(1).at(0).token);
  }

  bool closed(std::int64_t token) {
    return sql.truth("select closed_at is not null from batch where worker = $1 and token = $2", worker_.id(), token);
  }

  Hand worker_;
  std::int64_t lane_;
};

TEST_F(EngineOne, EndsOneAndBringsTheNextInOrder) {
  auto const jobs = enqueue_some(3);
  auto const first = worker_.claim_one(lane_);
  ASSERT_THAT(ids(first), ElementsAre(jobs.at(0)));
  EXPECT_EQ(state(jobs.at(0)), "running");
  auto const second = worker_.claim_one(lane_, first.at(0).token);
  ASSERT_THAT(ids(second), ElementsAre(jobs.at(1)));
  EXPECT_EQ(state(jobs.at(0)), "succeeded");
  auto const third = worker_.claim_one(lane_, second.at(0).token);
  ASSERT_THAT(ids(third), ElementsAre(jobs.at(2)));
  EXPECT_THAT(worker_.claim_one(lane_, third.at(0).token), IsEmpty());
  for (auto const id : jobs) EXPECT_EQ(state(id), "succeeded");
  EXPECT_THAT(worker_.claim_one(lane_), IsEmpty());
}

TEST_F(EngineOne, EndsAWholeBatchOfMany) {
  auto const jobs = enqueue_some(4);
  auto const three = worker_.claim(3, 1);
  ASSERT_EQ(three.size(), 3U);
  EXPECT_THAT(ids(worker_.claim_one(lane_, three.at(0).token)), ElementsAre(jobs.at(3)));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(state(jobs.at(static_cast<std::size_t>(i))), "succeeded");
}

TEST_F(EngineOne, TheFirstClaimOfALaneAndAnEmptyOne) {
  auto const fresh = lane("k", 7);
  EXPECT_THAT(worker_.claim_one(fresh), IsEmpty()) << "nobody has used that lane";
  auto const id = sql.number("select enqueue('k', priority => 7)");
  sql.rows("select fold_lanes()");
  EXPECT_THAT(ids(worker_.claim_one(fresh)), ElementsAre(id));
}

TEST_F(EngineOne, ResentItTakesNothingTwice) {
  auto const jobs = enqueue_some(4);
  auto const first = worker_.claim_one(lane_);
  auto const second = worker_.claim_one(lane_, first.at(0).token);
  auto const third = worker_.claim_one(lane_, first.at(0).token);
  EXPECT_THAT(ids(third), ElementsAre(jobs.at(2))) << "ended already: not lost, and the next job comes";
  EXPECT_FALSE(closed(second.at(0).token));
}

TEST_F(EngineOne, ALostLeaseIsSaidAndNothingClaimed) {
  auto const jobs = enqueue_some(3);
  auto const first = worker_.claim_one(lane_);
  expire(sql, worker_.id());
  ASSERT_EQ(sql.number("select reap()"), 1);
  auto const answer = worker_.claim_one(lane_, first.at(0).token);
  ASSERT_EQ(answer.size(), 1U);
  EXPECT_EQ(answer.at(0).position, -1);
  EXPECT_EQ(answer.at(0).token, first.at(0).token);
  EXPECT_EQ(state(jobs.at(1)), "available");
  EXPECT_EQ(state(jobs.at(0)), "available");
}

TEST_F(EngineOne, AnothersBatchIsNotEnded) {
  auto const jobs = enqueue_some(2);
  auto const first = worker_.claim_one(lane_);
  Hand other(sql);
  other.claim_one(lane_, first.at(0).token);
  EXPECT_EQ(state(jobs.at(0)), "running");
}

TEST_F(EngineOne, PausedQueuesAndKindsGiveNothingButTheAckCounts) {
  auto const jobs = enqueue_some(3);
  auto const first = worker_.claim_one(lane_);
  sql.exec("select pause_queue('default')");
  EXPECT_THAT(worker_.claim_one(lane_, first.at(0).token), IsEmpty());
  EXPECT_EQ(state(jobs.at(0)), "succeeded");
  sql.exec("select resume_queue('default'), pause_kind('k')");
  EXPECT_THAT(worker_.claim_one(lane_), IsEmpty());
  sql.exec("select resume_kind('k')");
  EXPECT_THAT(ids(worker_.claim_one(lane_)), ElementsAre(jobs.at(1)));
}

TEST_F(EngineOne, LanesOfOthersGiveNothing) {
  enqueue("other");
  sql.rows("select fold_lanes()");
  EXPECT_THAT(worker_.claim_one(lane("other")), IsEmpty());
  Hand elsewhere(sql, {.queues = "{elsewhere}"});
  enqueue();
  EXPECT_THAT(elsewhere.claim_one(lane_), IsEmpty());
}

TEST_F(EngineOne, ALimitHoldsAndIsFreedByTheSameCall) {
  auto const jobs = enqueue_some(3);
  sql.rows("select set_limit('kind', 'k', 1)");
  auto const first = worker_.claim_one(lane_);
  ASSERT_EQ(ids(first).at(0), jobs.at(0));
  Hand other(sql);
  auto const blocked = other.claim_one(lane_);
  ASSERT_EQ(blocked.size(), 1U);
  EXPECT_EQ(blocked.at(0).position, -2);
  EXPECT_EQ(ids(worker_.claim_one(lane_, first.at(0).token)).at(0), jobs.at(1));
}

TEST_F(EngineOne, UnderAnotherIsolationLevelItIsRefused) {
  enqueue();
  sql.exec("begin isolation level repeatable read");
  EXPECT_EQ(sql.sqlstate_of("select finish_and_claim_one(" + std::to_string(worker_.id()) + ", null, 160, " +
                            std::to_string(lane_) + ")"),
            "25001");
  sql.exec("rollback");
}

TEST_F(EngineOne, AnAckIsFlushedAndAClaimAloneIsNot) {
  enqueue_some(2);
  sql.exec("set synchronous_commit = on; begin");
  auto const first = worker_.claim_one(lane_);
  EXPECT_EQ(sql.one("show synchronous_commit"), "off");
  sql.exec("commit; begin");
  worker_.claim_one(lane_, first.at(0).token);
  EXPECT_EQ(sql.one("show synchronous_commit"), "on");
  sql.exec("commit");
}

// Transactions begin, append, commit and roll back in any order between claims: each committed job comes once, and of two
// jobs of one transaction the older first.
TEST_F(EngineOne, WhateverProducersDoEachJobIsClaimedOnce) {
  Seed seed;
  auto const round = [&](int writers) {
    std::vector<Sql> sessions;
    for (int i = 0; i < writers; ++i) sessions.push_back(open());
    std::vector<Ids> pending(sessions.size());
    std::vector<bool> in_transaction(sessions.size());
    std::set<std::int64_t> committed;
    std::map<std::int64_t, int> claimed;
    std::int64_t done = 0;
    auto const claim = [&](bool general) {
      auto const jobs = general ? worker_.claim(static_cast<int>(seed.between(1, 3))) : worker_.claim_one(lane_, done);
      if (!general) done = jobs.empty() ? 0 : jobs.at(0).token;
      for (auto const& job : jobs) {
        ++claimed[job.id];
        EXPECT_TRUE(committed.count(job.id) == 1) << job.id;
      }
      return !jobs.empty();
    };
    for (int step = 0; step < 400; ++step) {
      auto const i = static_cast<std::size_t>(seed.between(0, writers - 1));
      if (seed.chance(0.3)) {
        claim(seed.chance(0.2));
      } else if (!in_transaction[i]) {
        sessions[i].exec("begin");
        if (seed.chance(0.5)) sessions[i].rows("select pg_current_xact_id()");
        in_transaction[i] = true;
      } else if (seed.chance(0.5)) {
        for (auto const id :
             numbers(sessions[i].column("select enqueue('k') from generate_series(1, $1)", seed.between(1, 3)))) {
          pending[i].push_back(id);
        }
      } else {
        bool const keep = seed.chance(0.8);
        sessions[i].exec(keep ? "commit" : "rollback");
        in_transaction[i] = false;
        if (keep) committed.insert(pending[i].begin(), pending[i].end());
        pending[i].clear();
      }
    }
    for (std::size_t i = 0; i < sessions.size(); ++i) {
      if (!in_transaction[i]) continue;
      sessions[i].exec("commit");
      committed.insert(pending[i].begin(), pending[i].end());
    }
    while (claim(false)) {
    }
    EXPECT_EQ(claimed.size(), committed.size());
    for (auto const& [id, times] : claimed) EXPECT_EQ(times, 1) << id;
    EXPECT_GT(committed.size(), 20U);
  };
  for (int const writers : {1, 2, 5, 9}) round(writers);
}

}  // namespace
}  // namespace posthouse::test
