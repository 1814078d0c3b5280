// SPDX-License-Identifier: Apache-2.0
// For threads of the library that run no code of the user: the signals that end a process are for the thread that waits
// for them, and no system call of ours is interrupted by one. Threads that such a thread starts inherit it.
//
// Thread safety: affects the calling thread alone.
#pragma once

#include <csignal>

namespace posthouse::base {

inline void leave_signals_to_others() noexcept {
  sigset_t ending;
  sigemptyset(&ending);
  for (int const number : {SIGTERM, SIGINT, SIGHUP, SIGQUIT}) sigaddset(&ending, number);
  ::pthread_sigmask(SIG_BLOCK, &ending, nullptr);
}

}  // namespace posthouse::base
