// SPDX-License-Identifier: Apache-2.0
// One child process as its parent sees it: this very program, started anew, with a socket to talk over.
//
// The child leads a process group of its own: a terminal's Ctrl-C does not reach it, and what its handlers have started
// and left behind ends with it.
// Thread safety: one thread at a time, but for wake.
#pragma once

#include <sys/types.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/event_fd.hpp"
#include "base/unique_fd.hpp"
#include "isolate/frame.hpp"

namespace posthouse::isolate {

/// Tells a process that it is a child: "descriptor:pid of the parent".
inline constexpr char const* child_variable = "POSTHOUSE_JOB_CHILD";

/// Signals that mean the worker and not its children.
inline constexpr std::array<int, 3> parents_signals{SIGINT, SIGTERM, SIGHUP};

/// The arguments with which this process was started.
std::vector<std::string> own_arguments();

class Child {
 public:
  /// Starts /proc/self/exe with these arguments and our environment. Throws std::system_error. The child lives no
  /// longer than the thread that calls this.
  explicit Child(std::vector<std::string> const& argv);
  /// Kills and reaps what is left.
  ~Child();
  Child(Child const&) = delete;
  Child& operator=(Child const&) = delete;

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  [[nodiscard]] int socket() const noexcept { return socket_.get(); }
  [[nodiscard]] int pidfd() const noexcept { return pidfd_.get(); }  ///< -1: the kernel has none
  /// It has ended, and is a zombie until reap().
  [[nodiscard]] bool dead() const;
  /// SIGKILL to it and to its group.
  void kill() const;
  /// kill(), and waits for its end. How it ended: "child process 7 was killed by signal 11 (SIGSEGV)".
  std::string reap();
  /// No more jobs: it sees the end of its socket and leaves.
  void dismiss() { socket_.reset(); }
  /// Resident memory in MiB; 0 when it cannot be read.
  [[nodiscard]] std::int64_t memory_mb() const;

  /// Sends what the socket takes of `rest` without waiting, and removes it. False: nobody reads any more.
  bool send_some(std::string_view& rest) const;
  /// Reads what is there into `frames`. False: the child's end is closed.
  bool receive();

  FrameStream frames{};
  base::EventFd wake{};                              ///< for whoever drives this child
  std::int64_t jobs = 0;                             ///< it was given
  std::chrono::steady_clock::time_point deadline{};  ///< of its start, or of its leaving

 private:
  pid_t pid_ = -1;
  bool reaped_ = false;
  base::UniqueFd socket_;
  base::UniqueFd pidfd_;
};

}  // namespace posthouse::isolate
