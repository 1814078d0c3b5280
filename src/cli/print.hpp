// SPDX-License-Identifier: Apache-2.0
// What commands print: tables for people, JSON for programs, one line of progress.
//
// Text from jobs and servers goes through base::printable, so that it cannot steer the terminal.
// Thread safety: one thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace posthouse::cli {

/// To standard output; main() reports what could not be written.
void print(std::string_view text);
/// To standard error, after whatever progress line is there.
void tell(std::string_view text);

/// 1234567 as "1,234,567".
std::string with_commas(std::int64_t number);
/// "1 job", "2 jobs"
std::string count_of(std::int64_t number, std::string_view noun);

class Table {
 public:
  /// A name that begins with '>' aligns its column to the right.
  explicit Table(std::vector<std::string> header);
  void add(std::vector<std::string> row);
  [[nodiscard]] bool empty() const noexcept { return rows_.empty(); }
  [[nodiscard]] std::string text(bool colour) const;

 private:
  std::vector<std::string> header_;
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;
};

/// One JSON object, member by member.
class JsonObject {
 public:
  JsonObject& text(std::string_view name, std::optional<std::string_view> value);
  /// As a string: JavaScript and others would round a bigint.
  JsonObject& id(std::string_view name, std::int64_t value);
  JsonObject& id(std::string_view name, std::optional<std::int64_t> value);
  JsonObject& number(std::string_view name, std::int64_t value);
  JsonObject& boolean(std::string_view name, bool value);
  /// JSON as it is.
  JsonObject& raw(std::string_view name, std::string_view json);
  [[nodiscard]] std::string str() const { return text_ + "}"; }

 private:
  void name(std::string_view name);
  std::string text_ = "{";
};

/// A JSON array of strings.
std::string json_strings(std::vector<std::string> const& list);
/// A number, or null.
std::string json_number(std::optional<std::int64_t> value);

/// An array of objects, one a line.
std::string json_array(std::vector<std::string> const& objects);

/// Raw bytes as PostgreSQL shows them in JSON: \x and hex digits.
std::string hex(std::string_view bytes);

/// One line on standard error that is overwritten, if that is a terminal; else nothing.
class Progress {
 public:
  Progress();
  Progress(Progress const&) = delete;
  Progress& operator=(Progress const&) = delete;
  ~Progress() { clear(); }
  /// `line` is asked for at most ten times a second.
  void show(std::function<std::string()> const& line);
  void clear();

 private:
  bool terminal_;
  bool shown_ = false;
  std::chrono::steady_clock::time_point next_{};
};

/// "[=====>    ]  42 %"
std::string bar(double fraction, int width = 24);

}  // namespace posthouse::cli
