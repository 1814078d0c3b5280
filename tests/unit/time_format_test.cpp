// SPDX-License-Identifier: Apache-2.0
#include "core/time_format.hpp"

#include <gtest/gtest.h>

#include <posthouse/error.hpp>

namespace posthouse::core {
namespace {

using std::chrono::microseconds;
using std::chrono::system_clock;

std::string again(std::string_view text) { return format_time(parse_time("run_at", text)); }

TEST(Time, FormatsInUtcWithSixDecimals) {
  EXPECT_EQ(format_time({}), "1970-01-01T00:00:00.000000Z");
  EXPECT_EQ(format_time(system_clock::time_point(microseconds(-1))), "1969-12-31T23:59:59.999999Z");
  EXPECT_EQ(format_time(system_clock::time_point(microseconds(1'763'711'880'000'123))), "2025-11-21T07:58:00.000123Z");
}

TEST(Time, ReadsWhatItWrites) {
  for (std::int64_t const us :
       {0LL, 1LL, -1LL, 951'782'399'999'999LL, 9'000'000'000'000'000LL, -9'000'000'000'000'000LL}) {
    system_clock::time_point const time{microseconds(us)};
    EXPECT_EQ(parse_time("t", format_time(time)), time) << us;
  }
}

TEST(Time, ReadsOffsetsAndPostgresForm) {
  EXPECT_EQ(again("2025-11-21T07:58:00Z"), "2025-11-21T07:58:00.000000Z");
  EXPECT_EQ(again("2025-11-21t07:58:00z"), "2025-11-21T07:58:00.000000Z");
  EXPECT_EQ(again("2025-11-21T08:58:00.5+01:00"), "2025-11-21T07:58:00.500000Z");
  EXPECT_EQ(again("2025-11-21T02:28:00-05:30"), "2025-11-21T07:58:00.000000Z");
  EXPECT_EQ(again("2025-11-21 07:58:00.123456+00"), "2025-11-21T07:58:00.123456Z");
  EXPECT_EQ(again("2025-01-01T00:30:00+01:00"), "2024-12-31T23:30:00.000000Z");
  EXPECT_EQ(again("2024-02-29T23:59:59Z"), "2024-02-29T23:59:59.000000Z");
}

TEST(Time, FinerThanMicrosecondsIsCut) {
  EXPECT_EQ(again("2025-11-21T07:58:00.123456789Z"), "2025-11-21T07:58:00.123456Z");
  EXPECT_EQ(again("2025-11-21T07:58:00.999999999+00:00"), "2025-11-21T07:58:00.999999Z");
}

TEST(Time, RefusesTheRest) {
  for (std::string_view const text : {"",
                                      "infinity",
                                      "-infinity",
                                      "now",
                                      "2025-11-21",
                                      "2025-11-21T07:58:00",
                                      "2025-11-21T07:58Z",
                                      "2025-13-01T00:00:00Z",
                                      "2025-02-29T00:00:00Z",
                                      "2025-11-21T24:00:00Z",
                                      "2025-11-21T07:60:00Z",
                                      "2025-11-21T07:58:61Z",
                                      "2025-11-21T07:58:00ZZ",
                                      "2025-11-21T07:58:00Z x",
                                      "2025-11-21T07:58:00 Europe/Berlin",
                                      "1600-01-01T00:00:00Z",
                                      "2300-01-01T00:00:00Z",
                                      "9999-12-31T23:59:59Z",
                                      "12025-11-21T07:58:00Z",
                                      "2025-11-21T07:58:00.Z.",
                                      "1763711880"}) {
    EXPECT_THROW(parse_time("run_at", text), InvalidArgument) << text;
  }
}

TEST(Time, ErrorNamesTheArgument) {
  try {
    parse_time("run_at", "infinity");
    FAIL();
  } catch (InvalidArgument const& error) {
    EXPECT_TRUE(std::string(error.what()).starts_with("run_at is \"infinity\"; allowed: a time with its offset"));
  }
}

}  // namespace
}  // namespace posthouse::core
