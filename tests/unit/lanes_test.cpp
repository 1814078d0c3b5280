// SPDX-License-Identifier: Apache-2.0
#include "claim/lanes.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace posthouse::claim {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

LaneIds const none{};
LaneIds const one{1};

// Claims lane 1 whenever it is due until it turns cold, always in vain; returns how often.
int until_cold(Lanes& lanes, Time& now) {
  int claims = 0;
  while (lanes.hot(1)) {
    now = std::max(now, *lanes.next());
    lanes.claimed(lanes.due(now), none, false, now);
    ++claims;
  }
  return claims;
}

TEST(Lanes, HotLaneIsDueAtOnce) {
  Lanes lanes;
  Time const now = Clock::now();
  lanes.heat(1, now);
  lanes.heat(2, now + 5ms);
  EXPECT_THAT(lanes.due(now), ElementsAre(1));
  EXPECT_THAT(lanes.due(now + 5ms), UnorderedElementsAre(1, 2));
  EXPECT_EQ(lanes.next(), now);
}

TEST(Lanes, FullClaimIsFollowedAtOnceAnotherALittleLater) {
  Lanes lanes;
  Time const now = Clock::now();
  lanes.heat(1, now);
  lanes.claimed(one, one, true, now);
  EXPECT_THAT(lanes.due(now), ElementsAre(1));
  lanes.claimed(one, one, false, now);
  EXPECT_THAT(lanes.due(now), IsEmpty());
  EXPECT_THAT(lanes.due(now + 1ms), ElementsAre(1));
}

TEST(Lanes, LaneThatAFullClaimDidNotReachStaysAsItWas) {
  Lanes lanes;
  Time const now = Clock::now();
  lanes.heat(1, now);
  lanes.heat(2, now);
  LaneIds const both{1, 2};
  for (int i = 0; i < 20; ++i) lanes.claimed(both, one, true, now + i * 50ms);
  EXPECT_TRUE(lanes.hot(2));
  EXPECT_THAT(lanes.due(now), UnorderedElementsAre(2));
}

TEST(Lanes, EmptyLaneTurnsColdSoonAndAfterAFewClaims) {
  Lanes lanes;
  Time const start = Clock::now();
  Time now = start;
  lanes.heat(1, now);
  EXPECT_GE(until_cold(lanes, now), cold_after_claims);
  EXPECT_GE(now - start, cold_after);
  EXPECT_LE(now - start, 50ms);
  EXPECT_THAT(lanes.take_cold(), ElementsAre(1));
  EXPECT_THAT(lanes.take_cold(), IsEmpty());
}

TEST(Lanes, SlowClaimsNeedTheirNumberToo) {
  Lanes lanes;
  Time now = Clock::now();
  lanes.heat(1, now);
  for (int i = 0; i < cold_after_claims - 1; ++i) {
    now += 300ms;
    lanes.claimed(one, none, false, now);
    EXPECT_TRUE(lanes.hot(1));
  }
  lanes.claimed(one, none, false, now);
  EXPECT_FALSE(lanes.hot(1));
}

TEST(Lanes, LaneWithABellIsLeftAloneAfterAnEmptyClaimOrTwo) {
  Lanes lanes;
  Time now = Clock::now();
  lanes.belled(one);
  lanes.rang(1, now);
  EXPECT_EQ(until_cold(lanes, now), 2);
  lanes.rang(1, now);
  lanes.claimed(one, one, false, now);  // found what rang
  EXPECT_EQ(until_cold(lanes, now), 1);
  EXPECT_THAT(lanes.take_cold(), IsEmpty());  // the bell is still there
  EXPECT_THAT(lanes.take_unbell(), IsEmpty());
}

TEST(Lanes, BellGoesWhenThereIsABacklog) {
  Lanes lanes;
  Time const now = Clock::now();
  lanes.belled(one);
  lanes.rang(1, now);
  lanes.claimed(one, one, true, now);
  EXPECT_THAT(lanes.take_unbell(), ElementsAre(1));
  lanes.unbelled(one);
  EXPECT_FALSE(lanes.has_bell(1));
}

TEST(Lanes, BellGoesWhenItRingsTooOften) {
  Lanes lanes;
  Time now = Clock::now();
  lanes.belled(one);
  for (int i = 0; i < 100; ++i) lanes.rang(1, now += 20ms);  // fifty a second are fine
  EXPECT_THAT(lanes.take_unbell(), IsEmpty());
  for (int i = 0; i < rings_to_unbell + 2; ++i) lanes.rang(1, now += 1ms);
  EXPECT_THAT(lanes.take_unbell(), ElementsAre(1));
}

TEST(Lanes, BellsGoWithTheirConnection) {
  Lanes lanes;
  Time now = Clock::now();
  lanes.belled(one);
  lanes.bells_gone();
  EXPECT_EQ(lanes.bells(), 0u);
  lanes.heat(1, now);
  EXPECT_GE(until_cold(lanes, now), cold_after_claims);
}

TEST(Lanes, ALaneHeldBackStaysHotAndIsTriedWhenAJobEnds) {
  Lanes lanes;
  Time const now = Clock::now();
  lanes.heat(1, now);
  for (int i = 0; i < 20; ++i) {
    lanes.claimed(one, none, false, now + i * 1s);
    lanes.blocked(1, std::nullopt, now + i * 1s);
    ASSERT_TRUE(lanes.hot(1));
  }
  auto const then = now + 19s;
  EXPECT_EQ(lanes.next(), then + blocked_retry);
  lanes.freed(then + 1ms);
  EXPECT_EQ(lanes.next(), then + blocked_rest) << "not at every end";
  lanes.freed(then + 100ms);
  EXPECT_EQ(lanes.next(), then + blocked_rest) << "never later";
  auto later = then + blocked_rest;
  EXPECT_GE(until_cold(lanes, later), cold_after_claims - 1) << "once it is just empty, it turns cold";
}

TEST(Lanes, ALaneUnderARateIsTriedWhenTheNextJobMayStart) {
  Lanes lanes;
  Time const now = Clock::now();
  lanes.claimed(one, one, true, now);
  lanes.blocked(1, 20ms, now);
  EXPECT_EQ(lanes.next(), now + 20ms);
  lanes.freed(now + 10ms);
  EXPECT_EQ(lanes.next(), now + 20ms) << "ends of jobs change nothing";
  lanes.blocked(1, 1h, now);
  EXPECT_EQ(lanes.next(), now + blocked_longest) << "the rate may be raised meanwhile";
  lanes.blocked(1, 0ms, now);
  EXPECT_EQ(lanes.next(), now + 1ms);
}

}  // namespace
}  // namespace posthouse::claim
