// SPDX-License-Identifier: Apache-2.0
#include "base/terminal.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "base/unique_fd.hpp"

namespace posthouse::base {
namespace {

TEST(Printable, LeavesPlainTextAndLettersOfAllLanguages) {
  for (std::string_view const text : {"", "plain text", "Grüße, 世界", "👩‍👩‍👧 ok", "עברית العربية"}) {
    EXPECT_EQ(printable(text), text);
  }
}

TEST(Printable, NeutralisesControls) {
  EXPECT_EQ(printable("\x1b[2J\x07\x7f"), "\\x1b[2J\\x07\\x7f");
  EXPECT_EQ(printable(std::string_view("a\0b", 3)), "a\\x00b");
  EXPECT_EQ(printable("\xC2\x9B"
                      "31m"),
            "\\x9b31m");  // C1 as UTF-8
  EXPECT_EQ(printable("\x9B"
                      "31m"),
            "\\x9b31m");  // C1 as a raw byte
  EXPECT_EQ(printable("a\r\nb\tc"), "a\\x0d\\x0ab\\x09c");
}

TEST(Printable, KeepsLinesWhenAsked) { EXPECT_EQ(printable("a\r\nb\tc\x1b", Lines::many), "a\\x0d\nb\tc\\x1b"); }

TEST(Printable, NeutralisesBidirectionalAndInvisible) {
  EXPECT_EQ(printable("\xE2\x80\xAE"), "\\u202e");
  EXPECT_EQ(printable("\xE2\x81\xA6x\xE2\x81\xA9"), "\\u2066x\\u2069");
  EXPECT_EQ(printable("\xE2\x80\xA8"), "\\u2028");
  EXPECT_EQ(printable("\xEF\xBB\xBF"), "\\ufeff");
  EXPECT_EQ(printable("\xF3\xA0\x81\x81"), "\\ue0041");
}

TEST(Printable, ShowsInvalidBytes) { EXPECT_EQ(printable("a\xff\xC3"), "a\\xff\\xc3"); }

class Colour : public testing::Test {
 protected:
  void SetUp() override {
    ::unsetenv("NO_COLOR");
    ::setenv("TERM", "xterm", 1);
    terminal = UniqueFd(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (!terminal) GTEST_SKIP() << "no pseudo-terminal here";
  }
  UniqueFd terminal;
};

TEST_F(Colour, OnlyOnATerminal) {
  UniqueFd const null(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  EXPECT_TRUE(wants_colour(terminal.get()));
  EXPECT_FALSE(wants_colour(null.get()));
  EXPECT_FALSE(wants_colour(-1));
}

TEST_F(Colour, NoColorAndDumbTerminalsTurnItOff) {
  ::setenv("NO_COLOR", "", 1);
  EXPECT_TRUE(wants_colour(terminal.get()));  // an empty value does not count: https://no-color.org
  ::setenv("NO_COLOR", "1", 1);
  EXPECT_FALSE(wants_colour(terminal.get()));
  ::unsetenv("NO_COLOR");
  ::setenv("TERM", "dumb", 1);
  EXPECT_FALSE(wants_colour(terminal.get()));
}

TEST(Paint, AddsAndResets) {
  EXPECT_EQ(paint(true, Style::red, "x"), "\x1b[31mx\x1b[0m");
  EXPECT_EQ(paint(false, Style::red, "x"), "x");
}

}  // namespace
}  // namespace posthouse::base
