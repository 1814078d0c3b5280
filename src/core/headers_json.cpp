// SPDX-License-Identifier: Apache-2.0
#include "core/headers_json.hpp"

#include <fmt/format.h>

#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/serialize.hpp>
#include <cstdint>
#include <utility>

#include "core/payload_check.hpp"
#include "core/refuse.hpp"
#include "core/text.hpp"

namespace posthouse::core {

namespace {

using boost::json::error_code;
using View = boost::json::string_view;

/// Builds the map from the parser's events. Values below the first level are written out again event by event, because
/// a parsed number would lose digits.
class Handler {
 public:
  static constexpr std::size_t max_object_size = SIZE_MAX;
  static constexpr std::size_t max_array_size = SIZE_MAX;
  static constexpr std::size_t max_key_size = SIZE_MAX;
  static constexpr std::size_t max_string_size = SIZE_MAX;

  std::map<std::string, std::string> take() { return std::move(headers_); }

  bool on_document_begin(error_code&) { return true; }
  bool on_document_end(error_code&) { return true; }
  bool on_object_begin(error_code&) { return open('{'); }
  bool on_object_end(std::size_t, error_code&) { return close('}'); }
  bool on_array_begin(error_code& ec) {
    if (depth_ == 0) return wrong_type(ec);
    return open('[');
  }
  bool on_array_end(std::size_t, error_code&) { return close(']'); }

  bool on_key_part(View s, std::size_t, error_code&) { return collect(s); }
  bool on_key(View s, std::size_t, error_code&) {
    collect(s);
    if (depth_ == 1) {
      name_ = std::exchange(part_, {});
    } else {
      separate();
      value_ += quoted();
      value_ += ':';
      fresh_ = true;
    }
    return true;
  }
  bool on_string_part(View s, std::size_t, error_code&) { return collect(s); }
  bool on_string(View s, std::size_t, error_code& ec) {
    collect(s);
    if (depth_ == 1) return scalar(std::exchange(part_, {}), ec);
    return scalar(quoted(), ec);
  }
  bool on_number_part(View s, error_code&) { return collect(s); }
  bool on_int64(std::int64_t, View s, error_code& ec) { return number(s, ec); }
  bool on_uint64(std::uint64_t, View s, error_code& ec) { return number(s, ec); }
  bool on_double(double, View s, error_code& ec) { return number(s, ec); }
  bool on_bool(bool value, error_code& ec) { return scalar(value ? "true" : "false", ec); }
  bool on_null(error_code& ec) { return scalar("null", ec); }
  bool on_comment_part(View, error_code&) { return true; }
  bool on_comment(View, error_code&) { return true; }

 private:
  static bool wrong_type(error_code& ec) {
    ec = boost::json::error::not_object;
    return false;
  }
  bool collect(View s) {
    part_.append(s.data(), s.size());
    return true;
  }
  std::string quoted() { return boost::json::serialize(View(std::exchange(part_, {}))); }
  /// A comma, unless this is the first thing after a bracket or a colon.
  void separate() {
    if (!std::exchange(fresh_, false)) value_ += ',';
  }
  bool open(char bracket) {
    if (depth_ == 1) {
      value_ = bracket;
    } else if (depth_ > 1) {
      separate();
      value_ += bracket;
    }
    fresh_ = true;
    ++depth_;
    return true;
  }
  bool close(char bracket) {
    --depth_;
    fresh_ = false;
    if (depth_ > 0) value_ += bracket;
    if (depth_ == 1) headers_.insert_or_assign(std::move(name_), std::exchange(value_, {}));
    return true;
  }
  bool number(View s, error_code& ec) {
    collect(s);
    return scalar(std::exchange(part_, {}), ec);
  }
  bool scalar(std::string text, error_code& ec) {
    if (depth_ == 0) return wrong_type(ec);
    if (depth_ == 1) {
      headers_.insert_or_assign(std::move(name_), std::move(text));
    } else {
      separate();
      value_ += text;
    }
    return true;
  }

  std::map<std::string, std::string> headers_{};
  std::string name_{};
  std::string value_{};
  std::string part_{};
  std::size_t depth_ = 0;
  bool fresh_ = true;
};

}  // namespace

std::string headers_to_json(std::map<std::string, std::string> const& headers) {
  std::string out = "{";
  std::size_t stored = 8;
  for (auto const& [name, value] : headers) {
    if (name.empty()) refuse("header name", name, "1 byte or more", "Give the header a name.");
    check_text("header name", name);
    check_text(fmt::format("header {}", shown(name)), value);
    if (out.size() > 1) out += ',';
    out += boost::json::serialize(View(name));
    out += ':';
    out += boost::json::serialize(View(value));
    stored += 8 + name.size() + value.size();
  }
  out += '}';
  if (stored > max_headers_bytes) {
    refuse_because("headers", fmt::format("have {} bytes, 8 for each header included", stored),
                   fmt::format("at most {}", max_headers_bytes), "Move the larger values to the payload.");
  }
  return out;
}

std::map<std::string, std::string> headers_from_json(std::string_view text) {
  if (text.empty() || text == "{}") return {};
  boost::json::parse_options options;
  options.max_depth = max_json_depth;
  boost::json::basic_parser<Handler> parser(options);
  error_code ec;
  std::size_t const read = parser.write_some(false, text.data(), text.size(), ec);
  if (!ec && read < text.size()) ec = boost::json::error::extra_data;
  if (ec) {
    refuse_because("headers", fmt::format("are no JSON object ({} at byte {})", ec.message(), read + 1),
                   "a JSON object", "Store an object such as {\"trace\": \"abc\"}.");
  }
  return parser.handler().take();
}

}  // namespace posthouse::core
