// SPDX-License-Identifier: Apache-2.0
#include "base/utf8.hpp"

#include <boost/nowide/utf/utf.hpp>
#include <cstdint>
#include <cstring>

namespace posthouse::base {

CodePoint first_code_point(std::string_view text) noexcept {
  using Traits = boost::nowide::utf::utf_traits<char>;
  char const* at = text.data();
  auto const value = Traits::decode(at, text.data() + text.size());
  if (!boost::nowide::utf::is_valid_codepoint(value)) return {U'\uFFFD', 1, false};
  return {value, static_cast<std::size_t>(at - text.data()), true};
}

std::size_t find_invalid_utf8(std::string_view text) noexcept {
  std::size_t at = 0;
  while (at < text.size()) {
    // Most text is ASCII: eight bytes at a time.
    std::uint64_t word = 0;
    while (text.size() - at >= sizeof word) {
      std::memcpy(&word, text.data() + at, sizeof word);
      if ((word & 0x8080808080808080U) != 0) break;
      at += sizeof word;
    }
    if (at == text.size()) break;
    CodePoint const point = first_code_point(text.substr(at));
    if (!point.valid) return at;
    at += point.length;
  }
  return std::string_view::npos;
}

}  // namespace posthouse::base
