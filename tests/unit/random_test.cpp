// SPDX-License-Identifier: Apache-2.0
#include "base/random.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace posthouse::base {
namespace {

TEST(Random, UnitIsSpreadOverZeroToOne) {
  double least = 1;
  double most = 0;
  for (int i = 0; i < 1000; ++i) {
    double const value = random_unit();
    ASSERT_GE(value, 0.0);
    ASSERT_LT(value, 1.0);
    least = std::min(least, value);
    most = std::max(most, value);
  }
  EXPECT_LT(least, 0.1);  // by chance once in 10^45 runs
  EXPECT_GT(most, 0.9);
}

}  // namespace
}  // namespace posthouse::base
