// SPDX-License-Identifier: Apache-2.0
#include "monitor/job_metrics.hpp"

#include <algorithm>

namespace posthouse::monitor {

std::string_view JobMetrics::name_of(End end) noexcept {
  constexpr std::array<std::string_view, ends> names{"succeeded", "retried", "failed",  "cancelled",
                                                     "expired",   "snoozed", "released"};
  return names[static_cast<std::size_t>(end)];
}

JobMetrics::Numbers& JobMetrics::of(std::string_view queue, std::string_view kind) {
  auto found = numbers_.find(queue);
  if (found != numbers_.end()) {
    auto const inner = found->second.find(kind);
    if (inner != found->second.end()) return inner->second;
  }
  if (pairs_ >= max_pairs && queue != other_name) return of(other_name, other_name);
  ++pairs_;
  return numbers_[std::string(queue)][std::string(kind)];
}

void JobMetrics::ended(std::string_view queue, std::string_view kind, End end, std::chrono::nanoseconds ran) {
  double const seconds = std::chrono::duration<double>(ran).count();
  auto const bucket = std::lower_bound(bounds.begin(), bounds.end(), seconds) - bounds.begin();
  std::lock_guard const lock(mutex_);
  auto& numbers = of(queue, kind);
  ++numbers.by_end[static_cast<std::size_t>(end)];
  if (ran.count() == 0) return;
  ++numbers.buckets[static_cast<std::size_t>(bucket)];
  numbers.seconds += seconds;
}

std::map<JobMetrics::Pair, JobMetrics::Numbers> JobMetrics::read() const {
  std::map<Pair, Numbers> all;
  std::lock_guard const lock(mutex_);
  for (auto const& [queue, kinds] : numbers_) {
    for (auto const& [kind, numbers] : kinds) all.emplace(Pair(queue, kind), numbers);
  }
  return all;
}

}  // namespace posthouse::monitor
