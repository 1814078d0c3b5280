// SPDX-License-Identifier: Apache-2.0
// SIGTERM and SIGINT as something to wait for, while an object of this lives. The handlers that were there before are
// put back afterwards.
//
// Thread safety: one object at a time in a process; building a second one throws InvalidArgument. wait() on one thread.
#pragma once

#include <signal.h>

#include "base/event_fd.hpp"

namespace posthouse::node {

class SignalWatch {
 public:
  SignalWatch();
  ~SignalWatch();
  SignalWatch(SignalWatch const&) = delete;
  SignalWatch& operator=(SignalWatch const&) = delete;

  /// Returns when a signal has arrived since the last call, or interrupt() was called.
  void wait() const;
  /// Signals since the watch was built.
  [[nodiscard]] int count() const noexcept;
  /// Ends wait(); from any thread.
  void interrupt() const noexcept { wake_.signal(); }

 private:
  base::EventFd wake_;
  struct sigaction before_term_ {};
  struct sigaction before_int_ {};
};

}  // namespace posthouse::node
