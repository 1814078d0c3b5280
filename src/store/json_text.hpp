// SPDX-License-Identifier: Apache-2.0
// JSON text made by hand, where checked JSON of users goes in as it is and must not be parsed and written again.
//
// Thread safety: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace posthouse::store {

/// Appends `text`, which is UTF-8 without NUL, as a JSON string with its quotes.
void append_json_string(std::string& json, std::string_view text);

/// Appends any bytes as base64 in quotes.
void append_base64_string(std::string& json, std::string_view bytes);

/// Columns of a table as a JSON object: each value is the text of an array as PostgreSQL writes it.
class JsonColumns {
 public:
  JsonColumns(std::initializer_list<std::string_view> names);
  void add(std::size_t column, std::int64_t value);
  /// `text` is UTF-8 without NUL.
  void add(std::size_t column, std::string_view text);
  void add_base64(std::size_t column, std::string_view bytes);
  /// Ends the row: what was not added to it is null.
  void end_row();
  /// A column that is null throughout is left out.
  [[nodiscard]] std::string object() const;

 private:
  struct Column {
    std::string name{};
    std::string text{};
    std::size_t rows = 0;
    bool any = false;
  };
  std::string& next(std::size_t column);
  std::vector<Column> columns_;
  std::size_t rows_ = 0;
};

}  // namespace posthouse::store
