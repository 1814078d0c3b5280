// SPDX-License-Identifier: Apache-2.0
// When to try to connect again: capped exponential back-off with full jitter, so that a thousand workers that lost
// the same server do not return in step.
//
// Thread safety: one thread at a time.
#pragma once

#include <algorithm>
#include <chrono>

namespace posthouse::core {

class ReconnectBackoff {
 public:
  using milliseconds = std::chrono::milliseconds;

  explicit ReconnectBackoff(milliseconds initial = milliseconds{100}, milliseconds cap = milliseconds{5000}) noexcept
      : initial_(initial), cap_(cap), ceiling_(initial) {}

  /// The wait after one more failure: evenly spread over 1 ms to a ceiling that doubles each time. `random` in [0, 1).
  milliseconds next(double random) noexcept;
  /// Another longest wait, from now on.
  void set_cap(milliseconds cap) noexcept {
    cap_ = cap;
    ceiling_ = std::min(ceiling_, cap);
  }
  /// Connected again.
  void reset() noexcept;
  /// Failures since the last reset.
  [[nodiscard]] int failures() const noexcept { return failures_; }

 private:
  milliseconds initial_;
  milliseconds cap_;
  milliseconds ceiling_;
  int failures_ = 0;
};

}  // namespace posthouse::core
