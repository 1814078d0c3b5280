// SPDX-License-Identifier: Apache-2.0
// Large claims of jobs with keys: where they end, so that few jobs have to be parked, and that none is left behind.
#include <gmock/gmock.h>

#include <algorithm>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class EngineKeyBatch : public EngineTest {
 protected:
  /// Jobs with the keys `from` to `to`, in this order.
  void keyed(int from, int to) {
    sql.rows("select enqueue('k', key => g::text) from generate_series($1::int, $2) g", from, to);
  }
  std::int64_t parked() { return sql.number("select count(*) from parked"); }
};

TEST_F(EngineKeyBatch, EndsAtABusyKeyOnceItIsLarge) {
  keyed(1, 300);
  keyed(1, 50);
  keyed(301, 350);
  Hand hand(sql);
  auto const token = hand.take_token();
  auto const rows = sql.rows("select pos, token from claim($1, $2, null, 1000, 1000) order by pos", hand.id(), token);
  ASSERT_EQ(rows.size(), 301U);
  EXPECT_EQ(rows[0][0], "-2") << "the worker shall ask again";
  EXPECT_EQ(rows[0][1], "1") << "in a millisecond";
  EXPECT_EQ(parked(), 0);
  // While they run, the others pass, as ever.
  auto const second = hand.claim(1000);
  EXPECT_THAT(second, SizeIs(50));
  EXPECT_EQ(parked(), 50);
  hand.finish(token);
  hand.finish(second.at(0).token);
  auto const third = hand.claim(1000);
  EXPECT_THAT(third, SizeIs(50));
  hand.finish(third.at(0).token);
  EXPECT_EQ(parked(), 0);
  EXPECT_THAT(hand.claim(1000), IsEmpty());
  EXPECT_THAT(sql.column("select state || ' ' || jobs from counts()"), ElementsAre("succeeded 400"));
}

TEST_F(EngineKeyBatch, NothingIsParkedWhenClaimsFollowTheEndsOfTheirJobs) {
  for (int round = 0; round < 4; ++round) keyed(1, 260);
  Hand hand(sql);
  std::vector<std::int64_t> order;
  for (int i = 0; i < 8 && order.size() < 1040U; ++i) {
    auto const jobs = hand.claim(2000);
    ASSERT_FALSE(jobs.empty());
    for (auto const& job : jobs) order.push_back(job.id);
    hand.finish(jobs.at(0).token);
  }
  EXPECT_THAT(order, SizeIs(1040));
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  EXPECT_EQ(sql.number("select coalesce(max(parked_last), 0) from key_turn"), 0) << "nobody had to wait aside";
}

}  // namespace
}  // namespace posthouse::test
