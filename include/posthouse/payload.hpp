// SPDX-License-Identifier: Apache-2.0
// What a job carries: nothing, JSON text or raw bytes; and how C++ types become one of these.
//
// A plain string is no payload, since it could mean either: write posthouse::json{text} or posthouse::bytes{data}.
// Thread safety: plain values.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace posthouse {

/// JSON text in UTF-8, stored as jsonb: equal as a value, not byte for byte. Numbers keep all their digits.
struct json {
  std::string text{};
  explicit json(std::string value) : text(std::move(value)) {}
};

/// Any bytes, stored and handed back exactly.
struct bytes {
  std::string data{};
  explicit bytes(std::string value) : data(std::move(value)) {}
};

/// The payload of one job as it is sent and as a handler gets it.
class Payload {
 public:
  Payload() = default;
  Payload(json value) : value_(std::move(value)) {}   // NOLINT(google-explicit-constructor)
  Payload(bytes value) : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool is_null() const noexcept { return std::holds_alternative<std::monostate>(value_); }
  [[nodiscard]] bool is_json() const noexcept { return std::holds_alternative<json>(value_); }
  [[nodiscard]] bool is_bytes() const noexcept { return std::holds_alternative<bytes>(value_); }

  /// The JSON text or the bytes; empty for a null payload.
  [[nodiscard]] std::string_view data() const noexcept {
    if (auto const* text = std::get_if<json>(&value_)) return text->text;
    if (auto const* raw = std::get_if<bytes>(&value_)) return raw->data;
    return {};
  }

 private:
  std::variant<std::monostate, json, bytes> value_{};
};

/// How a C++ type becomes a payload and back. Specialise it for your types, or include posthouse/describe.hpp
/// for types described with Boost.Describe.
///
///   static Payload encode(T const&);                 // may throw posthouse::InvalidArgument
///   static T decode(Payload const&);                 // throws posthouse::DecodeError
///   static constexpr std::string_view content_type;  // for people who look at jobs
template <class T>
struct codec;

template <>
struct codec<json> {
  static constexpr std::string_view content_type = "application/json";
  static Payload encode(json const& value) { return {value}; }
  static json decode(Payload const& payload) { return json{std::string(payload.is_null() ? "null" : payload.data())}; }
};

template <>
struct codec<bytes> {
  static constexpr std::string_view content_type = "application/octet-stream";
  static Payload encode(bytes const& value) { return {value}; }
  static bytes decode(Payload const& payload) { return bytes{std::string(payload.data())}; }
};

template <>
struct codec<Payload> {
  static constexpr std::string_view content_type = "*/*";
  static Payload encode(Payload const& value) { return value; }
  static Payload decode(Payload const& payload) { return payload; }
};

}  // namespace posthouse
