// SPDX-License-Identifier: Apache-2.0
#include "claim/pacing.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace posthouse::claim {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::ElementsAre;
using testing::Ge;
using testing::IsEmpty;
using testing::Le;

LaneIds const none{};
LaneIds const lane1{1};

class PacingTest : public testing::Test {
 protected:
  // Drives the machine as a worker would that finds nothing anywhere, until it sleeps; counts statements by what.
  void settle(Pacing& pacing, Load const& load = {}) {
    for (int i = 0; i < 1000; ++i) {
      auto const step = pacing.step(now, load);
      if (step.what == What::wait) {
        until = step.until;
        return;
      }
      ++sent[step.what];
      answer(pacing, step);
    }
    FAIL() << "never sleeps";
  }
  void answer(Pacing& pacing, Step const& step) {
    switch (step.what) {
      case What::claim:
        return pacing.claimed(step.lanes, none, false, now);
      case What::finish:
        return pacing.flushed(now, 1ms);
      case What::look:
        return pacing.looked(none, now);
      case What::keep:
        return pacing.kept(keeps ? 0 : peers, now);
      case What::survey:
        return pacing.surveyed(all_lanes, now);
      case What::bell:
        return pacing.belled(step.lanes, step.lanes, now);
      case What::unbell:
        return pacing.unbelled(step.lanes);
      case What::check_fence:
        return pacing.fence_checked(fence_passes, now);
      case What::hand_on:
        return pacing.handed_on(now);
      case What::limit_bell:
        return pacing.limit_belled(step.on, now);
      case What::wait:
        return;
    }
  }
  // Lets time pass, sleeping as the machine says.
  void live(Pacing& pacing, Clock::duration span, Load const& load = {}) {
    auto const end = now + span;
    while (now < end) {
      settle(pacing, load);
      ASSERT_GT(until, now);
      now = std::min(end, until);
    }
  }
  /// Lane 9 has filled the buffer, then lane 2 rings, which was quiet.
  void ring_beside_a_full_buffer(Pacing& pacing) {
    pacing.listening(now);
    live(pacing, 3s);
    pacing.claimed(none, LaneIds{9}, true, now);
    settle(pacing, {.handed = 900});
    pacing.rang(2, now);
  }
  int statements() const {
    int sum = 0;
    for (auto const& [what, count] : sent) sum += what == What::bell ? 2 * count : count;
    return sum;
  }

  Time now = Clock::now();
  Time until{};
  std::map<What, int> sent;
  bool keeps = true;
  int peers = 2;  // a keeper and this worker
  bool fence_passes = true;
  LaneIds all_lanes{1, 2, 3};
};

TEST_F(PacingTest, LooksFirst) {
  Pacing pacing({.slots = 4}, now);
  auto const step = pacing.step(now, {});
  EXPECT_EQ(step.what, What::claim);
  EXPECT_THAT(step.lanes, IsEmpty());
  EXPECT_EQ(step.jobs, 4);
  EXPECT_EQ(step.room, 4);
  EXPECT_FALSE(step.flush);
}

TEST_F(PacingTest, ClaimsForFreeSlotsOnly) {
  Pacing pacing({.slots = 4}, now);
  pacing.claimed(none, lane1, true, now);
  pacing.looked(lane1, now);
  auto step = pacing.step(now, {.handed = 3});
  EXPECT_EQ(step.what, What::claim);
  EXPECT_THAT(step.lanes, ElementsAre(1));
  EXPECT_EQ(step.jobs, 1);
  step = pacing.step(now, {.handed = 4});
  EXPECT_NE(step.what, What::claim);
}

TEST_F(PacingTest, PrefetchIsRefilledWhenHalfOfItIsUsed) {
  Pacing pacing({.slots = 4, .prefetch = 100}, now);
  pacing.claimed(none, lane1, false, now);
  now += 2ms;
  EXPECT_EQ(pacing.step(now, {.handed = 4, .waiting = 51}).what, What::wait);
  auto const step = pacing.step(now, {.handed = 4, .waiting = 50});
  EXPECT_EQ(step.what, What::claim);
  EXPECT_EQ(step.jobs, 50);
}

