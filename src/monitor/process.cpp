// SPDX-License-Identifier: Apache-2.0
#include "monitor/process.hpp"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/process_usage.hpp"

namespace posthouse::monitor {
namespace {

double seconds(timeval const& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

std::string first_line(char const* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// Seconds since 1970; 0: not known.
double started() {
  // Behind the name in brackets, which may hold blanks: field 22 is the start in ticks since boot.
  auto const line = first_line("/proc/self/stat");
  auto const close = line.rfind(')');
  if (close == std::string::npos) return 0;
  std::istringstream fields(line.substr(close + 1));
  std::string field;
  for (int i = 3; i <= 22; ++i) fields >> field;
  std::ifstream stat("/proc/stat");
  for (std::string row; std::getline(stat, row);) {
    if (!row.starts_with("btime ")) continue;
    return std::stod(row.substr(6)) + std::stod(field) / static_cast<double>(::sysconf(_SC_CLK_TCK));
  }
  return 0;
}

}  // namespace

std::string plain_number(double value) { return fmt::format("{}", value); }

void process_metrics(Exposition& out) {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  out.family("process_cpu_seconds_total", "counter", "Processor time of this process, user and system.");
  out.sample({}, seconds(usage.ru_utime) + seconds(usage.ru_stime));
  if (auto const memory = base::memory_of("self"); memory.virtual_bytes > 0) {
    out.family("process_virtual_memory_bytes", "gauge", "Virtual memory.");
    out.sample({}, static_cast<double>(memory.virtual_bytes));
    out.family("process_resident_memory_bytes", "gauge", "Resident memory.");
    out.sample({}, static_cast<double>(memory.resident_bytes));
  }
  double files = 0;
  std::error_code error;
  for (std::filesystem::directory_iterator it("/proc/self/fd", error), end; !error && it != end; it.increment(error)) {
    ++files;
  }
  if (!error) {
    out.family("process_open_fds", "gauge", "Open file descriptors.");
    out.sample({}, files);
  }
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    out.family("process_max_fds", "gauge", "Most file descriptors that may be open.");
    out.sample({}, static_cast<double>(limit.rlim_cur));
  }
  static double const start = started();
  if (start > 0) {
    out.family("process_start_time_seconds", "gauge", "Start of this process, in seconds since 1970.");
    out.sample({}, start);
  }
}

}  // namespace posthouse::monitor
