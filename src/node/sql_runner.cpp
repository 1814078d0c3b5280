// SPDX-License-Identifier: Apache-2.0
#include "node/sql_runner.hpp"

#include <chrono>
#include <functional>
#include <utility>

#include <posthouse/error.hpp>

#include "core/headers_json.hpp"
#include "node/sql_text.hpp"
#include "store/user_sql.hpp"

namespace posthouse::node {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

/// Statements may take as long as the kind's timeout says, or for ever; the server keeps the time, and the stopper.
constexpr milliseconds kNever = 24h * 30;
constexpr milliseconds kWaitForConnection = 24h;

/// Cleans the session whichever way the job ends.
class Session {
 public:
  Session(pg::Connection& connection, bool ours) : sql(connection), ours_(ours) {}
  Session(Session const&) = delete;
  Session& operator=(Session const&) = delete;
  ~Session() { sql.leave(ours_); }
  store::UserSql sql;

 private:
  bool ours_;
};

}  // namespace

PooledSqlRunner::PooledSqlRunner(DatabaseOptions options, int connections, std::size_t row_bytes, base::Log log,
                                 pg::Pool::Keep keep, milliseconds kill_after)
    : pool_(std::move(options), connections, kWaitForConnection, keep),
      row_bytes_(row_bytes),
      log_(std::move(log)),
      stopper_(kill_after) {}

void PooledSqlRunner::run(Job const& job, std::vector<std::string> const& statements) {
  auto connection = pool_.acquire();
  connection->set_deadline(kNever);
  Session session(*connection, !pool_.options().pgbouncer_transaction_mode);
  int const pid = session.sql.begin({.job_id = job.id(),
                                     .kind = job.kind(),
                                     .queue = job.queue(),
                                     .attempt = job.attempt(),
                                     .payload = payload_text(job.payload()),
                                     .headers = core::headers_to_json(job.headers())});
  {
    Stopper::Watch const watch(stopper_, job.stop_token(), ways_of(*connection, pid));
    for (std::size_t i = 0; i < statements.size(); ++i) {
      if (job.stop_token().stop_requested()) {
        throw ServerError("the job was asked to stop before the statement began", {.sqlstate = "57014"});
      }
      session.sql.run(statements[i], time_left(job), i + 1 == statements.size() ? row_bytes_ : 0);
    }
  }
  job.complete(session.sql.transaction(), json{session.sql.result()});
  session.sql.commit();
}

Stopper::Ways PooledSqlRunner::ways_of(pg::Connection const& connection, int backend) {
  auto const ask = [this, backend](bool (*how)(pg::Connection&, int)) {
    try {
      auto const other = pg::Connection::open(pool_.options());
      how(*other, backend);
    } catch (std::exception const& error) {
      log_.warning("cannot end the statement of an SQL job", {{"error", error.what()}});
    }
  };
  std::function<void()> cancel = connection.canceller();  // takes no session of the server's
  if (pool_.options().pgbouncer_transaction_mode) cancel = [ask] { ask(store::cancel_backend); };
  return {.cancel = std::move(cancel), .kill = [ask] { ask(store::terminate_backend); }, .sever = connection.breaker()};
}

}  // namespace posthouse::node
