// SPDX-License-Identifier: Apache-2.0
// Opening a connection: every host gets the whole time-out, and the first one that answers well is taken.
#include <poll.h>
#include <unistd.h>

#include <new>

#include "pg/connection_impl.hpp"
#include "pg/conninfo.hpp"

namespace posthouse::pg {
namespace {

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

}  // namespace

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
    // A pooler hands the server connection on after each transaction, so nothing may be set for longer: see pipe().
    if (!pooled) impl.prepare_session();
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
