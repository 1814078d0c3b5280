// SPDX-License-Identifier: Apache-2.0
// The figures of a run and how they are printed.
//
// One rule for all figures: what was measured several times is printed as its median. One rule for ratios: of two things
// that were measured next to each other, in turns, each pair gives a ratio, and the median of those is printed; it is
// therefore not the ratio of the two medians beside it. Whose turn is first alternates. Two ratios cannot be had in
// pairs and compare medians: latency_ratio, of single probes, and parked_ratio, since its backlog is made once.
// Thread safety: plain values.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace posthouse::bench {

/// 0 of none; the mean of the middle two of an even number.
double median(std::vector<double> values);
/// The value that `share` (0 to 1) of the others do not exceed; 0 of none.
double percentile(std::vector<double> values, double share);

/// Two things that are measured in turns.
struct Pairs {
  std::vector<double> ours{};
  std::vector<double> raw{};

  /// Runs both, each of which returns a figure; `turn` (the repetition) says who is first.
  template <class Ours, class Raw>
  void measure(int turn, Ours run_ours, Raw run_raw) {
    if (turn % 2 == 0) ours.push_back(run_ours());
    raw.push_back(run_raw());
    if (turn % 2 != 0) ours.push_back(run_ours());
  }
  [[nodiscard]] double ratio() const;  ///< the median of the pairs'; 0 of none
};

class Figures {
 public:
  void add(std::string key, double value) { figures_.emplace_back(std::move(key), value); }
  void add(std::string key, std::vector<double> const& values) { add(std::move(key), median(values)); }
  /// Both medians and the ratio.
  void compare(std::string const& ours, std::string const& raw, std::string const& ratio, Pairs const& pairs) {
    add(ours, pairs.ours);
    add(raw, pairs.raw);
    add(ratio, pairs.ratio());
  }
  /// A scenario that could not be measured.
  void fail(std::string scenario, std::string error) { failed_.emplace_back(std::move(scenario), std::move(error)); }
  [[nodiscard]] bool any_failed() const noexcept { return !failed_.empty(); }
  /// What another one holds, behind ours.
  void append(Figures const& other);

  /// An object: a number a key; `failed`, if anything has, is an object of scenario and error.
  [[nodiscard]] std::string json() const;
  [[nodiscard]] std::string table() const;

 private:
  std::vector<std::pair<std::string, double>> figures_{};
  std::vector<std::pair<std::string, std::string>> failed_{};
};

}  // namespace posthouse::bench
