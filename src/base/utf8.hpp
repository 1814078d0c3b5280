// SPDX-License-Identifier: Apache-2.0
// Reading UTF-8 that may be broken.
//
// Thread safety: pure functions.
#pragma once

#include <cstddef>
#include <string_view>

namespace posthouse::base {

struct CodePoint {
  char32_t value = 0;      ///< U+FFFD when invalid
  std::size_t length = 0;  ///< bytes taken; an invalid sequence takes one
  bool valid = false;
};

/// The first character of `text`, which must not be empty.
CodePoint first_code_point(std::string_view text) noexcept;

/// Position of the first byte that is not valid UTF-8 (overlong forms and surrogates are not); npos: all is valid.
std::size_t find_invalid_utf8(std::string_view text) noexcept;

}  // namespace posthouse::base
