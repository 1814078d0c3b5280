// SPDX-License-Identifier: Apache-2.0
#include "produce/wait.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include "core/refuse.hpp"

namespace posthouse::produce {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

milliseconds next_pause(milliseconds last, bool something_ended) {
  if (last < first_look) return first_look;
  return something_ended ? std::max(first_look, last / 2) : std::min(slowest_look, last * 3 / 2);
}

std::vector<JobOutcome> wait_for(std::span<std::int64_t const> ids, milliseconds timeout, Look const& look,
                                 Sleep const& sleep) {
  core::check_range("timeout", timeout.count(), 0, INT64_MAX, "ms");
  core::check_range("number of ids", static_cast<std::int64_t>(ids.size()), 0,
                    static_cast<std::int64_t>(most_waited_for));
  constexpr milliseconds longest = std::chrono::hours(24 * 3650);
  auto const deadline = Clock::now() + std::min(timeout, longest);

  std::map<std::int64_t, JobOutcome> outcomes;
  std::vector<std::int64_t> open(ids.begin(), ids.end());
  std::sort(open.begin(), open.end());
  open.erase(std::unique(open.begin(), open.end()), open.end());
  milliseconds pause{0};
  while (!open.empty()) {
    auto const before = open.size();
    std::vector<std::int64_t> still;
    for (std::size_t at = 0; at < before; at += ids_a_look) {
      auto const some = std::span(open).subspan(at, std::min(ids_a_look, before - at));
      for (auto& outcome : look(some)) {
        if (!outcome.ended()) still.push_back(outcome.id);
        outcomes.insert_or_assign(outcome.id, std::move(outcome));
      }
    }
    open = std::move(still);
    auto const now = Clock::now();
    if (open.empty() || now >= deadline) break;
    pause = next_pause(pause, open.size() < before);
    if (sleep(std::min(pause, std::chrono::ceil<milliseconds>(deadline - now)), open)) pause = milliseconds{0};
  }
  std::vector<JobOutcome> list;
  list.reserve(ids.size());
  for (auto const id : ids) list.push_back(outcomes.at(id));
  return list;
}

}  // namespace posthouse::produce
