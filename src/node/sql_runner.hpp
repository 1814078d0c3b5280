// SPDX-License-Identifier: Apache-2.0
// Runs `sql` jobs on a few connections of its own. A job that is asked to stop has its statement cancelled, then its server
// process ended, and when not even that is answered (a server that stands still) its connection is given up.
//
// Thread safety: any thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include <posthouse/options.hpp>

#include "base/log.hpp"
#include "execute/sql_handler.hpp"
#include "node/stopper.hpp"
#include "pg/pool.hpp"

namespace posthouse::node {

class PooledSqlRunner final : public execute::SqlRunner {
 public:
  /// `connections`: most at a time; further jobs wait for one. `row_bytes`: as UserSql::run has it, of last statements.
  /// `kill_after`: how long a cancel has time; a connection is given up after four times that.
  PooledSqlRunner(DatabaseOptions options, int connections, std::size_t row_bytes, base::Log log,
                  pg::Pool::Keep keep = {}, std::chrono::milliseconds kill_after = std::chrono::seconds(5));
  ~PooledSqlRunner() override = default;

  void run(Job const& job, std::vector<std::string> const& statements) override;
  /// Closes connections that have been idle for too long; call it now and then.
  void tend() { pool_.close_stale(); }
  [[nodiscard]] std::size_t open_connections() const { return pool_.open_connections(); }

 private:
  Stopper::Ways ways_of(pg::Connection const& connection, int backend);

  pg::Pool pool_;
  std::size_t row_bytes_;
  base::Log log_;
  Stopper stopper_;
};

}  // namespace posthouse::node