TEST_F(PacingTest, ClaimIsBounded) {
  Pacing pacing({.slots = 1000, .prefetch = 10000}, now);
  EXPECT_EQ(pacing.step(now, {}).jobs, max_jobs_a_claim);
}

TEST_F(PacingTest, ReportsAtOnceWhenASlotIsIdle) {
  Pacing pacing({.slots = 2}, now);
  settle(pacing);
  pacing.ended(1, now);
  EXPECT_EQ(pacing.step(now, {.handed = 1, .unreported = true}).what, What::finish);
}

TEST_F(PacingTest, GroupsReportsWhileSlotsAreBusyButNotForLong) {
  Pacing pacing({.slots = 2, .prefetch = 100, .flush_interval = 5ms}, now);
  settle(pacing, {.handed = 60});
  pacing.ended(3, now);
  auto step = pacing.step(now, {.handed = 57, .unreported = true});
  EXPECT_EQ(step.what, What::wait);
  EXPECT_EQ(step.until, now + 5ms);
  EXPECT_FALSE(step.any_end);
  now += 3ms;
  pacing.ended(2, now);
  EXPECT_EQ(pacing.step(now, {.handed = 55, .unreported = true}).what, What::wait);
  now += 2ms;
  EXPECT_EQ(pacing.step(now, {.handed = 55, .unreported = true}).what, What::finish);
}

TEST_F(PacingTest, ReportAndClaimShareARoundTrip) {
  Pacing pacing({.slots = 1}, now);
  pacing.claimed(none, lane1, true, now);
  pacing.looked(lane1, now);
  pacing.ended(1, now);
  auto const step = pacing.step(now, {.handed = 0, .unreported = true});
  EXPECT_EQ(step.what, What::claim);
  EXPECT_TRUE(step.flush);
}

TEST_F(PacingTest, JobsThatEndAtOnceAreClaimedApartAndReportedTogether) {
  Pacing pacing({.slots = 1, .flush_interval = 5ms}, now);
  pacing.claimed(none, lane1, true, now);
  pacing.looked(lane1, now);
  pacing.ended(1, now);
  Load const load{.unreported = true, .quick = true};
  auto step = pacing.step(now, load);
  EXPECT_EQ(step.what, What::claim);
  EXPECT_FALSE(step.flush);
  pacing.claimed(lane1, lane1, true, now);
  now += 5ms;
  step = pacing.step(now, load);
  if (step.what == What::look) {
    pacing.looked(lane1, now);
    step = pacing.step(now, load);
  }
  EXPECT_EQ(step.what, What::claim);
  EXPECT_TRUE(step.flush) << "late: with the next claim";
  pacing.flushed(now, 1ms);
  pacing.claimed(lane1, none, false, now);
  EXPECT_EQ(pacing.step(now, load).what, What::finish) << "nothing to claim: at once";
}

TEST_F(PacingTest, UnderALimitClaimsAndReportsGoTogether) {
  Pacing pacing({.slots = 1}, now);
  pacing.claimed(none, lane1, true, now);
  pacing.looked(lane1, now);
  pacing.blocked(1, {}, now);
  pacing.flushed(now, 1ms);  // what was ours is free again
  now += blocked_rest;
  Load const load{.unreported = true, .quick = true};
  auto step = pacing.step(now, load);
  EXPECT_EQ(step.what, What::claim);
  EXPECT_TRUE(step.flush);
}

TEST_F(PacingTest, UnderALimitLargeClaimsReportToo) {
  Pacing pacing({.slots = 1, .prefetch = 1000}, now);
  pacing.claimed(none, lane1, true, now);
  pacing.looked(lane1, now);
  Load const load{.unreported = true, .quick = true};
  auto step = pacing.step(now, load);
  EXPECT_EQ(step.what, What::claim);
  EXPECT_FALSE(step.flush);
  pacing.blocked(1, {}, now);
  pacing.flushed(now, 1ms);
  now += blocked_rest;
  step = pacing.step(now, load);
  EXPECT_EQ(step.what, What::claim);
  EXPECT_GE(step.jobs, fuse_below);
  EXPECT_TRUE(step.flush);
}

