// SPDX-License-Identifier: Apache-2.0
// Printing for people: text from jobs and servers must not steer the terminal, and colours only where they are wanted.
//
// Thread safety: pure functions, but for wants_colour, which reads the environment.
#pragma once

#include <string>
#include <string_view>

namespace posthouse::base {

enum class Lines {
  one,  ///< line feeds and tabs are escaped too
  many  ///< line feeds and tabs stay
};

/// `text` with everything made visible that could steer a terminal or hide what is there: control characters (C0, DEL,
/// C1), bidirectional overrides, invisible separators and invalid UTF-8 become \x1b, \u202e and the like.
std::string printable(std::string_view text, Lines lines = Lines::one);

/// True when `fd` is a terminal that takes colours and NO_COLOR is not set.
bool wants_colour(int fd) noexcept;

enum class Style { bold, dim, red, green, yellow };
/// `text` in that style when `on`, else `text`.
std::string paint(bool on, Style style, std::string_view text);

}  // namespace posthouse::base
