// SPDX-License-Identifier: Apache-2.0
// What the threads of one running worker share: its options and handlers, counters, and the few words they tell each
// other.
//
// Thread safety: options, handlers and log are fixed before the threads start; everything else is atomic.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <posthouse/worker.hpp>
#include <string>

#include "base/event_fd.hpp"
#include "base/log.hpp"
#include "claim/pacing.hpp"
#include "execute/pool.hpp"
#include "isolate/children.hpp"
#include "monitor/source.hpp"

namespace posthouse::node {

struct Counters {
  std::atomic<std::int64_t> claimed{0}, succeeded{0}, failed{0}, snoozed{0}, released{0}, expired{0}, cancelled{0},
      lease_lost{0}, statements{0}, claims{0}, empty_claims{0};

  [[nodiscard]] WorkerStats read() const {
    return {.claimed = claimed,
            .succeeded = succeeded,
            .failed = failed,
            .snoozed = snoozed,
            .released = released,
            .expired = expired,
            .cancelled = cancelled,
            .lease_lost = lease_lost,
            .statements = statements,
            .claims = claims,
            .empty_claims = empty_claims};
  }
};

/// Only ever grows.
enum class Stop : int { no, graceful, now };

using Handlers = std::map<std::string, execute::Registered, std::less<>>;

/// Whether a kind's handler runs in child processes.
inline bool isolated(HandlerOptions const& kind, WorkerOptions const& worker) {
  return kind.isolation == Isolation::of_worker ? worker.processes > 0 : kind.isolation == Isolation::process;
}

struct WorkerCore {
  WorkerCore(WorkerOptions const& the_options, Handlers const& the_handlers)
      : options(the_options), handlers(the_handlers), log(the_options.logger) {}

  WorkerOptions const options;
  std::shared_ptr<monitor::JobMetrics> jobs{};  ///< null: nobody wants to know; fixed before the pump runs
  Handlers const handlers;
  base::Log const log;
  Counters counters{};
  std::chrono::milliseconds listen_retry{30'000};  ///< longest wait between tries to LISTEN; fixed before the pump runs
  int claim_most = claim::max_jobs_a_claim;        ///< the same

  base::EventFd wake{};  ///< gets the pump out of its sleep
  std::atomic<Stop> stop{Stop::no};
  std::atomic<std::int64_t> incarnation{0};
  std::atomic<std::int64_t> dead_incarnation{0};  ///< the heart was told that this one is dead
  std::atomic<std::int64_t> low_token{0};         ///< no batch below is open
  std::atomic<std::chrono::steady_clock::time_point> beaten{std::chrono::steady_clock::now()};  ///< last heartbeat
  std::atomic<bool> cancel_asked{false};  ///< the heart was told that jobs are to be cancelled
  std::atomic<int> free{0};
  std::atomic<int> running{0};
  std::atomic<int> fleet{1};  ///< workers that serve the same, as far as known

  std::unique_ptr<isolate::Children> children{};  ///< null: all handlers run in threads of this process

  std::function<void()> progressed{};  ///< fixed before the pump runs; wakes who reports progress
  std::function<void()> pinged{};      ///< the same; sends a heartbeat at once

  void request(Stop how) {
    auto before = stop.load();
    while (before < how && !stop.compare_exchange_weak(before, how)) {
    }
    wake.signal();
  }
  void statement() { counters.statements.fetch_add(1, std::memory_order_relaxed); }
};

/// A heartbeat is overdue: the longest wait between two is half of the lease, and a third of it is left.
inline std::chrono::milliseconds silent_too_long(WorkerOptions const& options) { return options.claim_lease * 2 / 3; }

/// From the last sign of life that the database has taken.
inline monitor::Health health_of(WorkerCore const& core) {
  using std::chrono::seconds;
  if (core.stop.load() != Stop::no) return {.state = monitor::State::stopping};
  auto const silent = std::chrono::steady_clock::now() - core.beaten.load();
  if (silent < silent_too_long(core.options)) return {.state = monitor::State::serving};
  return {.state = monitor::State::down,
          .problem = "no heartbeat has reached the database for " +
                     std::to_string(std::chrono::duration_cast<seconds>(silent).count()) + " s"};
}

}  // namespace posthouse::node