// Who waits for a limit has the others say when they make room, and stops that when it waits no more.
TEST_F(PacingTest, ALaneBehindALimitIsTriedWhenSomebodyMakesRoom) {
  Pacing pacing({.slots = 1}, now);
  pacing.listening(now);
  live(pacing, 3s);
  sent.clear();
  live(pacing, 3s);
  EXPECT_FALSE(sent.contains(What::limit_bell)) << "nothing waits";
  pacing.looked(lane1, now);
  auto step = pacing.step(now, {});
  ASSERT_EQ(step.what, What::claim);
  pacing.claimed(lane1, none, false, now);
  pacing.blocked(1, {}, now);
  step = pacing.step(now, {});
  ASSERT_EQ(step.what, What::limit_bell);
  EXPECT_TRUE(step.on);
  pacing.limit_belled(true, now);
  now += blocked_rest;
  step = pacing.step(now, {});
  ASSERT_EQ(step.what, What::claim) << "what ended before the bell was there";
  pacing.claimed(lane1, none, false, now);
  pacing.blocked(1, {}, now);
  now += blocked_rest;
  EXPECT_NE(pacing.step(now, {}).what, What::claim);
  pacing.limit_freed(now);
  EXPECT_EQ(pacing.step(now, {}).what, What::claim);
  pacing.claimed(lane1, none, false, now);
  sent.clear();
  live(pacing, 5s);
  EXPECT_EQ(sent[What::limit_bell], 1) << "off";
}

TEST_F(PacingTest, ALaneThatRangIsAskedForOneJobAndThenForAll) {
  Pacing pacing({.slots = 4}, now);
  pacing.listening(now);
  live(pacing, 3s);
  ASSERT_TRUE(pacing.keeper());
  pacing.rang(2, now);
  auto step = pacing.step(now, {});
  EXPECT_EQ(step.what, What::claim);
  EXPECT_TRUE(step.probe);
  EXPECT_EQ(step.jobs, 1);
  pacing.claimed(step.lanes, step.lanes, false, now);
  pacing.probed(2, now);
  step = pacing.step(now, {.handed = 1});
  if (step.what != What::claim) step = pacing.step(now, {.handed = 1});
  EXPECT_EQ(step.what, What::claim);
  EXPECT_FALSE(step.probe);
  EXPECT_EQ(step.jobs, 3);
  // A busy worker does not ask for one alone.
  Pacing busy({.slots = 4}, now);
  busy.listening(now);
  live(busy, 3s);
  busy.rang(2, now);
  EXPECT_EQ(busy.step(now, {.handed = 1}).jobs, 3);
}

TEST_F(PacingTest, LargeClaimLeavesTheReportToAStatementOfItsOwn) {
  Pacing pacing({.slots = 4, .prefetch = 1000, .flush_interval = 5ms}, now);
  pacing.claimed(none, lane1, true, now);
  pacing.looked(lane1, now);
  pacing.ended(100, now);
  Load const load{.handed = 100, .unreported = true};
  auto const step = pacing.step(now, load);
  EXPECT_EQ(step.what, What::claim);
  EXPECT_FALSE(step.flush);
  // But claims never put a report off.
  now += 5ms;
  auto next = pacing.step(now, load);
  if (next.what == What::look) {
    pacing.looked(lane1, now);
    next = pacing.step(now, load);
  }
  EXPECT_EQ(next.what, What::finish);
}

TEST_F(PacingTest, QuietLaneIsClaimedThoughTheBufferIsFullEnough) {
  Pacing pacing({.slots = 4, .prefetch = 1000}, now);
  ring_beside_a_full_buffer(pacing);
  auto const step = pacing.step(now, {.handed = 900});
  EXPECT_EQ(step.what, What::claim);
  EXPECT_THAT(step.lanes, ElementsAre(2));
  EXPECT_TRUE(step.urgent);
  EXPECT_EQ(step.jobs, 4);
}

TEST_F(PacingTest, OnlyManyLongRoundTripsAreDistance) {
  Pacing pacing({.slots = 4}, now);
  for (int i = 1; i < far_after; ++i) pacing.flushed(now, 2 * far_from);
  EXPECT_FALSE(pacing.far()) << "a slow start";
  pacing.flushed(now, 2 * far_from);
  EXPECT_TRUE(pacing.far());
  pacing.flushed(now, far_from / 2);
  EXPECT_FALSE(pacing.far()) << "the shortest counts";
}

