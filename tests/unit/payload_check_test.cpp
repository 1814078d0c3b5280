// SPDX-License-Identifier: Apache-2.0
#include "core/payload_check.hpp"

#include <gtest/gtest.h>

#include <posthouse/error.hpp>
#include <string>

namespace posthouse::core {
namespace {

std::string problem(std::string_view text) {
  try {
    check_json("payload", text);
  } catch (InvalidArgument const& error) {
    std::string_view const what = error.what();
    return std::string(what.substr(0, what.find(';')));
  }
  return "accepted";
}

TEST(PayloadCheck, AcceptsWhatJsonbHolds) {
  for (std::string_view const text :
       {"null", "true", "42", "\"x\"", "[]", "{}", " {\"a\": [1, 2.5, \"\\u00e9\", null]} ", "\"\\ud83d\\ude00\"",
        "\"世界\"", "123456789012345678901234567890.123456789012345678901234567890", "1e400", "-1e-400",
        "{\"a\":1,\"a\":2}", "\"\\\\u0000\""}) {
    EXPECT_EQ(problem(text), "accepted") << text;
  }
}

TEST(PayloadCheck, RefusesWhatIsNoJsonWithPosition) {
  EXPECT_EQ(problem("{\"a\": }"), "payload is not valid JSON (syntax error) at byte 7");
  EXPECT_EQ(problem("[1, 2"), "payload is not valid JSON (incomplete JSON) at byte 6");
  EXPECT_EQ(problem("{} x"), "payload is not valid JSON (extra data) at byte 4");
  for (std::string_view const text :
       {"", " ", "'a'", "{a:1}", "[1,]", "01", "+1", "NaN", "Infinity", "nul", "\"a\nb\"", "// x\n1", "1 1"}) {
    EXPECT_TRUE(problem(text).starts_with("payload is not valid JSON")) << text;
  }
  EXPECT_TRUE(problem(std::string_view("\"a\0\"", 4)).starts_with("payload is not valid JSON"));
}

TEST(PayloadCheck, RefusesWhatJsonbRefuses) {
  EXPECT_EQ(problem("\"a\\u0000\"").substr(0, 20), "payload has \\u0000 a");
  EXPECT_TRUE(problem("{\"a\\u0000b\": 1}").starts_with("payload has \\u0000"));
  EXPECT_TRUE(problem("\"" + std::string(5000, 'x') + "\\u0000" + std::string(5000, 'x') + "\"")
                  .starts_with("payload has \\u0000"));
  EXPECT_NE(problem("\"\\ud83d\""), "accepted");  // the parser calls these two syntax errors
  EXPECT_NE(problem("\"\\ud83dx\""), "accepted");
  EXPECT_TRUE(problem("\"\\ude00\"").starts_with("payload has half a surrogate pair"));
  EXPECT_TRUE(problem("\"\\ud83d\\ud83d\"").starts_with("payload has half a surrogate pair"));
  EXPECT_TRUE(problem("\"\xff\"").starts_with("payload is not valid JSON"));
  EXPECT_TRUE(problem("\"\xED\xA0\x80\"").starts_with("payload is not valid JSON"));
}

// What PostgreSQL 15 takes and refuses when the text is cast to jsonb.
TEST(PayloadCheck, NumbersAsFarAsNumericGoes) {
  for (std::string_view const text : {"1e131071", "0.00001e131076", "0e200000", "1e-16383", "0.0e0", "-1E+5"}) {
    EXPECT_EQ(problem(text), "accepted") << text;
  }
  for (std::string_view const text :
       {"1e131072", "0.00001e131077", "1e-16384", "0e-20000", "1e999999999999", "[1, -1e200000]"}) {
    EXPECT_TRUE(problem(text).starts_with("payload has a number too large for PostgreSQL")) << text;
  }
  EXPECT_EQ(problem(std::string(131072, '9')), "accepted");
  EXPECT_NE(problem(std::string(131073, '9')), "accepted");
  EXPECT_EQ(problem("0." + std::string(16383, '1')), "accepted");
  EXPECT_NE(problem("0." + std::string(16384, '1')), "accepted");
}

TEST(PayloadCheck, DepthIsBounded) {
  EXPECT_EQ(problem(std::string(128, '[') + std::string(128, ']')), "accepted");
  EXPECT_TRUE(problem(std::string(129, '[') + std::string(129, ']'))
                  .starts_with("payload is nested deeper than 128 levels at byte 129"));
  EXPECT_TRUE(problem(std::string(1'000'000, '[')).starts_with("payload is nested deeper"));
}

TEST(PayloadCheck, SizeCountsForEveryPayload) {
  EXPECT_NO_THROW(check_payload({}, 1));
  EXPECT_NO_THROW(check_payload(json("[1]"), 3));
  EXPECT_NO_THROW(check_payload(bytes(std::string("\0\xff", 2)), 2));
  EXPECT_THROW(check_payload(json("[1]"), 2), InvalidArgument);
  EXPECT_THROW(check_payload(json("["), 10), InvalidArgument);
  try {
    check_payload(bytes("abc"), 2);
    FAIL();
  } catch (InvalidArgument const& error) {
    EXPECT_STREQ(error.what(), "payload has 3 bytes; allowed: at most 2");
  }
}

}  // namespace
}  // namespace posthouse::core
