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

Params& Params::text_array(std::span<std::optional<std::string> const> values) {
  std::string text = "{";
  for (auto const& value : values) {
    if (text.size() > 1) text += ',';
    if (value) {
      append_element(text, *value);
    } else {
      text += "NULL";
    }
  }
  values_.push_back({text += '}', false});
  return *this;
}

}  // namespace posthouse::pg
