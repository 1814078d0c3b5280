// SPDX-License-Identifier: Apache-2.0
// Opening a connection: every host gets the whole time-out, and the first one that answers well is taken.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#include "pg/connection_impl.hpp"
#include "pg/conninfo.hpp"

namespace posthouse::pg {
namespace {

using std::chrono::milliseconds;

struct Finish {
  void operator()(PGconn* conn) const noexcept { PQfinish(conn); }
};
using ConnPtr = std::unique_ptr<PGconn, Finish>;

std::string trimmed(char const* message) {
  std::string text = message == nullptr ? "" : message;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

/// Null when this target cannot be had; the reason is appended to `problems`.
ConnPtr attempt(Target const& target, std::chrono::milliseconds timeout, std::string& problems) {
  auto const note = [&](std::string const& problem) {
    if (!problems.empty()) problems += "; ";
    problems += problem;
  };
  LibpqArguments const arguments(target);
  auto const until = Clock::now() + timeout;
  ConnPtr conn(PQconnectStartParams(arguments.names.data(), arguments.values.data(), 0));
  if (!conn) throw std::bad_alloc();
  // Without a processor libpq prints notices to standard error.
  PQsetNoticeProcessor(
      conn.get(), [](void*, char const*) {}, nullptr);
  PostgresPollingStatusType state = PGRES_POLLING_WRITING;
  while (PQstatus(conn.get()) != CONNECTION_BAD) {
    short const events = state == PGRES_POLLING_READING ? POLLIN : POLLOUT;
    if (!wait_socket(PQsocket(conn.get()), events, until)) {
      note(target.place + " did not answer within " + std::to_string(timeout.count()) + " ms");
      return nullptr;
    }
    state = PQconnectPoll(conn.get());
    if (state == PGRES_POLLING_OK) return conn;
    if (state == PGRES_POLLING_FAILED) break;
  }
  note(trimmed(PQerrorMessage(conn.get())));
  return nullptr;
}

// Timeline (0: a standby, which follows whoever leads) and cluster. Of the control file only the cluster: its timeline
// is that of the last checkpoint, which a promotion does not wait for.
constexpr char const* who =
    "case when pg_is_in_recovery() then 0"
    " else ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint end,"
    " (select system_identifier from pg_control_system())";

std::int64_t number_at(ResultPtr const& row, int column) {
  return std::strtoll(PQgetvalue(row.get(), 0, column), nullptr, 10);
}

}  // namespace

std::string Connection::Impl::session_settings() const {
  // The server's own limit ends what we no longer wait for; ours, a little longer, is for a server that is silent.
  auto const limit = deadline - std::min<milliseconds>(deadline / 10, milliseconds(500));
  auto const idle = std::max<milliseconds>(milliseconds(60000), 2 * deadline);
  return "set standard_conforming_strings = on; set default_transaction_isolation = 'read committed'; "
         "set idle_session_timeout = 0; set statement_timeout = " +
         std::to_string(limit.count()) + "; set idle_in_transaction_session_timeout = " + std::to_string(idle.count());
}

void Connection::Impl::introduce(std::string const& url) {
  // A pooler hands the server connection on after each transaction, so nothing may be set for longer: see pipe().
  std::string const sql = (pooled ? "" : session_settings() + "; ") + "select true";
  ResultPtr row;
  try {
    row = simple(sql + ", " + who);
  } catch (ServerError const&) {
    row = simple(sql);  // somebody has taken these functions away, or it is no real PostgreSQL: then without
  }
  if (!pooled) server_deadline = deadline;
  timeline = PQnfields(row.get()) > 1 ? number_at(row, 1) : 0;
  if (timeline == 0) return;
  auto const known = Lineage::of(url, number_at(row, 2));
  if (!known->meet(timeline)) throw Unavailable(former_primary(timeline, known->highest()));
  lineage = known;
}

std::unique_ptr<Connection> Connection::open_to(DatabaseOptions const& options, std::string const& url, bool pooled) {
  ConnectPlan const plan = plan_connect(options, url);
  std::string problems;
  for (Target const& target : plan.targets) {
    ConnPtr conn = attempt(target, plan.timeout, problems);
    if (!conn) continue;
    std::unique_ptr<Connection> connection(new Connection());
    connection->impl_ = std::make_unique<Impl>();
    Impl& impl = *connection->impl_;
    impl.conn = conn.release();
    impl.owner = ::getpid();
    impl.schema = options.schema;
    impl.deadline = options.statement_timeout;
    impl.pooled = pooled;
    impl.listen_to_notices();
    PQsetnonblocking(impl.conn, 1);
    try {
      impl.introduce(url);
    } catch (Unavailable const& error) {
      if (plan.targets.size() == 1) throw;
      problems += (problems.empty() ? "" : "; ") + target.place + ": " + error.what();
      continue;
    }
    return connection;
  }
  throw Unavailable(
      "cannot connect to the database: " + problems,
      {.sqlstate = {},
       .in_doubt = false,
       .hint = "check that PostgreSQL runs and that database_url names its host, port, user and database"});
}

std::unique_ptr<Connection> Connection::open(DatabaseOptions const& options) {
  return open_to(options, options.database_url, options.pgbouncer_transaction_mode);
}

std::unique_ptr<Connection> Connection::open_session(DatabaseOptions const& options) {
  if (!options.session_database_url.empty()) return open_to(options, options.session_database_url, false);
  return open_to(options, options.database_url, options.pgbouncer_transaction_mode);
}

}  // namespace posthouse::pg
