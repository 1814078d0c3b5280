// SPDX-License-Identifier: Apache-2.0
// Opt-in: JSON payloads from structs described with Boost.Describe.
//
//   struct SendWelcome { std::int64_t user_id = 0; std::string locale = "en"; };
//   BOOST_DESCRIBE_STRUCT(SendWelcome, (), (user_id, locale))
//
// gives codec<SendWelcome>. Members may be bool, integers, float, double, std::string, described enums (by name),
// described structs, std::optional, std::vector and other containers with push_back, maps with std::string keys, and
// boost::json::value for what has no fixed shape. Described bases count as if their members stood in the struct.
// Reading: a missing member keeps its default, an unknown one is ignored unless strict_json says otherwise, no payload
// at all reads as {}. Integers keep all their digits and must fit; doubles come back as they were.
// This is the one public header that includes Boost; link Boost::json (1.81 or later).
// Thread safety: pure functions.
#pragma once

#include <algorithm>
#include <boost/describe.hpp>
#include <boost/json.hpp>
#include <boost/json/basic_parser_impl.hpp>
#include <boost/mp11/algorithm.hpp>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <posthouse/error.hpp>
#include <posthouse/outcome.hpp>
#include <posthouse/payload.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace posthouse {

/// `template <> inline constexpr bool posthouse::strict_json<SendWelcome> = true;` refuses members that the struct does
/// not have. Each nested struct has a switch of its own.
template <class T>
inline constexpr bool strict_json = false;

namespace describe_detail {

namespace bj = boost::json;

template <class T>
concept DescribedStruct = std::is_class_v<T> && boost::describe::has_describe_members<T>::value;
template <class T>
concept DescribedEnum = std::is_enum_v<T> && boost::describe::has_describe_enumerators<T>::value;
template <class T>
concept Integer = std::integral<T> && !std::same_as<T, bool> && !std::same_as<T, char> && !std::same_as<T, wchar_t> &&
                  !std::same_as<T, char8_t> && !std::same_as<T, char16_t> && !std::same_as<T, char32_t>;
template <class T>
concept Optional = std::same_as<T, std::optional<typename T::value_type>>;
template <class T>
concept StringMap = std::same_as<typename T::key_type, std::string> && requires {
  typename T::mapped_type;
};
template <class T>
concept Sequence = !std::same_as<T, std::string> && requires(T & list, typename T::value_type item) {
  list.clear();
  list.push_back(std::move(item));
};

template <class T>
using Members = boost::describe::describe_members<T, boost::describe::mod_any_access | boost::describe::mod_inherited>;
template <class T>
inline constexpr bool unsupported = false;

/// Where we are in the document; the text is made only for an error.
struct Path {
  Path const* parent = nullptr;
  std::string_view name{};
  std::size_t index = 0;
  bool is_index = false;

  [[nodiscard]] Path member(std::string_view child) const { return {this, child, 0, false}; }
  [[nodiscard]] Path element(std::size_t child) const { return {this, {}, child, true}; }

  [[nodiscard]] std::string text() const {
    if (parent == nullptr) return "$";
    if (is_index) return parent->text() + "[" + std::to_string(index) + "]";
    bool const plain = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    });
    if (plain) return parent->text() + "." + std::string(name);
    return parent->text() + "[" + bj::serialize(bj::string_view(name)) + "]";
  }
};

// -- reading ------------------------------------------------------------------------------------------------------

/// Builds a boost::json::value as boost::json::parse does, but for doubles: its own are off by one bit now and then.
struct ExactHandler {
  static constexpr std::size_t max_object_size = bj::object::max_size();
  static constexpr std::size_t max_array_size = bj::array::max_size();
  static constexpr std::size_t max_key_size = bj::string::max_size();
  static constexpr std::size_t max_string_size = bj::string::max_size();
  using View = bj::string_view;
  using Ec = bj::error_code;

  bj::value_stack stack{};
  std::string number{};

  bool on_document_begin(Ec&) { return true; }
  bool on_document_end(Ec&) { return true; }
  bool on_array_begin(Ec&) { return true; }
  bool on_array_end(std::size_t n, Ec&) { return stack.push_array(n), true; }
  bool on_object_begin(Ec&) { return true; }
  bool on_object_end(std::size_t n, Ec&) { return stack.push_object(n), true; }
  bool on_string_part(View s, std::size_t, Ec&) { return stack.push_chars(s), true; }
  bool on_string(View s, std::size_t, Ec&) { return stack.push_string(s), true; }
  bool on_key_part(View s, std::size_t, Ec&) { return stack.push_chars(s), true; }
  bool on_key(View s, std::size_t, Ec&) { return stack.push_key(s), true; }
  bool on_number_part(View s, Ec&) { return number.append(s.data(), s.size()), true; }
  bool on_int64(std::int64_t i, View, Ec&) { return stack.push_int64(i), number.clear(), true; }
  bool on_uint64(std::uint64_t u, View, Ec&) { return stack.push_uint64(u), number.clear(), true; }
  bool on_double(double d, View s, Ec&) {
    number.append(s.data(), s.size());
    std::from_chars(number.data(), number.data() + number.size(), d);  // out of range leaves Boost's 0 or infinity
    stack.push_double(d);
    number.clear();
    return true;
  }
  bool on_bool(bool b, Ec&) { return stack.push_bool(b), true; }
  bool on_null(Ec&) { return stack.push_null(), true; }
  bool on_comment_part(View, Ec&) { return true; }
  bool on_comment(View, Ec&) { return true; }
};

