// SPDX-License-Identifier: Apache-2.0
// The benchmark's arithmetic: medians, percentiles, pairs, and how figures are printed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <limits>

#include "bench/figures.hpp"

namespace posthouse::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(BenchFigures, MedianOfOddAndEven) {
  EXPECT_EQ(median({}), 0);
  EXPECT_EQ(median({7}), 7);
  EXPECT_EQ(median({9, 1, 5}), 5);
  EXPECT_EQ(median({9, 1, 5, 6}), 5.5);
}

TEST(BenchFigures, PercentileIsAValueThatWasMeasured) {
  EXPECT_EQ(percentile({}, 0.5), 0);
  std::vector<double> hundred_and_one;
  for (int i = 100; i >= 0; --i) hundred_and_one.push_back(i);
  EXPECT_EQ(percentile(hundred_and_one, 0), 0);
  EXPECT_EQ(percentile(hundred_and_one, 0.5), 50);
  EXPECT_EQ(percentile(hundred_and_one, 0.99), 99);
  EXPECT_EQ(percentile(hundred_and_one, 1), 100);
}

TEST(BenchFigures, WhoIsFirstAlternates) {
  std::vector<char> order;
  Pairs pairs;
  for (int turn = 0; turn < 3; ++turn) {
    pairs.measure(
        turn,
        [&] {
          order.push_back('o');
          return 2.0 * turn;
        },
        [&] {
          order.push_back('r');
          return 4.0;
        });
  }
  EXPECT_THAT(order, ElementsAre('o', 'r', 'r', 'o', 'o', 'r'));
  EXPECT_THAT(pairs.ours, ElementsAre(0, 2, 4));
  EXPECT_THAT(pairs.raw, ElementsAre(4, 4, 4));
}

TEST(BenchFigures, ARatioIsTheMedianOfThePairs) {
  EXPECT_EQ(Pairs{}.ratio(), 0);
  // The ratio of the medians would be 2 / 2.
  EXPECT_EQ((Pairs{.ours = {1, 2, 9}, .raw = {2, 1, 3}}.ratio()), 2);
  EXPECT_EQ((Pairs{.ours = {1}, .raw = {0}}.ratio()), 0);
}

TEST(BenchFigures, PrintsOneDocument) {
  Figures figures;
  figures.compare("ours", "raw", "ratio", {.ours = {3000, 1000, 2000}, .raw = {4000, 4000, 4000}});
  figures.add("small", 0.00012345);
  figures.add("none", std::numeric_limits<double>::infinity());
  auto const document = boost::json::parse(figures.json()).as_object();
  EXPECT_EQ(document.at("ours").to_number<double>(), 2000);
  EXPECT_EQ(document.at("raw").to_number<double>(), 4000);
  EXPECT_EQ(document.at("ratio").to_number<double>(), 0.5);
  EXPECT_EQ(document.at("small").to_number<double>(), 0.0001234);
  EXPECT_TRUE(document.at("none").is_null());
  EXPECT_FALSE(document.contains("failed"));
  EXPECT_FALSE(figures.any_failed());
}

TEST(BenchFigures, WhatFailedIsNamedBesideTheOthers) {
  Figures figures;
  figures.add("one", 1);
  Figures more;
  more.add("two", 2);
  more.fail("workers", "the \"server\" is\nfull");
  more.fail("fleet", "too");
  figures.append(more);
  EXPECT_TRUE(figures.any_failed());
  auto const document = boost::json::parse(figures.json()).as_object();
  EXPECT_EQ(document.at("two").to_number<double>(), 2);
  EXPECT_EQ(document.at("failed").at("workers").as_string(), "the \"server\" is\nfull");
  EXPECT_EQ(document.at("failed").at("fleet").as_string(), "too");
  EXPECT_THAT(figures.table(), HasSubstr("fleet failed: too\n"));
  Figures nothing;
  nothing.fail("all", "x");
  EXPECT_EQ(boost::json::parse(nothing.json()).at("failed").at("all").as_string(), "x");
}

}  // namespace
}  // namespace posthouse::bench
