// SPDX-License-Identifier: Apache-2.0
// What run_worker() and the broker may do with a Worker and nobody else: have it run its handlers in children, be such a
// child, share its heart's connection, look at whether it still runs.
//
// Thread safety: before Worker::start(), but for ended(), health() and stats(), which any thread may call.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <posthouse/worker.hpp>

#include "base/log.hpp"
#include "base/unique_fd.hpp"
#include "claim/pacing.hpp"
#include "monitor/source.hpp"
#include "pg/connection.hpp"

namespace posthouse {

/// Called on the heart's thread; must be quick.
struct WorkerWatch {
  /// Every few seconds while the database answers, and first on each new connection. What it throws counts as trouble.
  std::function<void(pg::Connection&)> with_heart{};
  std::function<void(std::exception const&)> trouble{};  ///< heartbeats fail at this moment
  std::chrono::milliseconds listen_retry{30'000};        ///< longest wait between tries to LISTEN
  int claim_most = claim::max_jobs_a_claim;
};

struct WorkerDoor {
  /// This process can be started anew with its own arguments, and comes to run_worker() again.
  static void allow_processes(Worker& worker);
  /// Each end of a job is told to `jobs`.
  static void observe(Worker& worker, std::shared_ptr<monitor::JobMetrics> jobs);
  /// How it is with the worker's database; `starting` while it does not run.
  static monitor::Health health(Worker const& worker);
  /// As Worker::stats, but never waits for one that starts.
  static WorkerStats stats(Worker const& worker);
  /// Runs the worker's handlers for the parent behind `socket`. Returns the exit status.
  static int serve(Worker& worker, base::UniqueFd socket, base::Log const& log);
  static void watch(Worker& worker, WorkerWatch watch);
  /// It was started and has ended without being asked to stop, or was stopped.
  static bool ended(Worker const& worker);
};

}  // namespace posthouse