inline bj::value parse(std::string_view text, bj::storage_ptr memory) {
  bj::parse_options options;
  options.max_depth = 128;
  bj::basic_parser<ExactHandler> parser(options);
  parser.handler().stack.reset(std::move(memory));
  bj::error_code ec;
  std::size_t const read = parser.write_some(false, text.data(), text.size(), ec);
  if (!ec && read < text.size()) ec = bj::error::extra_data;
  if (ec) throw DecodeError("$", "expected JSON, found " + ec.message() + " at byte " + std::to_string(read + 1));
  return parser.handler().stack.release();
}

inline std::string found(bj::value const& value) {
  switch (value.kind()) {
    case bj::kind::null:
      return "null";
    case bj::kind::bool_:
      return value.get_bool() ? "true" : "false";
    case bj::kind::string:
      return "a string";
    case bj::kind::array:
      return "an array";
    case bj::kind::object:
      return "an object";
    default:
      return "the number " + bj::serialize(value);
  }
}

[[noreturn]] inline void fail(Path const& path, std::string const& expected, bj::value const& value) {
  throw DecodeError(path.text(), "expected " + expected + ", found " + found(value));
}

template <class T>
void decode(bj::value const& from, T& to, Path const& path);

template <Integer T>
void decode_integer(bj::value const& from, T& to, Path const& path) {
  if (auto const* i = from.if_int64(); i != nullptr && std::in_range<T>(*i)) {
    to = static_cast<T>(*i);
    return;
  }
  if (auto const* u = from.if_uint64(); u != nullptr && std::in_range<T>(*u)) {
    to = static_cast<T>(*u);
    return;
  }
  // 3.0 and 1e3 are integers that other languages write; beyond 2^53 a double no longer says which integer was meant.
  if (auto const* d = from.if_double(); d != nullptr && std::abs(*d) < 0x1p53 && *d == std::trunc(*d)) {
    if (auto const i = static_cast<std::int64_t>(*d); std::in_range<T>(i)) {
      to = static_cast<T>(i);
      return;
    }
  }
  using Limits = std::numeric_limits<T>;
  fail(path, "an integer from " + std::to_string(Limits::min()) + " to " + std::to_string(Limits::max()), from);
}

template <std::floating_point T>
void decode_floating(bj::value const& from, T& to, Path const& path) {
  if (!from.is_number()) fail(path, "a number", from);
  auto const number = from.to_number<double>();
  if (!(std::abs(number) <= static_cast<double>(std::numeric_limits<T>::max()))) {
    fail(path, sizeof(T) == sizeof(float) ? "a number that a float holds" : "a number that a double holds", from);
  }
  to = static_cast<T>(number);
}

template <DescribedEnum T>
void decode_enum(bj::value const& from, T& to, Path const& path) {
  if (auto const* name = from.if_string()) {
    if (boost::describe::enum_from_string(name->c_str(), to)) return;
  }
  std::string expected = "one of";
  boost::mp11::mp_for_each<boost::describe::describe_enumerators<T>>(
      [&](auto one) { expected += std::string(expected.size() > 6 ? ", " : " ") + one.name; });
  fail(path, expected, from);
}

template <DescribedStruct T>
void decode_struct(bj::value const& from, T& to, Path const& path) {
  auto const* object = from.if_object();
  if (object == nullptr) fail(path, "an object", from);
  std::size_t known = 0;
  boost::mp11::mp_for_each<Members<T>>([&](auto member) {
    if (auto const* value = object->if_contains(member.name)) {
      decode(*value, to.*member.pointer, path.member(member.name));
      ++known;
    }
  });
  if constexpr (strict_json<T>) {
    if (known == object->size()) return;
    for (auto const& item : *object) {
      bool is_member = false;
      boost::mp11::mp_for_each<Members<T>>([&](auto member) { is_member = is_member || item.key() == member.name; });
      if (!is_member) fail(path.member(item.key()), "no such member", item.value());
    }
  }
}

template <Sequence T>
void decode_sequence(bj::value const& from, T& to, Path const& path) {
  auto const* array = from.if_array();
  if (array == nullptr) fail(path, "an array", from);
  to.clear();
  for (std::size_t i = 0; i < array->size(); ++i) {
    typename T::value_type item{};
    decode((*array)[i], item, path.element(i));
    to.push_back(std::move(item));
  }
}

