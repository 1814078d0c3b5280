// SPDX-License-Identifier: Apache-2.0
// The independent record of the chaos tests: a file to which every process appends one line an event, in one write().
//
// A line is `microseconds pid event key=value …`, on the clock that all processes of a machine share. What a process
// has written stays when it is killed, and it asks no database.
// Thread safety: History may be used from any thread; the rest are plain values.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/unique_fd.hpp"

namespace posthouse::test::chaos {

struct Event {
  std::int64_t at = 0;  ///< microseconds
  std::int64_t pid = 0;
  std::string what{};
  std::map<std::string, std::string> fields{};

  [[nodiscard]] std::string text(std::string const& key) const {
    auto const it = fields.find(key);
    return it == fields.end() ? std::string() : it->second;
  }
  [[nodiscard]] std::int64_t number(std::string const& key) const {
    auto const it = fields.find(key);
    if (it == fields.end()) throw std::runtime_error("an event '" + what + "' without " + key);
    return std::stoll(it->second);
  }
};

using Fields = std::initializer_list<std::pair<char const*, std::string>>;

class History {
 public:
  explicit History(std::string const& path);
  /// Blanks in values become underscores.
  void note(std::string_view what, Fields fields);
  [[nodiscard]] std::string const& path() const noexcept { return path_; }

  /// Whole lines only: the last one may be on its way.
  static std::vector<Event> read(std::string const& path);
  static std::int64_t now();

 private:
  std::string path_;
  base::UniqueFd fd_;
};

/// "1,2,3"
std::string joined(std::vector<std::int64_t> const& numbers);
std::vector<std::int64_t> numbers_of(std::string const& text);

}  // namespace posthouse::test::chaos
