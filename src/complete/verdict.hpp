// SPDX-License-Identifier: Apache-2.0
// From how a handler ended to what becomes of the job.
//
// Thread safety: a pure function, as far as Backoff::custom is.
#pragma once

#include <cstdint>
#include <optional>
#include <posthouse/outcome.hpp>
#include <posthouse/worker.hpp>

#include "store/work.hpp"

namespace posthouse::complete {

inline constexpr std::int64_t max_crashes = 3;  ///< that many child processes a job may cost, then it is quarantined
/// How long a RetryAfter holds its kind at most; the server bounds it too.
inline constexpr std::int64_t max_hold_ms = 3'600'000;

inline constexpr std::size_t max_type_bytes = 200;
inline constexpr std::size_t max_message_bytes = 64 * 1024;

/// How one run ended, and what the decision needs to know.
struct Ending {
  Outcome outcome{};
  bool decode_error = false;       ///< the payload could not be read
  std::int64_t attempt = 1;        ///< the number of this attempt
  std::int64_t max_attempts = 25;  ///< the job's own, else its kind's
  HandlerOptions const* kind = nullptr;
  bool crashed = false;      ///< its child process died of it
  std::int64_t crashes = 0;  ///< child processes that this job has cost before
};

/// The move that the server is asked for; nullopt: success. Texts are made storable. `random` in [0, 1) is the jitter.
std::optional<store::Move> verdict(std::int64_t token, int position, std::int64_t id, Ending const& ending,
                                   double random);

/// A handler that failed after its timeout had asked it to stop has run into the timeout, whatever it threw.
void name_timeout(Outcome& outcome);

}  // namespace posthouse::complete
