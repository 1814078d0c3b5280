// SPDX-License-Identifier: Apache-2.0
// See bare.hpp.
#include "pg/bare.hpp"

#include <libpq-fe.h>
#include <poll.h>

#include <memory>
#include <vector>

#include "pg/connection_impl.hpp"
#include "pg/conninfo.hpp"

namespace posthouse::pg {

Bare::Bare(DatabaseOptions const& options) {
  std::string problem;
  for (auto const& target : plan_connect(options, options.database_url).targets) {
    LibpqArguments const arguments(target);
    conn_ = PQconnectdbParams(arguments.names.data(), arguments.values.data(), 0);
    if (PQstatus(conn_) == CONNECTION_OK) {
      PQsetNoticeProcessor(
          conn_, [](void*, char const*) {}, nullptr);
      return;
    }
    problem = PQerrorMessage(conn_);
    PQfinish(std::exchange(conn_, nullptr));
  }
  while (!problem.empty() && problem.back() == '\n') problem.pop_back();
  throw Unavailable("cannot connect to the database: " + problem);
}

Bare::~Bare() { PQfinish(conn_); }

void Bare::fail() {
  ServerMessage message;
  message.text = PQerrorMessage(conn_);
  while (!message.text.empty() && message.text.back() == '\n') message.text.pop_back();
  throw_error(std::move(message), PQstatus(conn_) == CONNECTION_BAD, false, "");
}

Result Bare::take(pg_result* result) {
  Result owner(result);
  auto const status = PQresultStatus(result);
  if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_COPY_IN) return owner;
  if (result == nullptr) fail();
  throw_error(message_of(result), PQstatus(conn_) == CONNECTION_BAD, false, "");
}

Result Bare::execute(char const* sql) { return take(PQexec(conn_, sql)); }

void Bare::prepare(char const* name, std::string const& sql) { take(PQprepare(conn_, name, sql.c_str(), 0, nullptr)); }

Result Bare::execute_prepared(char const* name, std::span<char const* const> values, Format format) {
  return take(PQexecPrepared(conn_, name, static_cast<int>(values.size()), values.data(), nullptr, nullptr,
                             format == Format::binary ? 1 : 0));
}

void Bare::begin_copy(std::string const& sql) { take(PQexec(conn_, sql.c_str())); }

void Bare::put_copy(std::string_view bytes) {
  if (PQputCopyData(conn_, bytes.data(), static_cast<int>(bytes.size())) != 1) fail();
}

void Bare::end_copy() {
  if (PQputCopyEnd(conn_, nullptr) != 1) fail();
  take(PQgetResult(conn_));
  while (PGresult* const rest = PQgetResult(conn_)) PQclear(rest);
}

bool Bare::wait_notification(std::chrono::milliseconds most) {
  auto const until = Clock::now() + most;
  for (;;) {
    if (PQconsumeInput(conn_) == 0) fail();
    if (PGnotify* const notification = PQnotifies(conn_)) {
      PQfreemem(notification);
      return true;
    }
    if (!wait_socket(PQsocket(conn_), POLLIN, until)) return false;
  }
}

}  // namespace posthouse::pg
