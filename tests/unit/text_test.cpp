// SPDX-License-Identifier: Apache-2.0
#include "core/text.hpp"

#include <gtest/gtest.h>

#include <posthouse/error.hpp>

#include "base/utf8.hpp"

namespace posthouse::core {
namespace {

using base::find_invalid_utf8;
constexpr auto npos = std::string_view::npos;

TEST(Utf8, AcceptsAllLengthsAndLimits) {
  EXPECT_TRUE(is_valid_utf8(""));
  EXPECT_TRUE(is_valid_utf8(std::string_view("\0", 1)));
  EXPECT_TRUE(is_valid_utf8("\x7f\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF"));
  EXPECT_TRUE(is_valid_utf8("\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"));
}

TEST(Utf8, FindsEachKindOfDamageAtEveryPosition) {
  for (std::string_view const bad :
       {"\x80", "\xff", "\xC0\x80", "\xC1\xBF", "\xC3", "\xE0\x80\x80", "\xE2\x82", "\xED\xA0\x80", "\xF0\x80\x80\x80",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xF0\x9F\x98"}) {
    for (std::size_t before = 0; before < 20; ++before) {
      auto const text = std::string(before, 'a') + std::string(bad);
      EXPECT_EQ(find_invalid_utf8(text), before);
      EXPECT_EQ(find_invalid_utf8("é" + text + "abcdefghijk"), before + 2);
    }
  }
}

TEST(Utf8, LongTextIsReadToItsEnd) {
  for (std::size_t size = 0; size < 40; ++size) {
    EXPECT_EQ(find_invalid_utf8(std::string(size, 'x')), npos);
    EXPECT_EQ(find_invalid_utf8(std::string(size, 'x') + "世界"), npos);
  }
}

std::string message(std::string_view value) {
  try {
    check_text("note", value);
  } catch (InvalidArgument const& error) {
    return error.what();
  }
  return "accepted";
}

TEST(CheckText, NamesArgumentAndPosition) {
  EXPECT_EQ(message("fine ü"), "accepted");
  EXPECT_EQ(message(std::string_view("ab\0c", 4)),
            "note has a NUL byte at byte 3; allowed: valid UTF-8 without NUL bytes");
  EXPECT_EQ(message("abcd\xff"), "note is not UTF-8 at byte 5; allowed: valid UTF-8 without NUL bytes");
}

TEST(Truncate, NeverCutsACharacter) {
  std::string_view const text = "aé世😀";  // 1 + 2 + 3 + 4 bytes
  std::string_view const expected[] = {"",     "a",    "a",    "aé",   "aé",    "aé",
                                       "aé世", "aé世", "aé世", "aé世", "aé世😀", "aé世😀"};
  for (std::size_t most = 0; most < 12; ++most) EXPECT_EQ(truncate_utf8(text, most), expected[most]) << most;
}

TEST(Truncate, BrokenTextIsCutSomewhereNear) {
  std::string const text(100, '\x80');
  EXPECT_GE(truncate_utf8(text, 50).size(), 47U);
  EXPECT_LE(truncate_utf8(text, 50).size(), 50U);
}

TEST(Sanitise, ReplacesInvalidAndDropsNul) {
  EXPECT_EQ(sanitise("good", 100), "good");
  EXPECT_EQ(sanitise(std::string_view("a\0b\xff"
                                      "c\xE2\x82",
                                      7),
                     100),
            "ab\uFFFDc\uFFFD\uFFFD");
  EXPECT_EQ(sanitise("line\nbreak\t\x1b", 100), "line\nbreak\t\x1b");
}

TEST(Sanitise, LimitHoldsAndResultIsValid) {
  std::string const bad(50, '\xff');
  for (std::size_t most = 0; most < 20; ++most) {
    auto const out = sanitise("é" + bad, most);
    EXPECT_LE(out.size(), most);
    EXPECT_TRUE(is_valid_utf8(out));
  }
  EXPECT_EQ(sanitise("ééé", 5), "éé");
}

}  // namespace
}  // namespace posthouse::core