// Answers of a database that is far away come late: nothing is asked for twice meanwhile.
TEST_F(PacingTest, WhatIsOnItsWayIsNotAskedForAgain) {
  Pacing pacing({.slots = 4, .prefetch = 1000}, now);
  ring_beside_a_full_buffer(pacing);
  ASSERT_TRUE(pacing.step(now, {.handed = 900}).urgent);
  EXPECT_NE(pacing.step(now, {.handed = 900, .claiming = 4, .starting = 4, .urgent = true}).what, What::claim);
  // A thread is idle, but what may start is being reported, or comes with a claim.
  Pacing stuck({.slots = 4, .prefetch = 1000}, now);
  settle(stuck, {.handed = 4, .waiting = 900});
  EXPECT_EQ(stuck.step(now, {.handed = 1, .waiting = 900}).room, 3);
  EXPECT_NE(stuck.step(now, {.handed = 1, .waiting = 900, .reporting = true}).what, What::finish);
  EXPECT_EQ(stuck.step(now, {.handed = 1, .waiting = 900, .claiming = 2, .starting = 2}).room, 1);
  EXPECT_NE(stuck.step(now, {.handed = 1, .waiting = 900, .claiming = 3, .starting = 3}).what, What::finish);
}

TEST_F(PacingTest, IdleSlotAsksForTheBestOfAllHotLanes) {
  Pacing pacing({.slots = 1}, now);
  LaneIds const both{1, 2};
  pacing.claimed(none, lane1, true, now);
  pacing.looked(both, now);
  // Lane 2 has not been served yet; which of the two is better is the server's to say.
  auto const step = pacing.step(now, {});
  EXPECT_EQ(step.what, What::claim);
  EXPECT_THAT(step.lanes, testing::UnorderedElementsAre(1, 2));
  EXPECT_FALSE(step.urgent);
}

TEST_F(PacingTest, WaitingMembersAreRaisedWhenAThreadIsIdle) {
  Pacing pacing({.slots = 2, .prefetch = 10}, now);
  settle(pacing, {.handed = 2, .waiting = 10});
  auto const step = pacing.step(now, {.handed = 1, .waiting = 10});
  EXPECT_EQ(step.what, What::finish);
  EXPECT_EQ(step.room, 1);
}

TEST_F(PacingTest, SlowJobsAreNeverStartedAheadOfTheSlots) {
  Pacing pacing({.slots = 3}, now);
  for (int i = 0; i < 100; ++i) {
    pacing.ended(3, now);
    EXPECT_EQ(pacing.ahead(now), 3);
    now += 11ms;
  }
}

TEST_F(PacingTest, FastJobsAreStartedAhead) {
  Pacing pacing({.slots = 4, .prefetch = 2000}, now);
  // What is allowed is finished within each millisecond: the allowance grows until whole batches may start.
  int rounds = 0;
  while (pacing.ahead(now) < 2000) {
    ASSERT_LT(++rounds, 60);
    pacing.ended(std::min(pacing.ahead(now), 2000), now);
    now += 1ms;
  }
  now += 1s;
  EXPECT_EQ(pacing.ahead(now), 4);
}

TEST_F(PacingTest, SlowRoundTripsDoNotHoldFastJobsBack) {
  Pacing pacing({.slots = 4, .prefetch = 2000}, now);
  int rounds = 0;
  while (pacing.ahead(now) < 1000) {
    ASSERT_LT(++rounds, 60);
    now += 25ms;
    pacing.flushed(now, 25ms);
    pacing.ended(pacing.ahead(now), now);
  }
}

TEST_F(PacingTest, KeeperPutsBellsOnColdLanesAndSleeps) {
  Pacing pacing({.slots = 2}, now);
  pacing.listening(now);
  settle(pacing);
  EXPECT_TRUE(pacing.keeper());
  EXPECT_EQ(sent[What::keep], 1);
  EXPECT_EQ(sent[What::survey], 1);
  EXPECT_EQ(sent[What::bell], 1);
  EXPECT_GE(sent[What::check_fence], 1);
  EXPECT_EQ(pacing.lanes().bells(), 3u);
  // Lanes are claimed once more after the fence has passed.
  EXPECT_GE(sent[What::claim], 2);
}

