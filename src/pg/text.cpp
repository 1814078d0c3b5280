// SPDX-License-Identifier: Apache-2.0
// Checks and quoting of text. Both need no connection, since client_encoding is always UTF8.
#include "pg/text.hpp"

#include "core/text.hpp"

namespace posthouse::pg {
namespace {

std::string doubled(std::string_view text, char quote) {
  std::string out(1, quote);
  for (char const byte : text) {
    if (byte == quote) out += quote;
    out += byte;
  }
  return out += quote;
}

}  // namespace

void check_text(std::string_view text) { core::check_text("text", text); }

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
