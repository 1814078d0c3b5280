// SPDX-License-Identifier: Apache-2.0
// Memory and processor time of this process and all its descendants, from /proc.
//
// Thread safety: any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace posthouse::base {

struct ProcessUsage {
  std::int64_t rss_bytes = 0;  ///< resident memory; what processes share counts once for each of them
  std::int64_t cpu_ms = 0;     ///< user and system time, that of descendants that have ended included
  int children = 0;            ///< descendants that are alive
};

/// What cannot be read counts as nothing: a child may end at any moment, and not every kernel lists children.
ProcessUsage process_usage();

/// The same, up to this long ago: for the heartbeats of a process with many workers, which would each look at every
/// thread of it.
inline constexpr std::chrono::seconds usage_is_recent{1};
ProcessUsage recent_process_usage();

struct Memory {
  std::int64_t virtual_bytes = 0;
  std::int64_t resident_bytes = 0;
};
/// `process`: a process id, or "self". Zeros when it is gone.
Memory memory_of(std::string const& process);

/// CPU time in clock ticks of a line of /proc/PID/stat, with that of children that were waited for; 0 when it is none.
std::int64_t cpu_ticks_of(std::string_view stat);

}  // namespace posthouse::base
