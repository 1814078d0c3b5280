// SPDX-License-Identifier: Apache-2.0
// Runs one program: input on its standard input, output caught within limits, killed with all it left behind.
//
// The program gets a process group of its own and no descriptor of ours but 0, 1 and 2. When it ends, whatever still
// lives in its group is killed; a descendant that left the group (setsid) lives on and holds nothing of ours. It also
// dies with the thread that runs it, so a worker that is killed takes its programs along.
// Thread safety: run_program() may be called from any number of threads; signal handlers of the process are not
// touched.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace posthouse::execute {

struct Program {
  std::vector<std::string> argv{};         ///< not empty; argv[0] without a slash is looked up in PATH of `environment`
  std::vector<std::string> environment{};  ///< NAME=VALUE, all that the program sees
  std::chrono::milliseconds kill_grace{5000};  ///< from SIGTERM to SIGKILL
  std::size_t output_limit = 1024 * 1024;      ///< bytes of standard output kept, from the start
  std::size_t error_limit = 16 * 1024;         ///< bytes of standard error kept, from the end
};

struct ProgramEnd {
  enum class How { exited, signalled, not_started };

  How how = How::not_started;
  int code = 0;            ///< exit status, signal number, or errno
  bool timed_out = false;  ///< we ended it because the deadline passed
  bool stopped = false;    ///< we ended it because we were asked to stop
  std::string output{};
  std::uint64_t output_bytes = 0;  ///< all that it wrote, kept or not
  std::string error_tail{};
  std::uint64_t error_bytes = 0;
  std::string problem{};  ///< why it did not start, a sentence
};

/// Returns when the program has ended. Never throws for anything that the program does; std::bad_alloc aside.
ProgramEnd run_program(Program const& program, std::string_view input,
                       std::optional<std::chrono::steady_clock::time_point> deadline, std::stop_token const& stop);

}  // namespace posthouse::execute
