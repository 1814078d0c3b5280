// SPDX-License-Identifier: Apache-2.0
// Access to the rows of a statement; every binary field is checked for its length, since the server is not ours.
#include <libpq-fe.h>

#include <charconv>
#include <cstdlib>

#include "pg/connection.hpp"

namespace posthouse::pg {
namespace {

[[noreturn]] void unexpected(char const* wanted, int column) {
  throw ServerError(
      std::string("the server sent something else than ") + wanted + " in column " + std::to_string(column + 1),
      {.sqlstate = {}, .in_doubt = false, .hint = "check that schema and program are of one version"});
}

std::uint64_t big_endian(std::string_view bytes) noexcept {
  std::uint64_t value = 0;
  for (char const byte : bytes) value = (value << 8) | static_cast<unsigned char>(byte);
  return value;
}

}  // namespace

Result::~Result() { PQclear(result_); }

int Result::rows() const noexcept { return PQntuples(result_); }
int Result::columns() const noexcept { return PQnfields(result_); }
bool Result::is_null(int row, int column) const noexcept { return PQgetisnull(result_, row, column) != 0; }

std::string_view Result::field(int row, int column) const noexcept {
  char const* value = PQgetvalue(result_, row, column);
  if (value == nullptr) return {};
  return {value, static_cast<std::size_t>(PQgetlength(result_, row, column))};
}

std::int64_t Result::affected() const noexcept { return std::strtoll(PQcmdTuples(result_), nullptr, 10); }

std::int64_t Result::int8(int row, int column) const {
  std::string_view const text = field(row, column);
  std::int64_t value = 0;
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) unexpected("an integer", column);
  return value;
}

// A statement that went through an Executor has text alone, whatever was asked for.

std::int64_t Result::binary_int8(int row, int column) const {
  if (is_text(column)) return int8(row, column);
  std::string_view const bytes = field(row, column);
  if (bytes.size() != 8) unexpected("a bigint", column);
  return static_cast<std::int64_t>(big_endian(bytes));
}

std::int32_t Result::binary_int4(int row, int column) const {
  if (is_text(column)) return static_cast<std::int32_t>(int8(row, column));
  std::string_view const bytes = field(row, column);
  if (bytes.size() != 4) unexpected("an integer", column);
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(big_endian(bytes)));
}

std::string_view Result::binary_jsonb(int row, int column) const {
  if (is_text(column)) return field(row, column);
  std::string_view const bytes = field(row, column);
  if (bytes.empty() || bytes.front() != '\1') unexpected("jsonb", column);
  return bytes.substr(1);
}

std::string Result::binary_bytea(int row, int column) const {
  std::string_view hex = field(row, column);
  if (!is_text(column)) return std::string(hex);
  if (!hex.starts_with("\\x") || hex.size() % 2 != 0) unexpected("bytea in hex form", column);
  hex.remove_prefix(2);
  std::string bytes;
  bytes.reserve(hex.size() / 2);
  for (std::size_t at = 0; at < hex.size(); at += 2) {
    unsigned byte = 0;
    auto const [end, error] = std::from_chars(hex.data() + at, hex.data() + at + 2, byte, 16);
    if (error != std::errc() || end != hex.data() + at + 2) unexpected("bytea in hex form", column);
    bytes += static_cast<char>(byte);
  }
  return bytes;
}

bool Result::is_text(int column) const noexcept { return PQfformat(result_, column) == 0; }

}  // namespace posthouse::pg
