// SPDX-License-Identifier: Apache-2.0
#include "core/json_path.hpp"

#include <algorithm>
#include <cstdint>

namespace posthouse::core {
namespace {

void skip_space(std::string_view& rest) {
  rest.remove_prefix(std::min(rest.find_first_not_of(" \t\r\n"), rest.size()));
}

/// Takes a string with its quotes.
std::string_view take_string(std::string_view& rest) {
  std::size_t at = 1;
  while (at < rest.size() && rest[at] != '"') at += rest[at] == '\\' ? 2 : 1;
  auto const text = rest.substr(0, std::min(at + 1, rest.size()));
  rest.remove_prefix(text.size());
  return text;
}

/// Takes one value, whatever it is.
std::string_view take_value(std::string_view& rest) {
  auto const whole = rest;
  int depth = 0;
  do {
    skip_space(rest);
    if (rest.empty()) break;
    char const c = rest.front();
    if (c == '"') {
      take_string(rest);
    } else if (c == '{' || c == '[') {
      ++depth;
      rest.remove_prefix(1);
    } else if (c == '}' || c == ']') {
      --depth;
      rest.remove_prefix(1);
    } else if (c == ',' || c == ':') {
      rest.remove_prefix(1);
      continue;  // never first, so never the end of a value
    } else {
      rest.remove_prefix(std::min(rest.find_first_of(",:]} \t\r\n"), rest.size()));
    }
    if (depth > 0) skip_space(rest);
  } while (depth > 0 && !rest.empty());
  return whole.substr(0, whole.size() - rest.size());
}

/// `object` begins behind {.
std::optional<std::string_view> member(std::string_view object, std::string const& name) {
  for (;;) {
    skip_space(object);
    if (object.empty() || object.front() != '"') return std::nullopt;
    auto const key = take_string(object);
    skip_space(object);
    if (object.empty()) return std::nullopt;
    object.remove_prefix(1);  // :
    skip_space(object);
    auto const value = take_value(object);
    if (json_unquoted(key) == name) return value;
    skip_space(object);
    if (object.empty() || object.front() != ',') return std::nullopt;
    object.remove_prefix(1);
  }
}

/// `array` begins behind [.
std::optional<std::string_view> element(std::string_view array, std::string const& index) {
  if (index.empty() || index.size() > 9 || index.find_first_not_of("0123456789") != std::string::npos)
    return std::nullopt;
  auto left = std::stoul(index);
  for (;; --left) {
    skip_space(array);
    if (array.empty() || array.front() == ']') return std::nullopt;
    auto const value = take_value(array);
    if (left == 0) return value;
    skip_space(array);
    if (array.empty() || array.front() != ',') return std::nullopt;
    array.remove_prefix(1);
  }
}

std::uint32_t hex4(std::string_view text) {
  std::uint32_t value = 0;
  for (char const c : text.substr(0, 4)) {
    auto const small = static_cast<char>(c | 0x20);
    value = value * 16 + static_cast<std::uint32_t>(c <= '9' ? c - '0' : small - 'a' + 10);
  }
  return value;
}

void append_utf8(std::string& out, std::uint32_t point) {
  auto const put = [&](std::uint32_t byte) { out += static_cast<char>(byte); };
  if (point < 0x80) {
    put(point);
  } else if (point < 0x800) {
    put(0xC0U | (point >> 6U));
    put(0x80U | (point & 0x3FU));
  } else if (point < 0x10000) {
    put(0xE0U | (point >> 12U));
    put(0x80U | ((point >> 6U) & 0x3FU));
    put(0x80U | (point & 0x3FU));
  } else {
    put(0xF0U | (point >> 18U));
    put(0x80U | ((point >> 12U) & 0x3FU));
    put(0x80U | ((point >> 6U) & 0x3FU));
    put(0x80U | (point & 0x3FU));
  }
}

}  // namespace

std::optional<std::string_view> json_at(std::string_view json, std::vector<std::string> const& path) {
  skip_space(json);
  auto value = take_value(json);
  for (auto const& step : path) {
    if (value.empty()) return std::nullopt;
    auto const inside = value.substr(1);
    std::optional<std::string_view> found;
    if (value.front() == '{') found = member(inside, step);
    if (value.front() == '[') found = element(inside, step);
    if (!found) return std::nullopt;
    value = *found;
  }
  if (value.empty()) return std::nullopt;
  return value;
}

std::string json_unquoted(std::string_view json) {
  std::string out;
  if (json.size() < 2) return out;
  json = json.substr(1, json.size() - 2);
  for (std::size_t i = 0; i < json.size(); ++i) {
    if (json[i] != '\\' || i + 1 >= json.size()) {
      out += json[i];
      continue;
    }
    char const c = json[++i];
    constexpr std::string_view from = "bfnrt";
    constexpr std::string_view to = "\b\f\n\r\t";
    if (auto const at = from.find(c); at != std::string_view::npos) {
      out += to[at];
    } else if (c == 'u' && i + 4 < json.size()) {
      auto point = hex4(json.substr(i + 1));
      i += 4;
      if (point >= 0xD800 && point < 0xDC00 && i + 6 < json.size()) {
        point = 0x10000 + ((point - 0xD800) << 10U) + (hex4(json.substr(i + 3)) - 0xDC00);
        i += 6;
      }
      append_utf8(out, point);
    } else {
      out += c;
    }
  }
  return out;
}

std::string json_escaped(std::string_view text) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out;
  out.reserve(text.size());
  for (char const c : text) {
    auto const byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20) {
      out += "\\u00";
      out += digits[byte >> 4U];
      out += digits[byte & 15U];
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace posthouse::core
