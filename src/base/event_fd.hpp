// SPDX-License-Identifier: Apache-2.0
// A wake-up that poll() can wait for: readable from signal() until drain().
//
// Thread safety: all calls from any thread; signal() is also safe in a signal handler.
#pragma once

#include "base/unique_fd.hpp"

namespace posthouse::base {

class EventFd {
 public:
  /// Throws std::system_error when the process has no file descriptor left.
  EventFd();

  void signal() const noexcept;
  /// True when there was a signal since the last drain. Never blocks.
  bool drain() const noexcept;
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

 private:
  UniqueFd fd_;
};

}  // namespace posthouse::base
