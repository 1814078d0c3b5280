// SPDX-License-Identifier: Apache-2.0
#include "core/duration.hpp"

#include <gtest/gtest.h>

#include <posthouse/error.hpp>

namespace posthouse::core {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

milliseconds parse(std::string_view text, milliseconds unit = 1s) { return parse_duration("timeout", text, unit); }

TEST(Duration, ReadsEachUnit) {
  EXPECT_EQ(parse("250ms"), 250ms);
  EXPECT_EQ(parse("30s"), 30s);
  EXPECT_EQ(parse("5m"), 5min);
  EXPECT_EQ(parse("1h"), 1h);
  EXPECT_EQ(parse("2d"), 48h);
  EXPECT_EQ(parse("0"), 0ms);
  EXPECT_EQ(parse("0s"), 0ms);
}

TEST(Duration, PlainNumbersHaveTheKeysUnit) {
  EXPECT_EQ(parse("30", 1s), 30s);
  EXPECT_EQ(parse("30", 1ms), 30ms);
  EXPECT_EQ(parse("1.5", 1s), 1500ms);
}

TEST(Duration, FractionsAreExactOrRefused) {
  EXPECT_EQ(parse("1.5s"), 1500ms);
  EXPECT_EQ(parse("0.1s"), 100ms);
  EXPECT_EQ(parse("1.1h"), 3960s);
  EXPECT_EQ(parse("0.25d"), 6h);
  EXPECT_THROW(parse("0.5ms"), InvalidArgument);
  EXPECT_THROW(parse("0.0001s"), InvalidArgument);
}

TEST(Duration, RefusesTheRest) {
  for (std::string_view const text : {"",
                                      "s",
                                      "-1s",
                                      "-1",
                                      "+1s",
                                      "1 s",
                                      " 1s",
                                      "1S",
                                      "1min",
                                      "1w",
                                      "1h30m",
                                      "1e3",
                                      ".5s",
                                      "1.s",
                                      "1..5s",
                                      "1.2.3s",
                                      "0x10",
                                      "infinity",
                                      "36501d",
                                      "99999999999999999999s",
                                      "9223372036854775807d",
                                      "1.0000000000s"}) {
    EXPECT_THROW(parse(text), InvalidArgument) << text;
  }
  EXPECT_EQ(parse("36500d"), 36500 * 24h);
}

TEST(Duration, ErrorSaysWhatIsAllowed) {
  try {
    parse("1w");
    FAIL();
  } catch (InvalidArgument const& error) {
    EXPECT_STREQ(error.what(),
                 "timeout is \"1w\"; allowed: a number with ms, s, m, h or d, or without for units of 1s, "
                 "whole milliseconds, at most 36500d");
    EXPECT_EQ(error.hint(), "Write for example 250ms, 30s, 5m, 1h or 2d.");
  }
}

TEST(Duration, FormatsForPeople) {
  EXPECT_EQ(format_duration(0ms), "0ms");
  EXPECT_EQ(format_duration(999ms), "999ms");
  EXPECT_EQ(format_duration(1s), "1s");
  EXPECT_EQ(format_duration(1500ms), "1.5s");
  EXPECT_EQ(format_duration(59'999ms), "59.999s");
  EXPECT_EQ(format_duration(60s), "1m");
  EXPECT_EQ(format_duration(200s), "3m 20s");
  EXPECT_EQ(format_duration(3600s), "1h");
  EXPECT_EQ(format_duration(3600s + 59s), "1h");
  EXPECT_EQ(format_duration(26h), "1d 2h");
  EXPECT_EQ(format_duration(-200s), "-3m 20s");
}

}  // namespace
}  // namespace posthouse::core