TEST_F(PacingTest, FenceIsCheckedAtGrowingIntervalsWhileAnOldTransactionIsOpen) {
  Pacing pacing({.slots = 2}, now);
  pacing.listening(now);
  fence_passes = false;
  live(pacing, 1s);
  auto const early = sent[What::check_fence];
  EXPECT_GE(early, 8);
  EXPECT_LE(early, 12);
  sent.clear();
  live(pacing, 10s);
  EXPECT_NEAR(sent[What::check_fence], 10, 2);
  // Each check is followed by a claim of the lanes in question, so the late job is found.
  EXPECT_GE(sent[What::claim], sent[What::check_fence]);
  fence_passes = true;
  live(pacing, 2s);
  sent.clear();
  live(pacing, 10s);
  EXPECT_EQ(sent[What::check_fence], 0);
}

TEST_F(PacingTest, IdleKeeperLooksOnceASecond) {
  Pacing pacing({.slots = 2}, now);
  pacing.listening(now);
  live(pacing, 5s);
  sent.clear();
  live(pacing, 120s);
  EXPECT_NEAR(sent[What::look], 120, 3);
  EXPECT_LE(statements(), 130);
}

TEST_F(PacingTest, IdleWorkerBesideAKeeperIsNearlySilent) {
  keeps = false;
  Pacing pacing({.slots = 2}, now);
  pacing.listening(now);
  live(pacing, 30s);
  sent.clear();
  live(pacing, 100s);
  EXPECT_NEAR(sent[What::keep], 33, 2);
  EXPECT_NEAR(sent[What::look], 10, 2);
  EXPECT_LE(statements(), 55);
}

