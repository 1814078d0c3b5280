// SPDX-License-Identifier: Apache-2.0
#include "core/redact.hpp"

#include <algorithm>

#include "core/text.hpp"

namespace posthouse::core {
namespace {

constexpr auto npos = std::string_view::npos;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f' || c == '\v'; }
bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

/// Behind the closing quote; a doubled quote does not close, nor does one behind a backslash where that escapes.
std::size_t end_of_quoted(std::string_view sql, std::size_t at, char quote, bool backslash) {
  for (++at; at < sql.size(); ++at) {
    if (backslash && sql[at] == '\\') {
      ++at;
    } else if (sql[at] == quote) {
      if (at + 1 >= sql.size() || sql[at + 1] != quote) return at + 1;
      ++at;
    }
  }
  return sql.size();
}

/// Behind a text in $tag$…$tag$ that begins here; npos: none does.
std::size_t end_of_dollars(std::string_view sql, std::size_t at) {
  std::size_t close = at + 1;
  while (close < sql.size() && is_name(sql[close])) ++close;
  if (close >= sql.size() || sql[close] != '$' || is_digit(sql[at + 1])) return npos;
  auto const tag = sql.substr(at, close + 1 - at);
  auto const end = sql.find(tag, close + 1);
  return end == npos ? sql.size() : end + tag.size();
}

std::size_t end_of_comment(std::string_view sql, std::size_t at) {
  if (sql[at] == '-') return std::min(sql.size(), sql.find('\n', at));
  int depth = 0;
  for (; at < sql.size(); ++at) {
    auto const two = sql.substr(at, 2);
    if (two == "/*") ++depth, ++at;
    if (two == "*/" && --depth == 0) return at + 2;
    if (two == "*/") ++at;
  }
  return sql.size();
}

std::size_t end_of_number(std::string_view sql, std::size_t at) {
  for (; at < sql.size(); ++at) {
    bool const exponent = (sql[at] == '+' || sql[at] == '-') && (sql[at - 1] == 'e' || sql[at - 1] == 'E') &&
                          at + 1 < sql.size() && is_digit(sql[at + 1]);
    if (!is_name(sql[at]) && sql[at] != '.' && !exponent) break;
  }
  return at;
}

}  // namespace

std::string redact_sql(std::string_view sql, std::size_t most) {
  std::string out;
  auto const blank = [&] {
    if (!out.empty() && out.back() != ' ') out += ' ';
  };
  for (std::size_t at = 0; at < sql.size() && out.size() <= most;) {
    char const c = sql[at];
    char const before = at == 0 ? ' ' : sql[at - 1];
    auto const two = sql.substr(at, 2);
    if (is_space(c)) {
      blank();
      ++at;
    } else if (two == "--" || two == "/*") {
      blank();
      at = end_of_comment(sql, at);
    } else if (c == '\'') {
      bool const escapes = (before == 'e' || before == 'E') && (at < 2 || !is_name(sql[at - 2]));
      at = end_of_quoted(sql, at, '\'', escapes);
      out += '?';
    } else if (c == '"') {
      auto const end = end_of_quoted(sql, at, '"', false);
      out += sql.substr(at, end - at);
      at = end;
    } else if (c == '$' && !is_name(before) && end_of_dollars(sql, at) != npos) {
      at = end_of_dollars(sql, at);
      out += '?';
    } else if (is_digit(c) && !is_name(before) && before != '$') {
      at = end_of_number(sql, at);
      out += '?';
    } else if (is_name(c) || c == '$') {
      // A name, or $1: whole, so that digits in it are no numbers.
      do {
        out += sql[at++];
      } while (at < sql.size() && is_name(sql[at]));
    } else {
      out += c;
      ++at;
    }
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out.size() <= most ? out : sanitise(out, most) + "…";
}

}  // namespace posthouse::core
