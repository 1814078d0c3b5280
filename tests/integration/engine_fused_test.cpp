// SPDX-License-Identifier: Apache-2.0
// finish_and_claim appends to express lanes and then claims from them, in one transaction. A snapshot never lists its own
// transaction, so that as soon as a younger one has ended it would count what is appended as seen.
#include <gmock/gmock.h>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

class EngineFused : public EngineTest {
 protected:
  EngineFused() : session_(open()), other_(open()), hand_(session_), witness_(sql) {
    // The express twin is known and has a cursor.
    auto const first = enqueue();
    auto const got = hand_.claim(1);
    hand_.finish(got.at(0).token, "1", 1, "[" + move_of(got.at(0), "release") + "]");
    auto const again = hand_.claim(1);
    EXPECT_THAT(ids(again), ElementsAre(first));
    hand_.finish(again.at(0).token);
  }

  std::string twin() { return array({lane("k", 0, true)}); }
  /// Our transaction has an id, and one with a higher id ends before we look.
  void begin_beside_a_younger_one() {
    session_.exec("begin; select pg_current_xact_id()");
    younger_ = other_.number("select enqueue('k', priority => 1)");
    EXPECT_TRUE(session_.truth("select pg_current_xact_id() < pg_snapshot_xmax(pg_current_snapshot())"))
        << "its own id is below xmax, and not in xip";
  }

  Sql session_;
  Sql other_;
  Hand hand_;
  Hand witness_;
  std::int64_t younger_ = 0;
};

TEST_F(EngineFused, AJobReleasedAndItsExpressLaneClaimedInOneCall) {
  enqueue_some(3);
  auto const got = hand_.claim(3, 3, array({lane()}));
  ASSERT_EQ(got.size(), 3U);
  begin_beside_a_younger_one();
  EXPECT_THAT(ids(hand_.finish_and_claim(
                  got.at(0).token, "111",
                  "[" + move_of(got.at(0), "release") + "," + move_of(got.at(2), "release") + "]", 10, twin())),
              IsEmpty())
      << "what is not committed yet is in nobody's window";
  EXPECT_THAT(ids(witness_.claim(10, 10, twin())), IsEmpty());
  session_.exec("commit");
  EXPECT_EQ(state(got.at(0).id), "available");
  EXPECT_EQ(state(got.at(1).id), "succeeded");
  auto const back = witness_.claim(10, 10, twin());
  EXPECT_THAT(ids(back), ElementsAre(got.at(0).id, got.at(2).id));
  for (auto const& job : back) EXPECT_EQ(job.attempt, 0) << job.id;
  witness_.finish(back.at(0).token);
  EXPECT_THAT(ids(witness_.claim(10, 10, twin())), IsEmpty());
}

// The loss itself: the later call appends below the cursor that the earlier one would have left.
TEST_F(EngineFused, WhatALaterCallOfTheTransactionReleasesIsNotBelowTheCursor) {
  auto const jobs = enqueue_some(2);
  auto const first = hand_.claim(1, 1, array({lane()}));
  auto const second = hand_.claim(1, 1, array({lane()}));
  ASSERT_THAT(ids(first), ElementsAre(jobs.at(0)));
  ASSERT_THAT(ids(second), ElementsAre(jobs.at(1)));
  begin_beside_a_younger_one();
  auto taken =
      ids(hand_.finish_and_claim(second.at(0).token, "1", "[" + move_of(second.at(0), "release") + "]", 10, twin()));
  for (auto const id :
       ids(hand_.finish_and_claim(first.at(0).token, "1", "[" + move_of(first.at(0), "release") + "]", 10, twin()))) {
    taken.push_back(id);
  }
  session_.exec("commit");
  for (auto const& job : witness_.claim(10, 10, twin())) taken.push_back(job.id);
  EXPECT_THAT(sorted(taken), ElementsAreArray(jobs)) << "each once";
}

// The promoter and the reaper have the same shape.
TEST_F(EngineFused, JobsPromotedAndRescuedBeforeAClaimOfTheSameTransaction) {
  auto const due = sql.number("select enqueue('k', delay => '1 hour')");
  auto const lost = enqueue();
  Hand victim(sql);
  ASSERT_THAT(ids(victim.claim(1, 0, array({lane()}))), ElementsAre(lost));
  expire(sql, victim.id());
  sql.exec("update deferred set due_at = now()");
  begin_beside_a_younger_one();
  EXPECT_EQ(session_.number("select reap()"), 1);
  EXPECT_THAT(ids(hand_.claim(10, 10, twin())), IsEmpty());
  EXPECT_EQ(session_.number("select promote()"), 1);
  EXPECT_THAT(ids(hand_.claim(10, 10, twin())), IsEmpty());
  session_.exec("commit");
  EXPECT_THAT(sorted(ids(witness_.claim(10, 10, twin()))), ElementsAre(due, lost));
}

TEST_F(EngineFused, RetriedFailedAndSucceededMembersOfOneCallCountWhatTheyUsed) {
  enqueue_some(4);
  auto const got = hand_.claim(4, 4, array({lane()}));
  ASSERT_EQ(got.size(), 4U);
  begin_beside_a_younger_one();
  hand_.finish_and_claim(
      got.at(0).token, "1111",
      "[" + move_of(got.at(0), "retry") + "," + move_of(got.at(1), "release") + "," + move_of(got.at(2), "fail") + "]",
      10, twin());
  session_.one("select promote()");
  session_.exec("commit");
  std::vector<std::pair<std::int64_t, int>> back;
  for (auto const& job : witness_.claim(10, 10, twin())) back.emplace_back(job.id, job.attempt);
  std::sort(back.begin(), back.end());
  EXPECT_THAT(back, ElementsAre(std::pair(got.at(0).id, 1), std::pair(got.at(1).id, 0)));
  EXPECT_EQ(state(got.at(2).id), "failed");
  EXPECT_EQ(state(got.at(3).id), "succeeded");
}

}  // namespace
}  // namespace posthouse::test
