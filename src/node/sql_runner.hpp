// SPDX-License-Identifier: Apache-2.0
// Runs `sql` jobs on a few connections of its own.
//
// Thread safety: any thread.
#pragma once

#include <condition_variable>
#include <mutex>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include <posthouse/options.hpp>

#include "base/log.hpp"
#include "execute/sql_handler.hpp"
#include "pg/pool.hpp"

namespace posthouse::node {

class PooledSqlRunner final : public execute::SqlRunner {
 public:
  /// `connections`: most at a time; further jobs wait for one.
  PooledSqlRunner(DatabaseOptions options, int connections, base::Log log, pg::Pool::Keep keep = {});
  ~PooledSqlRunner() override = default;

  void run(Job const& job, std::vector<std::string> const& statements) override;
  /// Closes connections that have been idle for too long; call it now and then.
  void tend() { pool_.close_stale(); }
  [[nodiscard]] std::size_t open_connections() const { return pool_.open_connections(); }

 private:
  class Cancellation;
  void request_cancel(int backend_pid);
  void forget_cancel(int backend_pid);
  void cancel_loop(std::stop_token const& stop);

  pg::Pool pool_;
  base::Log log_;
  std::mutex mutex_;
  std::condition_variable_any requested_;
  std::condition_variable cancelled_;
  std::set<int> to_cancel_;  ///< server processes whose statement is to end
  bool cancelling_ = false;
  std::jthread canceller_;  ///< started with the first cancel; last, so that it ends before what it uses
};

}  // namespace posthouse::node
