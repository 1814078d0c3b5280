// SPDX-License-Identifier: Apache-2.0
// See process_usage.hpp.
#include "base/process_usage.hpp"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

namespace posthouse::base {
namespace {

constexpr int most_processes = 4096;

std::string first_line(std::string const& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

void add(std::string const& process, ProcessUsage& sum, std::int64_t ticks_a_second) {
  sum.rss_bytes += memory_of(process).resident_bytes;
  sum.cpu_ms += cpu_ticks_of(first_line("/proc/" + process + "/stat")) * 1000 / ticks_a_second;
}

/// Each thread of a process has the children that it started.
void append_children(std::string const& process, std::vector<std::string>& pids) {
  std::error_code error;
  for (std::filesystem::directory_iterator thread("/proc/" + process + "/task", error), end; !error && thread != end;
       thread.increment(error)) {
    std::istringstream children(first_line(thread->path().string() + "/children"));
    for (std::string pid; children >> pid;) pids.push_back(pid);
  }
}

}  // namespace

std::int64_t cpu_ticks_of(std::string_view stat) {
  // The name, in brackets, may have anything in it, brackets and blanks too.
  auto const end = stat.rfind(')');
  if (end == std::string_view::npos) return 0;
  std::istringstream fields{std::string(stat.substr(end + 1))};
  std::string skipped;
  for (int field = 3; field < 14; ++field) {
    if (!(fields >> skipped)) return 0;
  }
  std::int64_t sum = 0;
  for (int field = 14; field <= 17; ++field) {
    std::int64_t ticks = 0;
    if (!(fields >> ticks)) return 0;
    sum += ticks;
  }
  return sum;
}

ProcessUsage process_usage() {
  auto const ticks_a_second = static_cast<std::int64_t>(::sysconf(_SC_CLK_TCK));
  ProcessUsage sum;
  std::vector<std::string> pids;
  add("self", sum, ticks_a_second);
  append_children("self", pids);
  for (std::size_t at = 0; at < pids.size() && at < most_processes; ++at) {
    auto const process = pids[at];  // a copy: the list grows
    add(process, sum, ticks_a_second);
    append_children(process, pids);
  }
  sum.children = static_cast<int>(pids.size());
  return sum;
}

ProcessUsage recent_process_usage() {
  static std::mutex mutex;
  static ProcessUsage last;
  static std::optional<std::chrono::steady_clock::time_point> when;
  std::lock_guard const lock(mutex);
  auto const now = std::chrono::steady_clock::now();
  if (!when || now - *when >= usage_is_recent) {
    last = process_usage();
    when = now;
  }
  return last;
}

Memory memory_of(std::string const& process) {
  std::istringstream pages(first_line("/proc/" + process + "/statm"));
  std::int64_t size = 0;
  std::int64_t resident = 0;
  if (!(pages >> size >> resident)) return {};
  std::int64_t const page = ::sysconf(_SC_PAGESIZE);
  return {.virtual_bytes = size * page, .resident_bytes = resident * page};
}

}  // namespace posthouse::base
