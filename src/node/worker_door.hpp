// SPDX-License-Identifier: Apache-2.0
// What run_worker() may do with a Worker and nobody else: have it run its handlers in children, and be such a child.
//
// Thread safety: before Worker::start(); health() and stats() at any time.
#pragma once

#include <memory>
#include <posthouse/worker.hpp>

#include "base/log.hpp"
#include "base/unique_fd.hpp"
#include "monitor/source.hpp"

namespace posthouse {

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
};

}  // namespace posthouse
