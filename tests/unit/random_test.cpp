// SPDX-License-Identifier: Apache-2.0
#include "base/random.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

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

TEST(Random, UuidsAreOfVersion4AndDiffer) {
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) {
    auto const uuid = random_uuid();
    ASSERT_EQ(uuid.size(), 36U);
    for (std::size_t at = 0; at < uuid.size(); ++at) {
      bool const dash = at == 8 || at == 13 || at == 18 || at == 23;
      ASSERT_TRUE(dash ? uuid[at] == '-' : std::string("0123456789abcdef").find(uuid[at]) != std::string::npos) << uuid;
    }
    ASSERT_EQ(uuid[14], '4');
    ASSERT_NE(std::string("89ab").find(uuid[19]), std::string::npos);
    seen.insert(uuid);
  }
  EXPECT_EQ(seen.size(), 1000U);
}

}  // namespace
}  // namespace posthouse::base
