// SPDX-License-Identifier: Apache-2.0
// What one process has seen of the jobs of one database: ends, attempts and durations by queue and kind.
//
// Memory is bounded: at most max_pairs pairs of queue and kind have numbers of their own, those that come later share
// the pair "(other)", "(other)", which no queue and no kind can be called.
// Thread safety: all members; ended() takes one lock for well under a microsecond.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

namespace posthouse::monitor {

inline constexpr std::string_view other_name = "(other)";

class JobMetrics {
 public:
  static constexpr std::size_t max_pairs = 300;
  /// Upper bounds of the histogram in s; one more bucket takes what is longer.
  static constexpr std::array<double, 12> bounds{0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800};

  enum class End { succeeded, retried, failed, cancelled, expired, snoozed, released };
  static constexpr std::size_t ends = 7;
  static std::string_view name_of(End end) noexcept;

  struct Numbers {
    std::array<std::int64_t, ends> by_end{};
    std::array<std::int64_t, bounds.size() + 1> buckets{};  ///< each alone, not cumulative
    double seconds = 0;
  };
  using Pair = std::pair<std::string, std::string>;  ///< queue, kind

  /// One attempt, or one job that was not started (`ran` zero, not in the histogram), has ended.
  void ended(std::string_view queue, std::string_view kind, End end, std::chrono::nanoseconds ran);

  [[nodiscard]] std::map<Pair, Numbers> read() const;

 private:
  Numbers& of(std::string_view queue, std::string_view kind);  // with the lock

  mutable std::mutex mutex_;
  std::map<std::string, std::map<std::string, Numbers, std::less<>>, std::less<>> numbers_;
  std::size_t pairs_ = 0;
};

}  // namespace posthouse::monitor
