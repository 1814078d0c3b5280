// SPDX-License-Identifier: Apache-2.0
// Connections that come from the application, ours while the application has them, and whether one is alive.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>

#include "pg/connection_impl.hpp"

namespace posthouse::pg {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds longest_ping{5'000};

bool speaks_utf8(PGconn* conn) {
  char const* encoding = pg_encoding_to_char(PQclientEncoding(conn));
  return encoding != nullptr && (std::strcmp(encoding, "UTF8") == 0 || std::strcmp(encoding, "SQL_ASCII") == 0);
}

std::unique_ptr<Borrowed> borrow_from(ConnectionSource& source, milliseconds timeout) {
  std::unique_ptr<Borrowed> borrowed;
  try {
    borrowed = source.borrow(timeout);
  } catch (Error const&) {
    throw;
  } catch (std::exception const& error) {
    throw Unavailable(std::string("the application's connections: ") + error.what());
  }
  if (!borrowed) throw Unavailable("the application's connections: there is none");
  return borrowed;
}

std::string hex(std::string const& bytes) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string text = "\\x";
  for (char const c : bytes) {
    auto const byte = static_cast<unsigned char>(c);
    text += digits[byte >> 4U];
    text += digits[byte & 15U];
  }
  return text;
}

/// Rows of text as if libpq had received them.
ResultPtr result_of(std::vector<Executor::Row> const& rows) {
  ResultPtr result(PQmakeEmptyPGresult(nullptr, PGRES_TUPLES_OK));
  if (!result) throw std::bad_alloc();
  if (rows.empty()) return result;
  char name[] = "column";
  std::vector<PGresAttDesc> columns(rows.front().size());
  for (auto& column : columns) column.name = name;
  bool good = PQsetResultAttrs(result.get(), static_cast<int>(columns.size()), columns.data()) != 0;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    for (std::size_t column = 0; column < columns.size() && good; ++column) {
      auto const& value = rows[row].at(column);
      // PQsetvalue copies, and is declared without const.
      good = PQsetvalue(
                 result.get(), static_cast<int>(row), static_cast<int>(column),
                 value ? const_cast<char*>(value->data()) : nullptr,  // NOLINT(cppcoreguidelines-pro-type-const-cast)
                 value ? static_cast<int>(value->size()) : -1) != 0;
    }
  }
  if (!good) throw std::bad_alloc();
  return result;
}

}  // namespace

std::unique_ptr<Connection> Connection::borrow(ConnectionSource& source, DatabaseOptions const& options,
                                               milliseconds timeout) {
  auto borrowed = borrow_from(source, timeout);
  std::unique_ptr<Connection> connection(new Connection());
  connection->impl_ = std::make_unique<Impl>();
  Impl& impl = *connection->impl_;
  impl.owner = ::getpid();
  impl.schema = options.schema;
  impl.deadline = options.statement_timeout;
  impl.pooled = true;
  if (PGconn* const conn = borrowed->libpq(); conn != nullptr) {
    if (PQstatus(conn) != CONNECTION_OK) {
      borrowed->unusable();
      throw Unavailable("the connection that the application lends is broken");
    }
    if (PQtransactionStatus(conn) != PQTRANS_IDLE) {
      throw InvalidArgument("the connection that the application lends is inside a transaction or a statement",
                            {.sqlstate = {}, .in_doubt = false, .hint = "end it before lending the connection"});
    }
    if (!speaks_utf8(conn)) {
      throw InvalidArgument("the client_encoding of the connection that the application lends must be UTF8",
                            {.sqlstate = {},
                             .in_doubt = false,
                             .hint = "call PQsetClientEncoding(connection, \"UTF8\") when it is opened"});
    }
    impl.conn = conn;
    impl.look_first = true;
    impl.was_nonblocking = PQisnonblocking(conn) != 0;
    PQsetnonblocking(conn, 1);
  } else if (borrowed->executor() != nullptr) {
    impl.executor = borrowed->executor();
  } else {
    throw InvalidArgument("what the application lends has neither a PGconn nor an Executor");
  }
  impl.borrowed = std::move(borrowed);
  return connection;
}

std::unique_ptr<Connection> Connection::open_listener(DatabaseOptions const& options) {
  if (!options.listen) return open_session(options);
  auto connection = borrow(*options.listen, options, options.connect_timeout);
  if (connection->impl_->conn == nullptr) {
    throw InvalidArgument("the connection for LISTEN must be one of libpq's",
                          {.sqlstate = {}, .in_doubt = false, .hint = "see libpq_connection() in adapter/libpq.hpp"});
  }
  connection->impl_->listener = true;
  return connection;
}

