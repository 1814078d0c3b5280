// SPDX-License-Identifier: Apache-2.0
#include "core/names.hpp"

#include <algorithm>

#include "core/refuse.hpp"
#include "core/text.hpp"

namespace posthouse::core {

namespace {

bool is_letter_or_digit(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool is_name(std::string_view name) noexcept {
  return !name.empty() && name.size() <= 100 && is_letter_or_digit(name[0]) &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return is_letter_or_digit(c) || c == '_' || c == '.' || c == ':' || c == '/' || c == '-';
         });
}

}  // namespace

void check_name(std::string_view argument, std::string_view name) {
  if (is_name(name)) return;
  refuse(argument, name, "1 to 100 characters of A-Z a-z 0-9 _ . : / -, the first a letter or digit",
         "Rename it; put other data into the payload or the headers.");
}

void check_kind(std::string_view kind) { check_name("kind", kind); }

void check_queue(std::string_view queue) { check_name("queue", queue); }

namespace {

void check_key_of(std::string_view what, std::string_view key) {
  constexpr std::size_t most = 512;
  if (!key.empty() && key.size() <= most && key.find('\0') == std::string_view::npos && is_valid_utf8(key)) return;
  refuse(what, key, "1 to 512 bytes of UTF-8 without NUL", "Put a hash of longer keys into it.");
}

}  // namespace

void check_dedupe_key(std::string_view key) { check_key_of("dedupe_key", key); }

void check_key(std::string_view key) { check_key_of("key", key); }

void check_token(std::string_view token) {
  auto const is_right = [&](std::size_t i) {
    if (i == 8 || i == 13 || i == 18 || i == 23) return token[i] == '-';
    char const c = token[i];
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  };
  bool right = token.size() == 36;
  for (std::size_t i = 0; right && i < token.size(); ++i) right = is_right(i);
  if (!right) refuse("token", token, "a UUID as 0190b3a4-5c6d-4e7f-8a9b-0c1d2e3f4a5b", "Make one for each job.");
}

void check_fair_by(std::string_view argument, std::string_view value) {
  constexpr std::string_view prefix = "header:";
  constexpr std::size_t most = 200;
  bool const header = value.starts_with(prefix) && value.size() > prefix.size() &&
                      value.size() <= prefix.size() + most && value.find('\0') == std::string_view::npos &&
                      is_valid_utf8(value);
  if (value != "key" && !header) {
    refuse(argument, value, "key, or header: and the name of a header, 1 to 200 bytes of UTF-8",
           "Write header:tenant for the header tenant.");
  }
}

void check_schema(std::string_view schema) {
  // 48 leaves room in PostgreSQL's 63 bytes for names that are made from the schema's.
  constexpr std::size_t most = 48;
  if (schema.empty() || schema.size() > most || schema.find('\0') != std::string_view::npos || !is_valid_utf8(schema)) {
    refuse("schema", schema, "1 to 48 bytes of UTF-8 without NUL", "Choose another name, for example posthouse.");
  }
  if (schema.starts_with("pg_")) {
    refuse("schema", schema, "names that do not begin with pg_, which PostgreSQL keeps for itself",
           "Choose another name, for example posthouse.");
  }
}

}  // namespace posthouse::core
