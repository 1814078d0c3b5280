// SPDX-License-Identifier: Apache-2.0
// Memory and processor time of this process and all its descendants, from /proc.
//
// Thread safety: any thread.
#pragma once

#include <cstdint>
#include <string_view>

namespace posthouse::base {

struct ProcessUsage {
  std::int64_t rss_bytes = 0;  ///< resident memory; what processes share counts once for each of them
  std::int64_t cpu_ms = 0;     ///< user and system time, that of descendants that have ended included
  int children = 0;            ///< descendants that are alive
};

/// What cannot be read counts as nothing: a child may end at any moment, and not every kernel lists children.
ProcessUsage process_usage();

/// CPU time in clock ticks of a line of /proc/PID/stat, with that of children that were waited for; 0 when it is none.
std::int64_t cpu_ticks_of(std::string_view stat);

}  // namespace posthouse::base