void Connection::Impl::give_back_borrowed() noexcept {
  if (owner != ::getpid()) {
    (void)borrowed.release();  // the parent's: neither it nor the server is to notice
    conn = nullptr;
    executor = nullptr;
    return;
  }
  bool usable = executor != nullptr && !executor_block;
  if (conn != nullptr) {
    usable = PQstatus(conn) == CONNECTION_OK && PQtransactionStatus(conn) == PQTRANS_IDLE;
    PQsetnonblocking(conn, was_nonblocking ? 1 : 0);
  }
  conn = nullptr;
  executor = nullptr;
  if (!usable) borrowed->unusable();
  borrowed.reset();
}

ResultPtr Connection::Impl::by_executor(std::string const& sql, std::vector<Params::Value> const& params) {
  check_usable();
  std::vector<std::optional<std::string>> values;
  values.reserve(params.size());
  for (auto const& value : params) values.push_back(value.data && value.binary ? hex(*value.data) : value.data);
  bool const ends = sql == "commit" || sql == "rollback";
  if (sql == "commit" && executor_failed) {
    by_executor("rollback", {});
    throw ServerError("the transaction had failed before and was rolled back instead of committed",
                      {.sqlstate = "25P02", .in_doubt = false, .hint = {}});
  }
  try {
    auto result = result_of(executor->query(sql, values));
    if (sql.starts_with("begin")) executor_block = true;
    if (ends) executor_block = executor_failed = false;
    return result;
  } catch (Unavailable const& error) {
    bool const in_doubt = error.in_doubt() && (!executor_block || sql == "commit");
    close();
    throw Unavailable(error.what(), {.sqlstate = error.sqlstate(), .in_doubt = in_doubt, .hint = error.hint()});
  } catch (Error const&) {
    executor_failed = executor_block;
    throw;
  }
}

std::int64_t Connection::Impl::rows_of(ResultPtr const& result) noexcept {
  if (!result) return 0;
  return std::max<std::int64_t>(PQntuples(result.get()), std::strtoll(PQcmdTuples(result.get()), nullptr, 10));
}

bool Connection::alive() noexcept { return ok() && impl_->alive(); }

bool Connection::Impl::alive() noexcept {
  if (executor != nullptr) return true;
  // A farewell and the end of the stream are two events.
  while (open()) {
    pollfd item{PQsocket(conn), POLLIN, 0};
    if (::poll(&item, 1, 0) <= 0) return true;
    if (PQconsumeInput(conn) == 0) return false;
    try {
      drain_notifications();
    } catch (std::bad_alloc const&) {
      return false;
    }
  }
  return false;
}

void Connection::Impl::look() {
  look_first = false;
  if (alive()) return;
  found_dead = true;
  lost(false);
}

bool Connection::can_copy() const noexcept { return impl_->executor == nullptr; }

void Connection::set_echo(std::shared_ptr<EchoTo const> echo) noexcept { impl_->echo = std::move(echo); }

void Connection::look_later() noexcept { impl_->look_first = impl_->executor == nullptr; }

bool Connection::found_dead() const noexcept { return impl_->found_dead; }

bool Connection::ping() noexcept {
  if (!alive()) return false;
  auto const before = impl_->deadline;
  try {
    impl_->deadline = std::min(before, longest_ping);
    impl_->simple("select");
  } catch (...) {
    if (impl_->owner == ::getpid()) impl_->close();
    return false;
  }
  impl_->deadline = before;
  return true;
}

pg_conn* Connection::lend() noexcept {
  if (impl_->conn == nullptr) return nullptr;
  PQsetnonblocking(impl_->conn, 0);
  return impl_->conn;
}

bool Connection::take_back() noexcept {
  PGconn* const conn = impl_->conn;
  if (conn == nullptr || impl_->owner != ::getpid() || PQstatus(conn) != CONNECTION_OK) return false;
  auto const state = PQtransactionStatus(conn);
  bool const between = state == PQTRANS_IDLE || state == PQTRANS_INTRANS || state == PQTRANS_INERROR;
  if (!between || PQpipelineStatus(conn) != PQ_PIPELINE_OFF || !speaks_utf8(conn)) return false;
  while (PGnotify* const notification = PQnotifies(conn)) PQfreemem(notification);
  PQsetnonblocking(conn, 1);
  if (!impl_->borrowed) impl_->listen_to_notices();
  return !impl_->ended();
}

void Connection::reset_session() {
  if (impl_->pooled) return;
  impl_->simple(
      "set session authorization default; reset all; unlisten *; select pg_catalog.pg_advisory_unlock_all(); " +
      impl_->session_settings());
  impl_->server_deadline = impl_->deadline;
}

}  // namespace posthouse::pg
