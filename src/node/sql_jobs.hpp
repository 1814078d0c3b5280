// SPDX-License-Identifier: Apache-2.0
// Runs the SQL jobs of one database: the kinds `sql` and `plpgsql` of jobs that broker_add_job made.
//
// A job of the daemon's own login runs on one of its connections, in the transaction that also completes it: effects
// and completion commit together. A job of another role runs on a connection that is opened for it with that role's
// login and closed afterwards; docs/decisions/0018 says how it is completed.
// Thread safety: any thread.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include <posthouse/options.hpp>
#include <posthouse/worker.hpp>

#include "base/log.hpp"
#include "node/run_as.hpp"
#include "pg/pool.hpp"

namespace posthouse::node {

class SqlJobs {
 public:
  struct Options {
    DatabaseOptions database{};
    std::string entry = "default";  ///< name of the entry in `databases`, for messages
    RunAsLogins run_as{};
    int connections = 4;         ///< most at a time with the daemon's own login; opened when needed
    int run_as_connections = 4;  ///< most at a time with other logins
    pg::Pool::Keep keep{};       ///< of those with the daemon's own login
    /// A job that does not end when it is asked to loses its server process so long after the cancel.
    std::chrono::milliseconds kill_after{500};
  };

  /// Opens no connection yet.
  SqlJobs(Options options, base::Log log);
  ~SqlJobs();
  SqlJobs(SqlJobs const&) = delete;
  SqlJobs& operator=(SqlJobs const&) = delete;

  /// broker.max_attempts: 1.
  static HandlerOptions once();

  /// Registers `sql` and `plpgsql`. Several workers (one a numbered queue) may share one SqlJobs, which lives on as long
  /// as any of them.
  void add_to(Worker& worker, HandlerOptions const& policy = once());

  /// Closes the connections that no job uses; the next job opens one again.
  void close_idle();

  /// Closes those that have been idle for too long; call it now and then.
  void tend();
  /// With the daemon's own login.
  [[nodiscard]] std::size_t open_connections() const;

  /// Other logins from the next job on (SIGHUP).
  void set_run_as(RunAsLogins run_as);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace posthouse::node
