// SPDX-License-Identifier: Apache-2.0
#include "core/backoff.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <posthouse/error.hpp>
#include <stdexcept>

namespace posthouse::core {
namespace {

constexpr double middle = 0.5;  // no jitter either way
constexpr std::int64_t huge = std::numeric_limits<std::int64_t>::max();

TEST(BackoffDelay, ExponentialDoublesToTheCap) {
  auto const backoff = Backoff::exponential(milliseconds(1000), milliseconds(10'000));
  EXPECT_EQ(delay_ms(backoff, 1, middle), 1000);
  EXPECT_EQ(delay_ms(backoff, 2, middle), 2000);
  EXPECT_EQ(delay_ms(backoff, 4, middle), 8000);
  EXPECT_EQ(delay_ms(backoff, 5, middle), 10'000);
  for (std::int64_t const attempt : {std::int64_t{31}, std::int64_t{32}, std::int64_t{62}, std::int64_t{63},
                                     std::int64_t{64}, std::int64_t{65}, std::int64_t{1} << 40, huge}) {
    EXPECT_EQ(delay_ms(backoff, attempt, middle), 10'000) << attempt;
  }
}

TEST(BackoffDelay, StrangeAttemptsCountAsTheFirst) {
  EXPECT_EQ(delay_ms({}, 0, middle), 1000);
  EXPECT_EQ(delay_ms({}, -huge, middle), 1000);
}

TEST(BackoffDelay, JitterSpreadsAroundTheDelay) {
  Backoff backoff;  // ±25 %
  EXPECT_EQ(delay_ms(backoff, 1, 0.0), 750);
  EXPECT_EQ(delay_ms(backoff, 1, 0.999999), 1250);
  backoff.jitter = 1;
  EXPECT_EQ(delay_ms(backoff, 1, 0.0), 0);
  EXPECT_EQ(delay_ms(backoff, 100, 0.0), 0);
  backoff.jitter = 0;
  EXPECT_EQ(delay_ms(backoff, 1, 0.0), 1000);
}

TEST(BackoffDelay, LinearGrowsByItsStep) {
  auto const backoff = Backoff::linear(milliseconds(300), milliseconds(1000));
  EXPECT_EQ(delay_ms(backoff, 1, middle), 300);
  EXPECT_EQ(delay_ms(backoff, 3, middle), 900);
  EXPECT_EQ(delay_ms(backoff, 4, middle), 1000);
  EXPECT_EQ(delay_ms(backoff, huge, middle), 1000);
}

TEST(BackoffDelay, ZeroBaseIsAtOnce) {
  EXPECT_EQ(delay_ms(Backoff::exponential(milliseconds(0)), 50, middle), 0);
  EXPECT_EQ(delay_ms(Backoff::linear(milliseconds(0)), 50, middle), 0);
}

TEST(BackoffDelay, ListRepeatsItsLastEntryAndKnowsNoCap) {
  auto const backoff = Backoff::fixed({milliseconds(5), milliseconds(70), milliseconds(7'200'000)});
  EXPECT_EQ(delay_ms(backoff, 1, 0.0), 5);
  EXPECT_EQ(delay_ms(backoff, 2, 0.9), 70);
  EXPECT_EQ(delay_ms(backoff, 3, 0.9), 7'200'000);
  EXPECT_EQ(delay_ms(backoff, huge, 0.9), 7'200'000);
}

TEST(BackoffDelay, CustomIsCalledWithTheAttemptAndHeldInBounds) {
  EXPECT_EQ(delay_ms(Backoff::from([](std::int64_t n) { return milliseconds(n * 7); }), 3, middle), 21);
  EXPECT_EQ(delay_ms(Backoff::from([](std::int64_t) { return milliseconds(-5); }), 3, middle), 0);
  EXPECT_EQ(delay_ms(Backoff::from([](std::int64_t) { return milliseconds::max(); }), 3, middle), max_delay_ms);
  EXPECT_EQ(delay_ms(Backoff::from([](std::int64_t) -> milliseconds { throw std::runtime_error("x"); }), 3, middle),
            4000);
}

TEST(BackoffValidate, AcceptsTheFactories) {
  EXPECT_NO_THROW(validate(Backoff{}));
  EXPECT_NO_THROW(validate(Backoff::linear(milliseconds(1))));
  EXPECT_NO_THROW(validate(Backoff::fixed({milliseconds(0)})));
  EXPECT_NO_THROW(validate(Backoff::from([](std::int64_t) { return milliseconds(1); })));
}

TEST(BackoffValidate, RefusesEachFieldOutOfRange) {
  auto const bad = [](auto change) {
    Backoff backoff;
    change(backoff);
    EXPECT_THROW(validate(backoff), InvalidArgument);
  };
  bad([](Backoff& b) { b.base = milliseconds(-1); });
  bad([](Backoff& b) { b.base = std::chrono::hours(25); });
  bad([](Backoff& b) { b.cap = milliseconds(-1); });
  bad([](Backoff& b) { b.cap = std::chrono::hours(24 * 31); });
  bad([](Backoff& b) { b.jitter = -0.1; });
  bad([](Backoff& b) { b.jitter = 1.1; });
  bad([](Backoff& b) { b.jitter = std::numeric_limits<double>::quiet_NaN(); });
  bad([](Backoff& b) { b.kind = Backoff::Kind::fixed_list; });
  bad([](Backoff& b) { b = Backoff::fixed({milliseconds(1), milliseconds(-1)}); });
  bad([](Backoff& b) { b.kind = Backoff::Kind::custom; });
}

}  // namespace
}  // namespace posthouse::core
