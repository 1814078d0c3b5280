// SPDX-License-Identifier: Apache-2.0
// See process_usage.hpp.
#include "base/process_usage.hpp"

#include <unistd.h>

#include <filesystem>
#include <fstream>
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

void add(std::string const& folder, ProcessUsage& sum, std::int64_t ticks_a_second) {
  std::istringstream memory(first_line(folder + "/statm"));
  std::int64_t size = 0;
  std::int64_t resident = 0;
  if (memory >> size >> resident) sum.rss_bytes += resident * ::sysconf(_SC_PAGESIZE);
  sum.cpu_ms += cpu_ticks_of(first_line(folder + "/stat")) * 1000 / ticks_a_second;
}

/// Each thread of a process has the children that it started.
void append_children(std::string const& folder, std::vector<std::string>& pids) {
  std::error_code error;
  for (std::filesystem::directory_iterator thread(folder + "/task", error), end; !error && thread != end;
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
  add("/proc/self", sum, ticks_a_second);
  append_children("/proc/self", pids);
  for (std::size_t at = 0; at < pids.size() && at < most_processes; ++at) {
    auto const folder = "/proc/" + pids[at];
    add(folder, sum, ticks_a_second);
    append_children(folder, pids);
  }
  sum.children = static_cast<int>(pids.size());
  return sum;
}

}  // namespace posthouse::base
