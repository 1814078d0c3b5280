// SPDX-License-Identifier: Apache-2.0
// The handler behind `exec`: a job's payload goes to a program, and the program's end becomes the job's.
//
//   exit status 0    success; standard output is the result: JSON when it is JSON, else bytes; its first output_limit
//                    bytes when it is longer
//   exit status 75   not now: again after the kind's first delay, the attempt is not counted (EX_TEMPFAIL)
//   anything else    a failed attempt; the end of standard error is its message
//
// Thread safety: the handler may be called from any number of threads.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include <posthouse/error.hpp>
#include <posthouse/outcome.hpp>

#include "execute/program.hpp"
#include "execute/run.hpp"

namespace posthouse::execute {

struct ExecOptions {
  std::vector<std::string> argv{};
  std::vector<std::string> environment{};  ///< NAME=VALUE; POSTHOUSE_JOB_… are added, and a usual PATH if there is none
  Backoff backoff{};                       ///< its first delay is that of exit status 75, at least 1 s
  std::chrono::milliseconds kill_grace{5000};
  std::size_t output_limit = 1024 * 1024;
};

Handler exec_handler(ExecOptions options);

/// How a program's end reads as an outcome; what exec_handler returns.
Outcome outcome_of(ProgramEnd end, std::string const& program, std::chrono::milliseconds later);

}  // namespace posthouse::execute