template <StringMap T>
void decode_map(bj::value const& from, T& to, Path const& path) {
  auto const* object = from.if_object();
  if (object == nullptr) fail(path, "an object", from);
  to.clear();
  for (auto const& item : *object) {
    typename T::mapped_type value{};
    decode(item.value(), value, path.member(item.key()));
    to.insert_or_assign(std::string(item.key()), std::move(value));
  }
}

template <class T>
void decode(bj::value const& from, T& to, Path const& path) {
  if constexpr (std::same_as<T, bj::value>) {
    to = bj::value(from, bj::storage_ptr{});
  } else if constexpr (std::same_as<T, bool>) {
    if (!from.is_bool()) fail(path, "true or false", from);
    to = from.get_bool();
  } else if constexpr (std::same_as<T, std::string>) {
    if (!from.is_string()) fail(path, "a string", from);
    to.assign(from.get_string().data(), from.get_string().size());
  } else if constexpr (Integer<T>) {
    decode_integer(from, to, path);
  } else if constexpr (std::same_as<T, double> || std::same_as<T, float>) {
    decode_floating(from, to, path);
  } else if constexpr (DescribedEnum<T>) {
    decode_enum(from, to, path);
  } else if constexpr (DescribedStruct<T>) {
    decode_struct(from, to, path);
  } else if constexpr (Optional<T>) {
    to.reset();
    if (!from.is_null()) decode(from, to.emplace(), path);
  } else if constexpr (StringMap<T>) {
    decode_map(from, to, path);
  } else if constexpr (Sequence<T>) {
    decode_sequence(from, to, path);
  } else {
    static_assert(unsupported<T>, "posthouse/describe.hpp has no JSON form for the type of this member");
  }
}

// -- writing ------------------------------------------------------------------------------------------------------

[[noreturn]] inline void refuse(Path const& path, std::string const& problem, std::string const& mend) {
  throw InvalidArgument("payload member " + path.text() + " " + problem, {.hint = mend});
}

template <class T>
void encode(T const& from, bj::value& to, Path const& path) {
  if constexpr (std::same_as<T, bj::value>) {
    to = from;
  } else if constexpr (std::same_as<T, bool>) {
    to.emplace_bool() = from;
  } else if constexpr (std::same_as<T, std::string>) {
    to.emplace_string().assign(from.data(), from.size());
  } else if constexpr (Integer<T> && std::signed_integral<T>) {
    to.emplace_int64() = from;
  } else if constexpr (Integer<T>) {
    to.emplace_uint64() = from;
  } else if constexpr (std::same_as<T, double> || std::same_as<T, float>) {
    if (!std::isfinite(from))
      refuse(path, "is infinite or not a number; allowed: finite numbers", "JSON has no others.");
    to.emplace_double() = static_cast<double>(from);
  } else if constexpr (DescribedEnum<T>) {
    char const* name = boost::describe::enum_to_string(from, nullptr);
    if (name == nullptr) {
      refuse(path, "has the value " + std::to_string(static_cast<std::underlying_type_t<T>>(from)) + " without a name",
             "Describe this enumerator with BOOST_DESCRIBE_ENUM.");
    }
    to.emplace_string() = name;
  } else if constexpr (DescribedStruct<T>) {
    auto& object = to.emplace_object();
    object.reserve(boost::mp11::mp_size<Members<T>>::value);
    boost::mp11::mp_for_each<Members<T>>(
        [&](auto member) { encode(from.*member.pointer, object[member.name], path.member(member.name)); });
  } else if constexpr (Optional<T>) {
    // null, not a missing member: the default of that member might be a value.
    if (from) {
      encode(*from, to, path);
    } else {
      to = nullptr;
    }
  } else if constexpr (StringMap<T>) {
    auto& object = to.emplace_object();
    for (auto const& [name, value] : from) encode(value, object[name], path.member(name));
  } else if constexpr (Sequence<T>) {
    auto& array = to.emplace_array();
    std::size_t index = 0;
    for (typename T::value_type const& item : from) {
      encode(item, array.emplace_back(nullptr), path.element(index++));
    }
  } else {
    static_assert(unsupported<T>, "posthouse/describe.hpp has no JSON form for the type of this member");
  }
}

}  // namespace describe_detail

/// T must be default-constructible: its defaults stand for members that are missing.
template <describe_detail::DescribedStruct T>
struct codec<T> {
  static constexpr std::string_view content_type = "application/json";

  /// Throws InvalidArgument for infinite doubles and enumerators without a name.
  static Payload encode(T const& value) {
    unsigned char buffer[2048];
    boost::json::monotonic_resource memory(buffer);
    boost::json::value document(&memory);
    describe_detail::encode(value, document, {});
    return {json(boost::json::serialize(document))};
  }

  static T decode(Payload const& payload) {
    T value{};
    if (payload.is_null()) return value;
    if (payload.is_bytes()) throw DecodeError("$", "expected JSON, found raw bytes");
    unsigned char buffer[2048];
    boost::json::monotonic_resource memory(buffer);
    describe_detail::decode(describe_detail::parse(payload.data(), &memory), value, {});
    return value;
  }
};

}  // namespace posthouse
