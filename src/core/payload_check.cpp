// SPDX-License-Identifier: Apache-2.0
#include "core/payload_check.hpp"

#include <fmt/format.h>

#include <boost/json/basic_parser_impl.hpp>
#include <charconv>
#include <cstdint>
#include <string>

#include "core/refuse.hpp"

namespace posthouse::core {

namespace {

using boost::json::error_code;
using View = boost::json::string_view;

enum class Refused { none, nul, number };

/// PostgreSQL's numeric holds 131,072 digits before the decimal point and 16,383 after it.
bool fits_numeric(std::string_view number) {
  std::int64_t whole_digits = 0;
  std::int64_t fraction_digits = 0;
  std::int64_t leading_zeros = 0;
  std::int64_t exponent = 0;
  bool in_fraction = false;
  bool all_zero = true;
  for (std::size_t i = number.starts_with('-') ? 1 : 0; i < number.size(); ++i) {
    char const c = number[i];
    if (c == '.') {
      in_fraction = true;
    } else if (c == 'e' || c == 'E') {
      auto digits = number.substr(i + 1);
      if (digits.starts_with('+')) digits.remove_prefix(1);
      std::from_chars(digits.data(), digits.data() + digits.size(), exponent);  // the parser has refused what overflows
      break;
    } else {
      ++(in_fraction ? fraction_digits : whole_digits);
      if (c != '0') all_zero = false;
      if (all_zero) ++leading_zeros;
    }
  }
  if (fraction_digits - exponent > 16'383) return false;
  return all_zero || whole_digits - leading_zeros + exponent <= 131'072;
}

/// Keeps nothing; looks for what JSON allows and jsonb does not.
struct Handler {
  static constexpr std::size_t max_object_size = SIZE_MAX;
  static constexpr std::size_t max_array_size = SIZE_MAX;
  static constexpr std::size_t max_key_size = SIZE_MAX;
  static constexpr std::size_t max_string_size = SIZE_MAX;

  Refused refused = Refused::none;
  std::string number{};

  bool refuse_with(Refused why, error_code& ec) {
    refused = why;
    ec = boost::json::error::syntax;
    return false;
  }
  bool text(View s, error_code& ec) { return s.find('\0') == View::npos || refuse_with(Refused::nul, ec); }

  bool on_document_begin(error_code&) { return true; }
  bool on_document_end(error_code&) { return true; }
  bool on_array_begin(error_code&) { return true; }
  bool on_array_end(std::size_t, error_code&) { return true; }
  bool on_object_begin(error_code&) { return true; }
  bool on_object_end(std::size_t, error_code&) { return true; }
  bool on_string_part(View s, std::size_t, error_code& ec) { return text(s, ec); }
  bool on_string(View s, std::size_t, error_code& ec) { return text(s, ec); }
  bool on_key_part(View s, std::size_t, error_code& ec) { return text(s, ec); }
  bool on_key(View s, std::size_t, error_code& ec) { return text(s, ec); }
  bool on_number_part(View s, error_code&) {
    number.append(s.data(), s.size());
    return true;
  }
  bool on_int64(std::int64_t, View, error_code&) {
    number.clear();
    return true;
  }
  bool on_uint64(std::uint64_t, View, error_code&) {
    number.clear();
    return true;
  }
  bool on_double(double, View s, error_code& ec) {
    number.append(s.data(), s.size());
    bool const fits = fits_numeric(number);
    number.clear();
    return fits || refuse_with(Refused::number, ec);
  }
  bool on_bool(bool, error_code&) { return true; }
  bool on_null(error_code&) { return true; }
  bool on_comment_part(View, error_code&) { return true; }
  bool on_comment(View, error_code&) { return true; }
};

std::string problem(Refused refused, error_code const& ec) {
  using boost::json::error;
  if (refused == Refused::nul) return "has \\u0000";
  if (refused == Refused::number || ec == error::exponent_overflow) return "has a number too large for PostgreSQL";
  if (ec == error::too_deep) return fmt::format("is nested deeper than {} levels", max_json_depth);
  if (ec == error::illegal_leading_surrogate || ec == error::illegal_trailing_surrogate ||
      ec == error::expected_utf16_escape) {
    return "has half a surrogate pair";
  }
  return fmt::format("is not valid JSON ({})", ec.message());
}

}  // namespace

void check_json(std::string_view argument, std::string_view text) {
  boost::json::parse_options options;
  options.max_depth = max_json_depth;
  boost::json::basic_parser<Handler> parser(options);
  error_code ec;
  std::size_t const read = parser.write_some(false, text.data(), text.size(), ec);
  if (!ec && read < text.size()) ec = boost::json::error::extra_data;
  if (!ec) return;
  refuse_because(argument, fmt::format("{} at byte {}", problem(parser.handler().refused, ec), read + 1),
                 "JSON text that PostgreSQL's jsonb can hold: UTF-8, no \\u0000, at most 128 levels deep",
                 "Mend the text, or send it as posthouse::bytes, which are kept exactly.");
}

void check_payload(Payload const& payload, std::size_t max_bytes) {
  if (payload.data().size() > max_bytes) {
    refuse_because("payload", fmt::format("has {} bytes", payload.data().size()), fmt::format("at most {}", max_bytes),
                   "Store large data elsewhere and send its address, or raise max_payload_bytes.");
  }
  if (payload.is_json()) check_json("payload", payload.data());
}

}  // namespace posthouse::core
