// SPDX-License-Identifier: Apache-2.0
// Starts other programs, as another user when asked to: the one place of the private server that forks.
//
// Safe in a program with threads: between fork and exec the child makes system calls on prepared data only.
// Thread safety: free functions, callable from any thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace posthouse::dev {

/// A user to become; only root can.
struct Identity {
  uid_t uid = 0;
  gid_t gid = 0;
  std::string name{};
};

/// PostgreSQL's programs refuse to run as root. For root: the user postgres, or nobody when there is none. For
/// everybody else: nullopt, since no change is needed.
std::optional<Identity> unprivileged_identity();
/// The user who owns `path`, for root; nullopt when we are not root or when root owns it.
std::optional<Identity> owner_identity(std::filesystem::path const& path);
/// True when `as` (nullopt: we ourselves) may enter every folder on the way to `folder`.
bool reachable(std::filesystem::path const& folder, std::optional<Identity> const& as);

struct SpawnOptions {
  std::vector<std::string> argv{};         ///< argv[0] is the program's path
  std::vector<std::string> environment{};  ///< K=V, complete: nothing is inherited
  std::optional<Identity> as{};
  std::filesystem::path working_folder = "/";
  int in = -1;                  ///< -1: /dev/null
  int out = -1;                 ///< standard output; -1: `log`, or /dev/null
  int err = -1;                 ///< standard error; -1: `log`, or /dev/null
  std::filesystem::path log{};  ///< appended to, opened as the new user
  bool new_session = true;      ///< no signals from our terminal
  int announce = -1;            ///< a socket: the child sends "<pid>\n" before it becomes the program
  int parent_death_signal = 0;  ///< sent to it when the thread that started it ends; 0: none
};

/// Starts the program and returns its process id. No other descriptor is inherited. Throws Unavailable when it cannot
/// be started, with the step that failed.
pid_t spawn(SpawnOptions const& options);

struct Finished {
  int status = 0;        ///< exit status; 128 + signal when killed; -1 when the deadline passed
  std::string output{};  ///< standard output and error together, at most 1 MiB
};

/// Runs a program to its end, killing it at the deadline.
Finished run(SpawnOptions options, std::chrono::milliseconds deadline);

/// The variables that a program of PostgreSQL should see: none of the caller's PG* ones.
std::vector<std::string> plain_environment();

/// Waits until `pid`, a child of ours or not, is gone. False: the deadline passed first.
bool wait_gone(pid_t pid, std::chrono::milliseconds deadline);
/// True when the process exists and is no zombie. Reaps `pid` when it is a child of ours that has ended.
bool alive(pid_t pid);

}  // namespace posthouse::dev
