// SPDX-License-Identifier: Apache-2.0
// Checks and quoting of text. Both need no connection, since client_encoding is always UTF8.
#include "pg/text.hpp"

#include <posthouse/error.hpp>

namespace posthouse::pg {
namespace {

/// Length of the well-formed sequence at the front, 0 when it is ill-formed (overlong, surrogate or cut short).
std::size_t sequence(std::string_view text) noexcept {
  auto const at = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  auto const tail = [&](std::size_t i) { return (at(i) & 0xC0U) == 0x80U; };
  unsigned const first = at(0);
  if (first < 0x80U) return 1;
  if (first >= 0xC2U && first <= 0xDFU) return tail(1) ? 2 : 0;
  if (first >= 0xE0U && first <= 0xEFU) {
    if (!tail(1) || !tail(2)) return 0;
    if (first == 0xE0U && at(1) < 0xA0U) return 0;
    if (first == 0xEDU && at(1) > 0x9FU) return 0;
    return 3;
  }
  if (first >= 0xF0U && first <= 0xF4U) {
    if (!tail(1) || !tail(2) || !tail(3)) return 0;
    if (first == 0xF0U && at(1) < 0x90U) return 0;
    if (first == 0xF4U && at(1) > 0x8FU) return 0;
    return 4;
  }
  return 0;
}

std::string doubled(std::string_view text, char quote) {
  std::string out(1, quote);
  for (char const byte : text) {
    if (byte == quote) out += quote;
    out += byte;
  }
  return out += quote;
}

}  // namespace

void check_text(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] == '\0') {
      throw InvalidArgument("text has a NUL byte at byte " + std::to_string(i) +
                            ", which PostgreSQL cannot store: remove it or send posthouse::bytes");
    }
    std::size_t const length = sequence(text.substr(i, 4));
    if (length == 0) {
      throw InvalidArgument("text is not valid UTF-8 at byte " + std::to_string(i) +
                            ": convert it or send posthouse::bytes");
    }
    i += length;
  }
}

std::string quote_identifier(std::string_view name) {
  check_text(name);
  return doubled(name, '"');
}

std::string quote_literal(std::string_view text) {
  check_text(text);
  if (text.find('\\') == std::string_view::npos) return doubled(text, '\'');
  // With a backslash inside, only the E form means the same under both settings of standard_conforming_strings.
  std::string escaped;
  for (char const byte : text) {
    if (byte == '\\') escaped += '\\';
    escaped += byte;
  }
  return " E" + doubled(escaped, '\'');
}

}  // namespace posthouse::pg
