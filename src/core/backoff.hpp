// SPDX-License-Identifier: Apache-2.0
// How long a failed job waits.
//
// Thread safety: pure functions, as far as Backoff::custom is.
#pragma once

#include <cstdint>
#include <posthouse/outcome.hpp>

namespace posthouse::core {

inline constexpr std::int64_t max_delay_ms = std::int64_t{3650} * 24 * 3600 * 1000;  ///< ten years

/// Milliseconds until the next attempt; `attempt` is the number of attempts made, from 1; `random` is in [0, 1).
/// Saturates, so any attempt is fine; the result is in [0, max_delay_ms]. Jitter spreads the capped delay, so that jobs
/// at the cap do not come back all at once; a delay may exceed the cap by it. A custom function that throws all the
/// same counts as the default policy.
std::int64_t delay_ms(Backoff const& backoff, std::int64_t attempt, double random);

/// Throws InvalidArgument when a field is out of its range.
void validate(Backoff const& backoff);

}  // namespace posthouse::core