TEST_F(PacingTest, WorkersOfAFleetTakeTurns) {
  keeps = false;
  peers = 200;
  Pacing pacing({.slots = 2}, now);
  pacing.listening(now);
  live(pacing, 200s);
  sent.clear();
  live(pacing, 3'600s);
  // 120 s each, half as much shorter or longer at random.
  EXPECT_THAT(sent[What::keep], AllOf(Ge(20), Le(60)));
  EXPECT_THAT(sent[What::look], AllOf(Ge(20), Le(60)));
}

TEST_F(PacingTest, AWorkerThatIsGoneMayHaveBeenTheKeeper) {
  keeps = false;
  Pacing pacing({.slots = 2}, now);
  pacing.listening(now);
  live(pacing, 30s);
  while (pacing.step(now, {}).what == What::keep) pacing.kept(2, now);
  pacing.keeper_gone(now);
  EXPECT_EQ(pacing.step(now, {}).what, What::keep);
}

TEST_F(PacingTest, AClaimUnderWayTakesItsRoom) {
  auto const first = [this](Load const& load) { return Pacing({.slots = 2, .prefetch = 100}, now).step(now, load); };
  EXPECT_EQ(first({}).jobs, 102);
  EXPECT_EQ(first({.claiming = 52}).what, What::claim);
  EXPECT_EQ(first({.claiming = 52}).jobs, 50);
  EXPECT_NE(first({.claiming = 102}).what, What::claim);
}

TEST_F(PacingTest, RungLaneIsClaimedAtOnceByTheKeeperAlone) {
  Pacing keeper({.slots = 2}, now);
  keeper.listening(now);
  live(keeper, 3s);
  keeper.rang(2, now);
  auto step = keeper.step(now, {});
  EXPECT_EQ(step.what, What::claim);
  EXPECT_THAT(step.lanes, ElementsAre(2));

  keeps = false;
  Pacing other({.slots = 2}, now);
  other.listening(now);
  live(other, 3s);
  other.rang(2, now);
  EXPECT_NE(other.step(now, {}).what, What::claim);
  other.called(now);
  step = other.step(now, {});
  EXPECT_EQ(step.what, What::claim);
  EXPECT_THAT(step.lanes, IsEmpty());
}

TEST_F(PacingTest, RingAfterSparseJobsCostsFewStatements) {
  Pacing pacing({.slots = 2}, now);
  pacing.listening(now);
  live(pacing, 3s);
  sent.clear();
  pacing.rang(2, now);
  auto const step = pacing.step(now, {});
  pacing.claimed(step.lanes, LaneIds{2}, false, now);
  live(pacing, 500ms);
  EXPECT_LE(statements(), 3);  // one more claim, and at most one look
  EXPECT_TRUE(pacing.lanes().has_bell(2));
}

TEST_F(PacingTest, BacklogTakesTheBellOffAndItsEndPutsItOnAgain) {
  Pacing pacing({.slots = 2}, now);
  pacing.listening(now);
  live(pacing, 3s);
  pacing.rang(2, now);
  auto const step = pacing.step(now, {});
  pacing.claimed(step.lanes, LaneIds{2}, true, now);
  sent.clear();
  settle(pacing, {.handed = 1});
  EXPECT_EQ(sent[What::unbell], 1);
  EXPECT_FALSE(pacing.lanes().has_bell(2));
  live(pacing, 1s);
  EXPECT_EQ(sent[What::bell], 1);
  EXPECT_TRUE(pacing.lanes().has_bell(2));
}

TEST_F(PacingTest, FullKeeperHandsOn) {
  Pacing pacing({.slots = 2}, now);
  pacing.listening(now);
  live(pacing, 3s);
  Load const full{.handed = 2};
  settle(pacing, full);
  sent.clear();
  pacing.rang(2, now);
  settle(pacing, full);
  EXPECT_EQ(sent[What::hand_on], 1);
  EXPECT_EQ(sent[What::claim], 0);
  for (int i = 0; i < 50; ++i) {
    pacing.rang(2, now += 2ms);
    settle(pacing, full);
  }
  EXPECT_LE(sent[What::hand_on], 4);
}

TEST_F(PacingTest, FullKeeperPutsBellsOnWhatItCannotTry) {
  all_lanes = {1};
  Pacing pacing({.slots = 1}, now);
  pacing.listening(now);
  Load const full{.handed = 1};
  auto const step = pacing.step(now, {});
  ASSERT_EQ(step.what, What::claim);
  pacing.claimed(step.lanes, lane1, true, now);
  live(pacing, 300ms, full);
  EXPECT_TRUE(pacing.lanes().has_bell(1));
  EXPECT_GE(sent[What::look], 2);  // before the bell, and after its fence
  sent.clear();
  live(pacing, 10s, full);
  EXPECT_NEAR(sent[What::look], 10, 2);
  EXPECT_EQ(sent[What::hand_on], 0);
}

TEST_F(PacingTest, BusyKeeperStillPutsBellsOn) {
  Pacing pacing({.slots = 2}, now);
  pacing.listening(now);
  // Lane 9 always has work: every claim is full.
  pacing.claimed(none, LaneIds{9}, true, now);
  int bells = 0;
  for (int i = 0; i < 100; ++i) {
    now += 1ms;
    auto const step = pacing.step(now, {});
    if (step.what == What::bell) ++bells;
    if (step.what == What::claim) {
      pacing.claimed(step.lanes, LaneIds{9}, true, now);
    } else if (step.what == What::look) {
      pacing.looked(LaneIds{9}, now);
    } else {
      answer(pacing, step);
    }
  }
  EXPECT_EQ(bells, 1);
  EXPECT_EQ(pacing.lanes().bells(), 3u);
}

TEST_F(PacingTest, LostListenConnectionTakesTheBellsAlong) {
  Pacing pacing({.slots = 2}, now);
  pacing.listening(now);
  live(pacing, 3s);
  pacing.deaf(now);
  EXPECT_FALSE(pacing.keeper());
  EXPECT_EQ(pacing.lanes().bells(), 0u);
  sent.clear();
  live(pacing, 10s);
  EXPECT_EQ(sent[What::keep], 0);
  EXPECT_NEAR(sent[What::look], 40, 8);  // polling
  pacing.listening(now);
  settle(pacing);
  EXPECT_TRUE(pacing.keeper());
  EXPECT_EQ(pacing.lanes().bells(), 3u);
}

TEST_F(PacingTest, PollingSpeedsUpWithWork) {
  Pacing pacing({.slots = 2}, now);
  live(pacing, 10s);
  settle(pacing);
  auto const idle = until - now;
  pacing.looked(lane1, now);
  auto const step = pacing.step(now, {});
  pacing.claimed(step.lanes, lane1, false, now);
  settle(pacing);
  EXPECT_LT(until - now, 5ms);
  EXPECT_LE(idle, deaf_poll_last);
}

TEST_F(PacingTest, BellHeldByAnotherProfileIsTriedAgainLater) {
  Pacing pacing({.slots = 2}, now);
  pacing.listening(now);
  int bells = 0;
  auto const end = now + 21s;
  while (now < end) {
    auto const step = pacing.step(now, {});
    if (step.what == What::wait) {
      now = step.until;
    } else if (step.what == What::bell) {
      ++bells;
      pacing.belled(step.lanes, none, now);
    } else {
      answer(pacing, step);
    }
  }
  EXPECT_GE(bells, 3);
  EXPECT_LE(bells, 6);
}

TEST_F(PacingTest, BellsAreBounded) {
  all_lanes.clear();
  for (int i = 1; i <= 5000; ++i) all_lanes.push_back(i);
  Pacing pacing({.slots = 2}, now);
  pacing.listening(now);
  live(pacing, 70s);
  EXPECT_EQ(pacing.lanes().bells(), max_bells);
}

TEST_F(PacingTest, RefusalsAreWaitedOut) {
  Pacing pacing({.slots = 2}, now);
  Clock::duration waited{};
  for (int i = 0; i < 12; ++i) {
    ASSERT_NE(pacing.step(now, {}).what, What::wait);
    pacing.failed(now);
    auto const step = pacing.step(now, {});
    ASSERT_EQ(step.what, What::wait);
    EXPECT_GE(step.until - now, waited);
    waited = step.until - now;
    now = step.until;
  }
  EXPECT_LE(waited, 2s);
}

TEST_F(PacingTest, ClaimsShrinkWhileTheServerIsOverloadedAndGrowAgain) {
  Pacing pacing({.slots = 64}, now);
  pacing.overloaded();
  EXPECT_EQ(pacing.most(), max_jobs_a_claim / 2);
  for (int i = 0; i < 20; ++i) pacing.overloaded();
  EXPECT_EQ(pacing.most(), 1) << "never nothing";
  pacing.claimed(none, lane1, true, now);
  EXPECT_EQ(pacing.most(), 2);
  for (int i = 0; i < 20; ++i) pacing.claimed(none, lane1, true, now);
  EXPECT_EQ(pacing.most(), max_jobs_a_claim);
}

TEST_F(PacingTest, DamagedDataAreNotClaimedForAWhileWhatEndsIsReported) {
  Pacing pacing({.slots = 2}, now);
  pacing.listening(now);
  pacing.looked(lane1, now);
  pacing.damaged(now);
  auto const again = now + damaged_for;
  live(pacing, damaged_for - 1ms);
  EXPECT_EQ(sent[What::claim], 0);
  pacing.ended(1, now);
  EXPECT_EQ(pacing.step(now, {.handed = 1, .unreported = true}).what, What::finish);
  now = again;
  live(pacing, 5s);
  EXPECT_GT(sent[What::claim], 0);
}

TEST_F(PacingTest, StoppingOnlyReports) {
  Pacing pacing({.slots = 2}, now);
  pacing.listening(now);
  pacing.looked(lane1, now);
  pacing.stopping();
  EXPECT_EQ(pacing.step(now, {}).what, What::wait);
  pacing.ended(1, now);
  EXPECT_EQ(pacing.step(now, {.unreported = true}).what, What::finish);
}

TEST_F(PacingTest, NewLaneMakesTheKeeperLook) {
  Pacing pacing({.slots = 2}, now);
  pacing.listening(now);
  live(pacing, 3s);
  all_lanes.push_back(4);
  pacing.new_lane(now);
  auto const step = pacing.step(now, {});
  EXPECT_EQ(step.what, What::claim);
  EXPECT_THAT(step.lanes, IsEmpty());
  answer(pacing, step);
  settle(pacing);
  EXPECT_EQ(pacing.lanes().bells(), 4u);
}

}  // namespace
}  // namespace posthouse::claim
