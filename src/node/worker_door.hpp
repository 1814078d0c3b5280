// SPDX-License-Identifier: Apache-2.0
// What run_worker() may do with a Worker and nobody else: have it run its handlers in children, and be such a child.
//
// Thread safety: before Worker::start().
#pragma once

#include <posthouse/worker.hpp>

#include "base/log.hpp"
#include "base/unique_fd.hpp"

namespace posthouse {

struct WorkerDoor {
  /// This process can be started anew with its own arguments, and comes to run_worker() again.
  static void allow_processes(Worker& worker);
  /// Runs the worker's handlers for the parent behind `socket`. Returns the exit status.
  static int serve(Worker& worker, base::UniqueFd socket, base::Log const& log);
};

}  // namespace posthouse
