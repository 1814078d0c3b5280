// SPDX-License-Identifier: Apache-2.0
#include "base/terminal.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <iterator>

#include "base/utf8.hpp"

namespace posthouse::base {

namespace {

bool hides_or_steers(char32_t c) noexcept {
  if (c < 0x20 || (c >= 0x7f && c < 0xa0)) return true;
  if (c < 0x061c) return false;
  return c == 0x061c || (c >= 0x200e && c <= 0x200f) ||  // direction marks
         (c >= 0x2028 && c <= 0x202e) ||                 // line and paragraph separators, overrides
         (c >= 0x2060 && c <= 0x206f) ||                 // invisible operators, isolates
         c == 0x200b || c == 0xfeff ||                   // zero-width spaces; joiners stay, emoji need them
         (c >= 0xfff9 && c <= 0xfffb) ||                 // interlinear annotation
         (c >= 0xe0000 && c <= 0xe007f);                 // tags
}

char const* code(Style style) noexcept {
  switch (style) {
    case Style::bold:
      return "1";
    case Style::dim:
      return "2";
    case Style::red:
      return "31";
    case Style::green:
      return "32";
    case Style::yellow:
      return "33";
  }
  return "0";
}

}  // namespace

std::string printable(std::string_view text, Lines lines) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    CodePoint const point = first_code_point(text);
    auto const raw = text.substr(0, point.length);
    text.remove_prefix(point.length);
    bool const kept = lines == Lines::many && (point.value == U'\n' || point.value == U'\t');
    if (point.valid && (kept || !hides_or_steers(point.value))) {
      out += raw;
    } else if (!point.valid || point.value < 0x100) {
      auto const byte = point.valid ? static_cast<unsigned>(point.value) : static_cast<unsigned char>(raw[0]);
      fmt::format_to(std::back_inserter(out), "\\x{:02x}", byte);
    } else {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(point.value));
    }
  }
  return out;
}

bool wants_colour(int fd) noexcept {
  auto const set = [](char const* name) {
    char const* value = std::getenv(name);
    return value != nullptr && *value != '\0';
  };
  if (set("NO_COLOR") || ::isatty(fd) == 0) return false;
  return set("TERM") && std::string_view(std::getenv("TERM")) != "dumb";
}

std::string paint(bool on, Style style, std::string_view text) {
  if (!on) return std::string(text);
  return fmt::format("\x1b[{}m{}\x1b[0m", code(style), text);
}

}  // namespace posthouse::base
