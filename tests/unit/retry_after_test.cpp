// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <chrono>

#include "core/retry_after.hpp"

namespace posthouse::core {
namespace {

using namespace std::chrono;
using namespace std::chrono_literals;

// Sun, 06 Nov 1994 08:49:37 GMT
constexpr sys_seconds kThen{784111777s};

TEST(RetryAfter, TakesSeconds) {
  EXPECT_EQ(parse_retry_after("120", kThen), 120s);
  EXPECT_EQ(parse_retry_after(" 0\t", kThen), 0s);
  EXPECT_EQ(parse_retry_after("99999999999999999999999", kThen), longest_retry_after);
}

TEST(RetryAfter, TakesTheThreeFormsOfADate) {
  auto const now = kThen - 90s;
  EXPECT_EQ(parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), 90s);
  EXPECT_EQ(parse_retry_after("Sunday, 06-Nov-94 08:49:37 GMT", now), 90s);
  EXPECT_EQ(parse_retry_after("Sun Nov  6 08:49:37 1994", now), 90s);
  EXPECT_EQ(parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now + 500ms), 89'500ms);
  EXPECT_EQ(parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", kThen + 1h), 0s);
  EXPECT_EQ(parse_retry_after("Fri, 06 Nov 9999 08:49:37 GMT", now), longest_retry_after);
}

TEST(RetryAfter, TakesNothingElse) {
  for (auto const* text :
       {"", "  ", "-1", "1.5", "1e3", "0x10", "soon", "1, 2", "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 PST", "Sun, 31 Feb 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT", "Sun, 06 Foo 1994 08:49:37 GMT", "1994-11-06T08:49:37Z"}) {
    EXPECT_FALSE(parse_retry_after(text, kThen)) << text;
  }
}

}  // namespace
}  // namespace posthouse::core
