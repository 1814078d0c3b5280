// SPDX-License-Identifier: Apache-2.0
// Calls one handler and turns whatever it does into an Outcome: nothing that a handler throws gets past this.
//
// Thread safety: as the handler's.
#pragma once

#include <exception>
#include <functional>
#include <posthouse/job.hpp>
#include <posthouse/outcome.hpp>

namespace posthouse::execute {

using Handler = std::function<Outcome(Job const&)>;
inline constexpr char const* crashed_type = "Crashed";  ///< the Failure of a Run that crashed
/// WorkerOptions::around.
using Around = std::function<Outcome(Job const&, std::function<Outcome()> const& next)>;

struct Run {
  Outcome outcome{};
  bool decode_error = false;  ///< it threw DecodeError: the payload could not be read
  bool crashed = false;       ///< its child process died of it
};

/// With `around`, next() never throws: the hook sees a handler's exception as Failure. A hook that throws itself has
/// failed the attempt.
Run run(Handler const& handler, Around const& around, Job const& job);

/// The Outcome that an exception stands for: Discard, Snooze, RetryAfter and Outcome itself may be thrown; anything
/// else is a Failure with its demangled type.
Run outcome_of(std::exception_ptr const& exception);

}  // namespace posthouse::execute
