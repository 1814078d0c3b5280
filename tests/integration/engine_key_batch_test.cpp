// SPDX-License-Identifier: Apache-2.0
// Large claims of jobs with keys: where they end, so that few jobs have to be parked, and that none is left behind.
#include <gmock/gmock.h>

#include <algorithm>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
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

// What is returned is read after the parked ones have left the part of the log that was looked at.
TEST_F(EngineKeyBatch, EveryJobComesWithItsPayload) {
  sql.exec("select enqueue('k', to_jsonb(g), key => (g % 7)::text) from generate_series(1, 20) g");
  Hand hand(sql);
  auto const jobs = [&] {
    return sql.column("select pos || ' ' || id || ' ' || payload from claim($1, $2, null, 50, 50) where pos >= 0",
                      hand.id(), hand.take_token());
  };
  auto const as_sent = [&](int from, int to) {
    return sql.column("select g - $1 || ' ' || g || ' ' || g from generate_series($1::int, $2) g", from, to);
  };
  EXPECT_EQ(jobs(), as_sent(1, 7));
  EXPECT_EQ(parked(), 13);
  sql.rows("select finish($1, array_agg(token), array_agg(null::text), array_agg(0), null) from batch", hand.id());
  EXPECT_EQ(jobs(), as_sent(8, 14));
}

// However many turns a key has had since the last prune: their texts are not compared.
TEST_F(EngineKeyBatch, ATurnIsFoundByTheNumberOfItsKey) {
  sql.exec("set enable_seqscan = off; set enable_bitmapscan = off");
  auto const plan = sql.column("explain (costs off) select * from turn_of('k', 'a')");
  std::string text;
  for (auto const& line : plan) text += line + "\n";
  EXPECT_THAT(text, HasSubstr("Index Scan Backward using key_turn_hash"));
  EXPECT_THAT(text, HasSubstr("Index Cond: (hashtextextended("));
  EXPECT_THAT(text, Not(HasSubstr("Sort"))) << "the newest comes first";
}

}  // namespace
}  // namespace posthouse::test
