// SPDX-License-Identifier: Apache-2.0
// Which timelines of a cluster are taken.
#include "pg/lineage.hpp"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace posthouse::pg {
namespace {

TEST(LineageTest, OnlyTheHighestTimelineAndLaterOnesAreTaken) {
  auto const line = Lineage::of("url of LineageTest", 1);
  EXPECT_TRUE(line->meet(2));
  EXPECT_TRUE(line->meet(2));
  EXPECT_FALSE(line->meet(1));
  EXPECT_EQ(line->highest(), 2);
  EXPECT_TRUE(line->meet(5));
  EXPECT_FALSE(line->meet(4));
}

TEST(LineageTest, EachUrlAndClusterHasItsOwn) {
  auto const line = Lineage::of("url one", 7);
  EXPECT_EQ(Lineage::of("url one", 7), line);
  EXPECT_TRUE(line->meet(9));
  EXPECT_TRUE(Lineage::of("url one", 8)->meet(1)) << "a server that was set up anew";
  EXPECT_TRUE(Lineage::of("url two", 7)->meet(1)) << "a clone that somebody works with on purpose";
}

TEST(LineageTest, ManyThreadsAgreeOnTheHighest) {
  auto const line = Lineage::of("url of many", 1);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 1; i <= 1000; ++i) line->meet(4 * i + t);
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(line->highest(), 4003);
}

}  // namespace
}  // namespace posthouse::pg
