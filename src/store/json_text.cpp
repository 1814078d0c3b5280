// SPDX-License-Identifier: Apache-2.0
// JSON text made by hand.
#include "store/json_text.hpp"

#include <array>
#include <charconv>

namespace posthouse::store {

namespace {

void append_control(std::string& json, unsigned char byte) {
  static constexpr char digits[] = "0123456789abcdef";
  json += "\\u00";
  json += digits[byte >> 4U];
  json += digits[byte & 15U];
}

void append_base64(std::string& json, std::string_view bytes) {
  static constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  json.reserve(json.size() + (bytes.size() + 2) / 3 * 4 + 1);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    auto const byte = [&](std::size_t offset) {
      return i + offset < bytes.size() ? static_cast<unsigned>(static_cast<unsigned char>(bytes[i + offset])) : 0U;
    };
    unsigned const group = byte(0) << 16U | byte(1) << 8U | byte(2);
    json += digits[group >> 18U];
    json += digits[group >> 12U & 63U];
    json += i + 1 < bytes.size() ? digits[group >> 6U & 63U] : '=';
    json += i + 2 < bytes.size() ? digits[group & 63U] : '=';
  }
}

}  // namespace

void append_json_string(std::string& json, std::string_view text) {
  json += '"';
  for (char const c : text) {
    auto const byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      json += '\\';
      json += c;
    } else if (byte < 0x20) {
      append_control(json, byte);
    } else {
      json += c;
    }
  }
  json += '"';
}

void append_base64_string(std::string& json, std::string_view bytes) {
  json += '"';
  append_base64(json, bytes);
  json += '"';
}

JsonColumns::JsonColumns(std::initializer_list<std::string_view> names) {
  for (auto const name : names) columns_.push_back({.name = std::string(name)});
}

std::string& JsonColumns::next(std::size_t column) {
  auto& one = columns_[column];
  // Earlier rows that have nothing here.
  for (; one.rows < rows_; ++one.rows) one.text += one.rows == 0 ? "NULL" : ",NULL";
  if (one.rows > 0) one.text += ',';
  ++one.rows;
  one.any = true;
  return one.text;
}

void JsonColumns::add(std::size_t column, std::int64_t value) {
  std::array<char, 24> digits{};
  auto const end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  next(column).append(digits.data(), end);
}

void JsonColumns::add(std::size_t column, std::string_view text) {
  auto& out = next(column);
  // Quoted for the array, and all of it for JSON.
  out += "\\\"";
  std::size_t from = 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    char const c = text[at];
    auto const byte = static_cast<unsigned char>(c);
    if (c != '"' && c != '\\' && byte >= 0x20) continue;
    out.append(text, from, at - from);
    from = at + 1;
    if (c == '"') {
      out += "\\\\\\\"";
    } else if (c == '\\') {
      out += "\\\\\\\\";
    } else {
      append_control(out, byte);
    }
  }
  out.append(text, from);
  out += "\\\"";
}

void JsonColumns::add_base64(std::size_t column, std::string_view bytes) {
  auto& out = next(column);
  out += "\\\"";
  append_base64(out, bytes);
  out += "\\\"";
}

void JsonColumns::end_row() { ++rows_; }

std::string JsonColumns::object() const {
  std::string json = "{";
  for (auto const& column : columns_) {
    if (!column.any) continue;
    if (json.size() > 1) json += ',';
    append_json_string(json, column.name);
    json += ":\"{";
    json += column.text;
    for (auto row = column.rows; row < rows_; ++row) json += ",NULL";
    json += "}\"";
  }
  return json += '}';
}

}  // namespace posthouse::store
