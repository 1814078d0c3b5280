// SPDX-License-Identifier: Apache-2.0
#include "core/text.hpp"

#include <fmt/format.h>

#include "base/utf8.hpp"
#include "core/refuse.hpp"

namespace posthouse::core {

bool is_valid_utf8(std::string_view text) noexcept { return base::find_invalid_utf8(text) == std::string_view::npos; }

void check_text(std::string_view argument, std::string_view value) {
  constexpr std::string_view allowed = "valid UTF-8 without NUL bytes";
  if (auto const at = value.find('\0'); at != std::string_view::npos) {
    refuse_because(argument, fmt::format("has a NUL byte at byte {}", at + 1), allowed,
                   "PostgreSQL cannot store NUL in text; take it out, or send the data as posthouse::bytes.");
  }
  if (auto const at = base::find_invalid_utf8(value); at != std::string_view::npos) {
    refuse_because(argument, fmt::format("is not UTF-8 at byte {}", at + 1), allowed,
                   "Convert the text to UTF-8, or send the data as posthouse::bytes.");
  }
}

std::string_view truncate_utf8(std::string_view text, std::size_t max_bytes) noexcept {
  if (text.size() <= max_bytes) return text;
  std::size_t end = max_bytes;
  // A character has at most three bytes after its first; in broken text the cut may as well be here.
  for (int back = 0; back < 3 && end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80; ++back) --end;
  return text.substr(0, end);
}

std::string sanitise(std::string_view text, std::size_t max_bytes) {
  constexpr std::string_view replacement = "\xEF\xBF\xBD";
  std::string out;
  while (!text.empty() && out.size() < max_bytes) {
    base::CodePoint const point = base::first_code_point(text);
    if (!point.valid) {
      out += replacement;
    } else if (point.value != 0) {
      out += text.substr(0, point.length);
    }
    text.remove_prefix(point.length);
  }
  out.resize(truncate_utf8(out, max_bytes).size());
  return out;
}

}  // namespace posthouse::core
