// SPDX-License-Identifier: Apache-2.0
// The workers that serve one database of a broker: one for the numbered queues, and, where the configuration has kinds
// of its own, one for the other queues, so that a flood there takes no thread from a numbered queue.
//
// Thread safety: all members.
#pragma once

#include <cstdint>
#include <memory>
#include <posthouse/broker.hpp>

#include "base/log.hpp"
#include "monitor/job_metrics.hpp"
#include "node/config.hpp"
#include "node/sql_jobs.hpp"
#include "node/sql_runner.hpp"
#include "node/worker_door.hpp"

namespace posthouse::node {

/// The engine's name of a numbered queue.
std::string numbered_queue(int number);

class BrokerCrew {
 public:
  BrokerCrew(Config const& config, BrokerOptions const& options, base::Log const& log, WorkerWatch watch,
             std::shared_ptr<monitor::JobMetrics> const& jobs);

  void start();
  void stop();
  void stop_now();
  /// One of them has ended, whoever asked for it.
  [[nodiscard]] bool ended() const;
  /// Closes idle connections.
  void tend();
  [[nodiscard]] WorkerStats stats() const;
  [[nodiscard]] std::int64_t connections() const;

 private:
  SqlJobs jobs_;
  std::shared_ptr<PooledSqlRunner> sql_;  // of configured kinds; may be null
  std::unique_ptr<Worker> numbered_;
  std::unique_ptr<Worker> others_;  // may be null
};

}  // namespace posthouse::node
