// SPDX-License-Identifier: Apache-2.0
// How long a worker waits between heartbeats and between rounds of the leader.
#include "duties/heart.hpp"

#include <gtest/gtest.h>

namespace {

using namespace std::chrono_literals;
using posthouse::duties::large_fleet;
using posthouse::duties::next_beat;

TEST(Heart, OnlyIdleWorkersOfALargeFleetBeatAThirdAsOften) {
  EXPECT_EQ(next_beat(5s, 30s, {.running = 0, .fleet = large_fleet - 1}), 5s);
  EXPECT_EQ(next_beat(5s, 30s, {.running = 1, .fleet = large_fleet}), 5s);
  EXPECT_EQ(next_beat(5s, 30s, {.running = 0, .fleet = large_fleet}), 15s);
}

TEST(Heart, TwoHeartbeatsFitIntoALease) {
  EXPECT_EQ(next_beat(5s, 24s, {.fleet = 200}), 12s);
  EXPECT_EQ(next_beat(5s, 10s, {.fleet = 200}), 5s);
  EXPECT_EQ(next_beat(600ms, 1s, {.fleet = 200}), 600ms) << "an interval beyond half of the lease stays as it is";
}

TEST(Heart, TheLeaderWaitsUntilTheNextJobIsDue) {
  using posthouse::duties::next_round;
  EXPECT_EQ(next_round({.promoted = 5'000, .next_due_ms = 400}), 0ms) << "a full round: more is due already";
  EXPECT_EQ(next_round({.next_due_ms = -1}), posthouse::duties::round_every);
  EXPECT_EQ(next_round({.next_due_ms = 1}), posthouse::duties::round_at_soonest);
  EXPECT_EQ(next_round({.next_due_ms = 60'000}), posthouse::duties::round_every);
}

}  // namespace
