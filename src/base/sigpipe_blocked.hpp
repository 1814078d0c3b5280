// SPDX-License-Identifier: Apache-2.0
// While it lives, a write to a pipe or socket whose reader is gone gives EPIPE and not a signal, whatever the process has
// set up.
//
// Thread safety: for the thread that makes and destroys it.
#pragma once

#include <pthread.h>

#include <cerrno>
#include <csignal>
#include <ctime>

namespace posthouse::base {

class SigpipeBlocked {
 public:
  SigpipeBlocked() {
    sigset_t pending;
    sigemptyset(&pending);
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    sigemptyset(&sigpipe_);
    sigaddset(&sigpipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &sigpipe_, &before_);
  }
  SigpipeBlocked(SigpipeBlocked const&) = delete;
  SigpipeBlocked& operator=(SigpipeBlocked const&) = delete;
  ~SigpipeBlocked() {
    if (!was_pending_) {
      timespec const zero{};
      while (sigtimedwait(&sigpipe_, nullptr, &zero) < 0 && errno == EINTR) {
      }
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t sigpipe_{};
  sigset_t before_{};
  bool was_pending_ = false;
};

}  // namespace posthouse::base
