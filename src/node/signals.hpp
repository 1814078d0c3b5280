// SPDX-License-Identifier: Apache-2.0
// SIGTERM and SIGINT, and SIGHUP where that is wanted, as something to wait for, while an object of this lives. The handlers that were there before are
// put back afterwards.
//
// Thread safety: one object at a time in a process; building a second one throws InvalidArgument. wait() on one thread.
#pragma once

#include <signal.h>

#include <chrono>

#include "base/event_fd.hpp"

namespace posthouse::node {

class SignalWatch {
 public:
  /// With `hangup` SIGHUP too; else it does what it did before.
  explicit SignalWatch(bool hangup = false);
  ~SignalWatch();
  SignalWatch(SignalWatch const&) = delete;
  SignalWatch& operator=(SignalWatch const&) = delete;

  /// Returns when a signal has arrived since the last call, or interrupt() was called.
  void wait() const { wait(std::chrono::milliseconds{-1}); }
  /// The same, at most so long; negative: for ever.
  void wait(std::chrono::milliseconds most) const;
  /// SIGHUPs since the last call.
  [[nodiscard]] int take_hangups() const noexcept;
  /// SIGTERMs and SIGINTs since the watch was built.
  [[nodiscard]] int count() const noexcept;
  /// The number of the latest of them; 0: none.
  [[nodiscard]] int latest() const noexcept;
  /// Ends wait(); from any thread.
  void interrupt() const noexcept { wake_.signal(); }

 private:
  base::EventFd wake_;
  struct sigaction before_term_ {};
  struct sigaction before_int_ {};
  struct sigaction before_hup_ {};
  bool const hangup_;
};

}  // namespace posthouse::node
