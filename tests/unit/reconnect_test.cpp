// SPDX-License-Identifier: Apache-2.0
#include "core/reconnect.hpp"

#include <gtest/gtest.h>

namespace posthouse::core {
namespace {

using std::chrono::milliseconds;

TEST(Reconnect, CeilingDoublesToTheCap) {
  ReconnectBackoff backoff;
  for (int const ceiling : {100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000}) {
    EXPECT_EQ(backoff.next(0.99), milliseconds(ceiling * 99 / 100));
  }
  EXPECT_EQ(backoff.failures(), 9);
}

TEST(Reconnect, JitterIsFullButNeverZero) {
  ReconnectBackoff backoff;
  EXPECT_EQ(backoff.next(0.0), milliseconds(1));
  EXPECT_EQ(backoff.next(0.5), milliseconds(100));
}

TEST(Reconnect, LowerCapHoldsAtOnce) {
  ReconnectBackoff backoff;
  for (int i = 0; i < 9; ++i) backoff.next(0.5);
  backoff.set_cap(milliseconds(1500));
  EXPECT_EQ(backoff.next(0.5), milliseconds(750));
  backoff.set_cap(milliseconds(4500));
  EXPECT_EQ(backoff.next(0.5), milliseconds(750));
  EXPECT_EQ(backoff.next(0.5), milliseconds(1500));
}

TEST(Reconnect, ResetBeginsAgain) {
  ReconnectBackoff backoff(milliseconds(10), milliseconds(40));
  for (int i = 0; i < 1000; ++i) EXPECT_LE(backoff.next(0.999), milliseconds(40));
  backoff.reset();
  EXPECT_EQ(backoff.failures(), 0);
  EXPECT_EQ(backoff.next(0.5), milliseconds(5));
}

}  // namespace
}  // namespace posthouse::core
