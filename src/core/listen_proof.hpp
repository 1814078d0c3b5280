// SPDX-License-Identifier: Apache-2.0
// When a LISTEN connection that hears nothing has to prove that it would hear something.
//
// A connection that only waits cannot tell silence from a line that is cut: it notifies itself, and is deaf when that
// does not come back. Any notification is proof, so that of several listeners on one channel one asks for all.
// Thread safety: one thread at a time.
#pragma once

#include <algorithm>
#include <chrono>

namespace posthouse::core {

class ListenProof {
 public:
  using Time = std::chrono::steady_clock::time_point;
  using milliseconds = std::chrono::milliseconds;
  enum class Step { none, ask, deaf };

  explicit ListenProof(milliseconds every = milliseconds{30'000}, milliseconds answer = milliseconds{5'000}) noexcept
      : every_(every), answer_(answer) {}

  /// A new connection, which has just worked. `random` in [0, 1) takes up to a tenth off, so that listeners that began
  /// together do not ask together.
  void begin(Time now, double random) noexcept {
    mine_ = every_ - milliseconds(static_cast<milliseconds::rep>(static_cast<double>(every_.count()) * random / 10));
    heard(now);
  }
  void heard(Time now) noexcept {
    due_ = now + mine_;
    asked_ = false;
  }
  [[nodiscard]] Step step(Time now) const noexcept {
    if (now < due_) return Step::none;
    return asked_ ? Step::deaf : Step::ask;
  }
  /// The notification was sent; or the server takes none at this time: then its answer has to do as proof.
  void asked(Time now, bool sent) noexcept {
    if (!sent) return heard(now);
    asked_ = true;
    due_ = now + answer_;
  }
  /// When step() will ask for something.
  [[nodiscard]] Time due() const noexcept { return due_; }

 private:
  milliseconds every_;
  milliseconds answer_;
  milliseconds mine_ = every_;
  Time due_{};
  bool asked_ = false;
};

}  // namespace posthouse::core
