// SPDX-License-Identifier: Apache-2.0
// What the files of SqlJobs share. Private to them.
//
// Thread safety: any thread.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include <posthouse/error.hpp>

#include "core/text.hpp"
#include "node/sql_jobs.hpp"
#include "node/stopper.hpp"
#include "pg/connection.hpp"
#include "pg/pool.hpp"
#include "store/broker_job.hpp"
#include "store/user_sql.hpp"

namespace posthouse::node {

inline constexpr std::size_t kMostMessage = 64 * 1024;

/// So many jobs at a time; the others wait, until they are asked to stop.
class Places {
 public:
  explicit Places(int places) : free_(places) {}
  class Place {
   public:
    Place(Places& places, std::stop_token const& stop);
    Place(Place const&) = delete;
    Place& operator=(Place const&) = delete;
    ~Place();

   private:
    Places& places_;
  };

 private:
  std::mutex mutex_;
  std::condition_variable_any freed_;
  int free_;
};

struct SqlJobs::Impl {
  Impl(Options the_options, base::Log the_log);

  Outcome run(Job const& job, bool plpgsql);
  /// On one of the daemon's connections; completes in the same transaction.
  Outcome run_own(Job const& job, store::BrokerJob const& order, bool plpgsql);
  /// On a connection of its own, logged in as the job's role.
  Outcome run_role(Job const& job, store::BrokerJob const& order, bool plpgsql);

  /// The statements in the transaction that `sql` has begun, up to and without its commit; returns the result as JSON.
  static std::string execute(Job const& job, store::BrokerJob const& order, bool plpgsql, store::UserSql& sql,
                             pg::Connection& connection);
  static store::UserSqlFacts facts_of(Job const& job, store::BrokerJob const& order);

  /// Commits the role's transaction, then `own`, which completes the job; what the first came to decides.
  Outcome commit_both(Job const& job, pg::Connection& role, pg::Connection& own) const;

  std::optional<DatabaseOptions> login_as(store::BrokerJob const& order, std::string& problem);
  Stopper::Ways ways_of(pg::Connection const& connection, int backend, std::optional<DatabaseOptions> const& role);
  Outcome end_of(Job const& job, Error const& error, std::string const& context) const;

  Options const options;
  base::Log const log;
  std::mutex mutex;  // guards run_as
  RunAsLogins run_as;
  pg::Pool pool;
  Places own_places;
  Places role_places;
  Stopper stopper;
};

}  // namespace posthouse::node
