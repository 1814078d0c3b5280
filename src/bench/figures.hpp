// SPDX-License-Identifier: Apache-2.0
// The figures of a run and how they are printed.
//
// Thread safety: plain values.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace posthouse::bench {

class Figures {
 public:
  void add(std::string key, double value) { figures_.emplace_back(std::move(key), value); }
  /// ours, raw and their ratio in one go.
  void compare(std::string const& ours, double value, std::string const& raw, double limit, std::string const& ratio) {
    add(ours, value);
    add(raw, limit);
    add(ratio, limit > 0 ? value / limit : 0);
  }
  [[nodiscard]] std::string json() const;
  [[nodiscard]] std::string table() const;

 private:
  std::vector<std::pair<std::string, double>> figures_{};
};

}  // namespace posthouse::bench
