// SPDX-License-Identifier: Apache-2.0
// Whose turn it is: weights of kinds, lanes that share a kind's turns.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "claim/lanes.hpp"
#include "complete/batch_book.hpp"

namespace posthouse::claim {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

class LaneTurns : public testing::Test {
 protected:
  void know(std::int64_t lane, std::string const& kind, int weight = 1, int priority = 0) {
    lanes.know(lane, {.kind = kind, .priority = priority, .weight = weight});
    lanes.heat(lane, now);
    kinds[lane] = kind;
  }
  /// A claim that the first lane fills; returns the lane.
  std::int64_t turn() {
    auto const due = lanes.due(now);
    auto const first = due.front();
    lanes.claimed(due, std::span(&first, 1), true, now);
    return first;
  }
  std::string turns(int n) {
    std::string text;
    for (int i = 0; i < n; ++i) text += kinds.at(turn());
    return text;
  }

  Lanes lanes;
  Time now = Clock::now();
  std::map<std::int64_t, std::string> kinds;
};

TEST_F(LaneTurns, OneEachWithoutWeights) {
  know(1, "a");
  know(2, "b");
  know(3, "c");
  auto const text = turns(9);
  EXPECT_EQ(text.substr(0, 3), text.substr(3, 3));
  EXPECT_EQ(text.substr(0, 3), text.substr(6, 3));
  for (char kind : std::string("abc")) EXPECT_EQ(std::count(text.begin(), text.end(), kind), 3);
}

TEST_F(LaneTurns, WeightsAreExactInEachRound) {
  for (auto const& [a, b, c] : std::vector<std::tuple<int, int, int>>{{3, 1, 1}, {6, 3, 1}, {16, 5, 2}, {1, 1, 7}}) {
    lanes = {};
    know(1, "a", a);
    know(2, "b", b);
    know(3, "c", c);
    int const round = a + b + c;
    auto const text = turns(50 * round);
    for (int i = 0; i + round <= 50 * round; i += round) {
      auto const one = text.substr(static_cast<std::size_t>(i), static_cast<std::size_t>(round));
      ASSERT_EQ(std::count(one.begin(), one.end(), 'a'), a) << one;
      ASSERT_EQ(std::count(one.begin(), one.end(), 'b'), b) << one;
    }
  }
}

// The bound of docs/guides/limits.md: between two turns of a kind, of each other one its weight divided by ours, rounded
// up, and one.
TEST_F(LaneTurns, NobodyWaitsLongerThanTheBound) {
  std::map<std::string, int> const weights{{"a", 100}, {"b", 7}, {"c", 1}, {"d", 33}};
  std::int64_t lane = 0;
  for (auto const& [kind, weight] : weights) know(++lane, kind, weight);
  auto const text = turns(5000);
  for (auto const& [kind, weight] : weights) {
    std::size_t last = text.find(kind);
    for (auto next = text.find(kind, last + 1); next != std::string::npos; next = text.find(kind, next + 1)) {
      for (auto const& [other, turns_of] : weights) {
        auto const between = std::count(text.begin() + static_cast<std::ptrdiff_t>(last + 1),
                                        text.begin() + static_cast<std::ptrdiff_t>(next), other[0]);
        ASSERT_LE(between, (turns_of + weight - 1) / weight + 1) << other << " between two of " << kind;
      }
      last = next;
    }
  }
}

TEST_F(LaneTurns, LanesOfAKindShareItsTurns) {
  for (std::int64_t lane = 1; lane <= 10; ++lane) know(lane, "a");
  know(11, "b");
  std::map<std::int64_t, int> served;
  for (int i = 0; i < 200; ++i) ++served[turn()];
  EXPECT_EQ(served[11], 100);
  for (std::int64_t lane = 1; lane <= 10; ++lane) EXPECT_EQ(served[lane], 10) << lane;
}

TEST_F(LaneTurns, AClaimOfSeveralLanesIsOneTurnOfTheirKind) {
  know(1, "a");
  know(2, "a");
  know(3, "b");
  lanes.claimed(LaneIds{1, 2, 3}, LaneIds{1, 2}, true, now);
  EXPECT_EQ(turns(4), "baba");
}

TEST_F(LaneTurns, WhoWasIdleHasSavedNothingUp) {
  know(1, "a");
  know(2, "b");
  turns(2);
  auto const idle = now;
  lanes.claimed(LaneIds{2}, LaneIds{}, false, idle);  // b is empty for now
  for (int i = 0; i < 100; ++i) ASSERT_EQ(kinds.at(turn()), "a");
  lanes.heat(2, now);
  auto const text = turns(10);
  EXPECT_EQ(std::count(text.begin(), text.end(), 'b'), 5) << text;
}

TEST_F(LaneTurns, TurnsOutOfOrderCostOneAtMost) {
  know(1, "a");
  know(2, "b");
  turns(2);
  for (int i = 0; i < 50; ++i) lanes.claimed(LaneIds{2}, LaneIds{2}, true, now);  // as a lane that rings is claimed
  auto const text = turns(12);
  EXPECT_LE(text.find('b'), 2U) << text;
}

TEST_F(LaneTurns, EachPriorityHasItsOwnAccount) {
  know(1, "a", 1, 5);
  know(2, "b", 1, 0);
  know(3, "a", 1, 0);
  for (int i = 0; i < 100; ++i) lanes.claimed(LaneIds{1, 2, 3}, LaneIds{1}, true, now);
  std::string text;
  for (int i = 0; i < 10; ++i) {
    auto due = lanes.due(now);
    std::erase(due, 1);  // has no work now
    auto const first = due.front();
    lanes.claimed(due, std::span(&first, 1), true, now);
    text += kinds.at(first);
  }
  EXPECT_EQ(std::count(text.begin(), text.end(), 'a'), 5) << text;
}

TEST_F(LaneTurns, AWeightCanChange) {
  know(1, "a", 1);
  know(2, "b", 1);
  turns(10);
  lanes.know(1, {.kind = "a", .weight = 4});
  auto const text = turns(50);
  auto const later = text.substr(5);
  EXPECT_NEAR(static_cast<double>(std::count(later.begin(), later.end(), 'b')), 9, 1) << text;
}

// What is sent ahead of a reply goes by the same turns.
TEST_F(LaneTurns, AClaimSentAheadIsOfTheNextTurn) {
  know(1, "a", 2);
  know(2, "b", 1);
  know(3, "b", 1);
  turns(30);
  for (int i = 0; i < 30; ++i) {
    auto const due = lanes.due(now);
    auto const ahead = lanes.after_turn(due);
    EXPECT_THAT(ahead, testing::UnorderedElementsAreArray(due));
    auto const first = due.front();
    lanes.claimed(due, std::span(&first, 1), true, now);
    EXPECT_EQ(lanes.due(now).front(), ahead.front()) << i;
  }
  EXPECT_TRUE(lanes.after_turn({}).empty());
  EXPECT_THAT(lanes.after_turn({77}), ElementsAre(77));
}

TEST_F(LaneTurns, UnknownLanesTakeTurnsForThemselves) {
  for (std::int64_t lane = 1; lane <= 3; ++lane) lanes.heat(lane, now);
  std::map<std::int64_t, int> served;
  for (int i = 0; i < 30; ++i) ++served[turn()];
  for (std::int64_t lane = 1; lane <= 3; ++lane) EXPECT_EQ(served[lane], 10);
}

// The same with the handlers, in turns of 64 jobs.
TEST(HandOutTurns, OfWeightedKindsAndOfTheirLanes) {
  complete::BatchBook book;
  auto claim = std::make_shared<store::Claim>();
  for (std::int64_t lane = 1; lane <= 3; ++lane) {
    for (int i = 0; i < 600; ++i) {
      claim->jobs.push_back({.token = lane, .lane = lane, .position = i, .id = lane * 1000 + i});
    }
  }
  book.know(1, 0, 2);
  book.know(2, 1, 1);
  book.know(3, 1, 1);
  book.open(claim, 1800);
  std::string turns;
  for (int i = 0; i < 8 * 64; i += 64) {
    std::int64_t lane = 0;
    for (int j = 0; j < 64; ++j) {
      auto const* job = book.next();
      ASSERT_NE(job, nullptr);
      if (j == 0) lane = job->lane;
      ASSERT_EQ(job->lane, lane) << "in the middle of a turn";
    }
    turns += std::to_string(lane);
  }
  EXPECT_EQ(turns, "11211311");
}

}  // namespace
}  // namespace posthouse::claim
