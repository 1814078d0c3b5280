// SPDX-License-Identifier: Apache-2.0
// The form of cron texts, as it is checked without a server. That the server agrees is tested in integration.
#include "core/cron_text.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <posthouse/error.hpp>
#include <string>

namespace posthouse::core {
namespace {

using testing::HasSubstr;

std::string refusal(std::string_view text) {
  try {
    check_cron("c", text);
  } catch (InvalidArgument const& error) {
    return error.what();
  }
  return "accepted";
}

TEST(CronText, Accepted) {
  for (auto const* text : {"* * * * *", "0 0 1 1 *", " */5\t0-23/2 1,15 jan-DEC mon-fri ", "59 59 23 31 12 7", "@daily",
                           "@Yearly", "0 0 * * sat-sun", "0 0 30 2 mon"}) {
    EXPECT_EQ(refusal(text), "accepted") << text;
  }
}

TEST(CronText, RefusedByField) {
  EXPECT_THAT(refusal("61 * * * *"), HasSubstr("c: the minute is \"61\"; allowed: * or numbers 0 to 59"));
  EXPECT_THAT(refusal("* 24 * * *"), HasSubstr("the hour is \"24\""));
  EXPECT_THAT(refusal("* * 0 * *"), HasSubstr("the day of month is \"0\""));
  EXPECT_THAT(refusal("* * * foo *"), HasSubstr("jan to dec"));
  EXPECT_THAT(refusal("* * * * 8"), HasSubstr("sun to sat"));
  EXPECT_THAT(refusal("* * * * fri-mon"), HasSubstr("ends before it begins: \"fri-mon\""));
  EXPECT_THAT(refusal("5/2 * * * *"), HasSubstr("has a step but no range: \"5/2\""));
  EXPECT_THAT(refusal("*/90 * * * *"), HasSubstr("has a step out of range: \"*/90\""));
  EXPECT_THAT(refusal("*/0 * * * *"), HasSubstr("has a step out of range"));
  EXPECT_THAT(refusal("1,,2 * * * *"), HasSubstr("the minute is \"\""));
  EXPECT_THAT(refusal("99999 * * * *"), HasSubstr("the minute is \"99999\""));
}

TEST(CronText, RefusedAsAWhole) {
  for (auto const* text : {"", "  ", "* * * *", "* * * * * * *", "@reboot", "@daily *"}) {
    EXPECT_THAT(refusal(text), HasSubstr("5 fields")) << text;
  }
  EXPECT_THAT(refusal(std::string(1001, ' ') + "* * * * *"), HasSubstr("5 fields"));
  EXPECT_THAT(refusal("0 0 30 2 *"), HasSubstr("which none of the months \"2\" has"));
  EXPECT_THAT(refusal("0 0 31 4,6 *"), HasSubstr("which none of the months"));
}

}  // namespace
}  // namespace posthouse::core
