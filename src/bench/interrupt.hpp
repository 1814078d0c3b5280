// SPDX-License-Identifier: Apache-2.0
// SIGINT, SIGTERM and SIGHUP while a benchmark runs: whoever measures is told, unwinds and cleans up.
//
// Signals are blocked in the thread that builds this and in those that it starts from then on; a thread of its own waits
// for them. The first one makes check() and sleep() throw and cancels the statement that runs; another one, a second or
// more later, ends the process at once. A signal that was ignored (nohup) stays ignored.
// Thread safety: one object a process; all calls from any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <csignal>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "base/event_fd.hpp"
#include "base/unique_fd.hpp"

namespace posthouse::bench {

struct Interrupted : std::exception {
  [[nodiscard]] char const* what() const noexcept override { return "interrupted"; }
};

class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(Interrupt const&) = delete;
  Interrupt& operator=(Interrupt const&) = delete;

  /// The first signal that came; 0: none.
  [[nodiscard]] int signal() const noexcept { return signal_; }
  /// Throws Interrupted once a signal has come.
  void check() const {
    if (signal_ != 0) throw Interrupted();
  }
  /// The same, and wakes at once when one comes.
  void sleep(std::chrono::microseconds time) const;
  /// What a signal cancels, again and again as long as it is set, since a statement may begin just after it. Empty: none.
  void cancels(std::function<void()> cancel);
  /// The signals that were blocked before: for programs that are started.
  [[nodiscard]] sigset_t const& outer_mask() const noexcept { return outer_; }

 private:
  void watch();

  sigset_t outer_{};
  std::atomic<int> signal_{0};
  std::mutex mutex_{};
  std::function<void()> cancel_{};
  base::EventFd came_;  // never drained
  base::EventFd over_;
  base::UniqueFd signals_{};
  std::thread thread_{};
};

}  // namespace posthouse::bench
