// SPDX-License-Identifier: Apache-2.0
// Waiting for jobs to end: when to look again, and at which of them.
//
// Thread safety: wait_for() from any thread, if `look` may be called there.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <posthouse/client.hpp>
#include <span>
#include <vector>

namespace posthouse::produce {

inline constexpr std::size_t most_waited_for = 100'000;
inline constexpr std::size_t ids_a_look = 1'000;
inline constexpr std::chrono::milliseconds first_look{5};
inline constexpr std::chrono::milliseconds slowest_look{1'000};

/// The pause after a look that followed a pause of `last` (0: the first look). Half as long when something ended.
std::chrono::milliseconds next_pause(std::chrono::milliseconds last, bool something_ended);

/// How jobs stand now, one an id, in order; at most ids_a_look at a time.
using Look = std::function<std::vector<JobOutcome>(std::span<std::int64_t const>)>;
/// Waits so long, or until one of the open jobs (ascending) may have ended: true, and the pauses begin anew.
using Sleep = std::function<bool(std::chrono::milliseconds, std::span<std::int64_t const> open)>;

/// Looks until all have ended or the time is over. Throws InvalidArgument; what `look` throws goes through.
std::vector<JobOutcome> wait_for(std::span<std::int64_t const> ids, std::chrono::milliseconds timeout, Look const& look,
                                 Sleep const& sleep);

}  // namespace posthouse::produce
