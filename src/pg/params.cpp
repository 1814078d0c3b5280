// SPDX-License-Identifier: Apache-2.0
// Parameters of a statement, checked before they are sent.
#include "pg/connection.hpp"
#include "pg/text.hpp"

namespace posthouse::pg {
namespace {

template <class Number>
std::string number_array(std::span<Number const> values) {
  std::string text = "{";
  for (Number const value : values) {
    if (text.size() > 1) text += ',';
    text += std::to_string(value);
  }
  return text += '}';
}

void append_element(std::string& text, std::string_view element) {
  check_text(element);
  text += '"';
  for (char const byte : element) {
    if (byte == '"' || byte == '\\') text += '\\';
    text += byte;
  }
  text += '"';
}

void put_int4(std::string& data, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) data += static_cast<char>((value >> shift) & 0xff);
}

}  // namespace

Params& Params::null() {
  values_.push_back({});
  return *this;
}

Params& Params::text(std::string_view value) {
  check_text(value);
  values_.push_back({std::string(value), false});
  return *this;
}

Params& Params::text(std::optional<std::string> const& value) {
  return value ? text(std::string_view(*value)) : null();
}

Params& Params::int8(std::int64_t value) {
  values_.push_back({std::to_string(value), false});
  return *this;
}

Params& Params::boolean(bool value) {
  values_.push_back({value ? "t" : "f", false});
  return *this;
}

Params& Params::bytea(std::string_view value) {
  values_.push_back({std::string(value), true});
  return *this;
}

Params& Params::int8_array(std::span<std::int64_t const> values) {
  values_.push_back({number_array(values), false});
  return *this;
}

Params& Params::int4_array(std::span<int const> values) {
  values_.push_back({number_array(values), false});
  return *this;
}

Params& Params::text_array(std::span<std::string const> values) {
  std::string text = "{";
  for (auto const& value : values) {
    if (text.size() > 1) text += ',';
    append_element(text, value);
  }
  values_.push_back({text += '}', false});
  return *this;
}

// In binary, since whether NULL in a text means a null is a setting (array_nulls) that others may have changed.
Params& Params::text_array(std::span<std::optional<std::string> const> values) {
  constexpr std::uint32_t text_type = 25;
  std::string data;
  put_int4(data, values.empty() ? 0 : 1);  // dimensions
  put_int4(data, 1);                       // may hold nulls
  put_int4(data, text_type);
  if (!values.empty()) {
    put_int4(data, static_cast<std::uint32_t>(values.size()));
    put_int4(data, 1);  // first index
  }
  for (auto const& value : values) {
    if (value) check_text(*value);
    put_int4(data, value ? static_cast<std::uint32_t>(value->size()) : 0xffffffffU);
    if (value) data += *value;
  }
  values_.push_back({std::move(data), true});
  return *this;
}

}  // namespace posthouse::pg
