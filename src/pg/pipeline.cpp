// SPDX-License-Identifier: Apache-2.0
// Several statements on their way at once: libpq's pipeline mode, with a synchronisation point after each.
#include <poll.h>

#include <algorithm>

#include <posthouse/error.hpp>

#include "pg/connection_impl.hpp"
#include "pg/error.hpp"

namespace posthouse::pg {

namespace {

// Others, and the role's own settings, may have left any defaults on the server connection. These are for the transaction
// that the statements up to the next synchronisation point make, and unlike SET LOCAL they warn nobody.
constexpr char const* own_isolation = "set transaction_isolation = 'read committed'";
constexpr char const* own_access = "set transaction_read_only = off";

bool send_plain(PGconn* conn, char const* sql) {
  return PQsendQueryParams(conn, sql, 0, nullptr, nullptr, nullptr, nullptr, 0) != 0;
}

}  // namespace

bool Connection::pipe(std::string const& sql, Params const& params, Format format) {
  return impl_->pipe(sql, params.values_, format);
}

Result Connection::piped() { return Result(impl_->answer().release()); }

bool Connection::Impl::pipe(std::string const& sql, std::vector<Params::Value> const& params, Format format) {
  check_usable();
  if (executor != nullptr || in_block()) return false;
  if (piped.empty()) {
    if (look_first) look();
    if (!pooled) prepare(sql);
    start_statement();
    if (answer_most > 0) answer_began = received();
    if (PQenterPipelineMode(conn) == 0) return false;
  } else if (!pooled && !prepared.contains(sql)) {
    return false;
  }
  drain_notifications();
  char const* const name = pooled ? nullptr : prepared.at(sql).c_str();
  auto const until = Clock::now() + deadline;
  if (pooled && (!send_plain(conn, own_isolation) || !send_plain(conn, own_access))) lost(false);
  if (send(sql, name, params, format) == 0 || PQpipelineSync(conn) == 0) lost(false);
  piped.push_back({sql, until});
  flush(until, true);
  return true;
}

bool Connection::piped_ready() {
  Impl& impl = *impl_;
  impl.check_usable();
  if (impl.piped.empty()) return false;
  if (PQisBusy(impl.conn) == 0) return true;
  pollfd item{PQsocket(impl.conn), POLLIN, 0};
  if (::poll(&item, 1, 0) <= 0) return false;
  return PQconsumeInput(impl.conn) == 0 || PQisBusy(impl.conn) == 0;
}

ResultPtr Connection::Impl::answer() {
  check_usable();
  if (piped.empty()) throw InvalidArgument("nothing is on its way on this connection");
  auto const asked = std::move(piped.front());
  piped.pop_front();
  ResultPtr last;
  ResultPtr error;
  int answers = 0;
  int nothing = 0;  // in a row: an answer ends with one, and two are the end of the connection
  for (;;) {
    bool broken = false;
    while (!broken && PQisBusy(conn) != 0) {
      if (!wait_socket(PQsocket(conn), POLLIN, asked.until)) too_late(true);
      check_answer(true);
      broken = PQconsumeInput(conn) == 0;
    }
    if (broken && PQisBusy(conn) != 0) break;
    ResultPtr result(PQgetResult(conn));
    if (!result) {
      if (++nothing > 1 || PQstatus(conn) == CONNECTION_BAD) break;
      continue;
    }
    nothing = 0;
    auto const status = PQresultStatus(result.get());
    if (status == PGRES_PIPELINE_SYNC) {
      drain_notifications();
      if (piped.empty() && PQexitPipelineMode(conn) == 0) lost(true);
      // The server begins with it now.
      if (!piped.empty()) piped.front().until = std::max(piped.front().until, Clock::now() + deadline);
      if (error) {
        ServerMessage message = message_of(error.get());
        error_context = message.context;
        // To a standby it is not possible at all; like any writing statement there it says that this is the wrong server.
        if (pooled && answers == 1 && message.sqlstate == "0A000") message.sqlstate = "25006";
        // The next one will be prepared anew.
        bool const stale = message.sqlstate == "26000" || message.sqlstate == "0A000";
        if (stale && piped.empty()) forget(asked.sql, message.sqlstate == "0A000");
        throw_error(std::move(message), false, true, schema);
      }
      if (!last) lost(true);
      return last;
    }
    if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH) {
      close();
      throw InvalidArgument(
          "COPY cannot be run as a plain statement: it would leave the connection in the middle of it");
    }
    if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) {
      ++answers;
      last = std::move(result);
    } else if (!error) {
      error = std::move(result);  // later ones only say that the connection is gone
    }
  }
  if (error) {
    ServerMessage message = message_of(error.get());
    close();
    throw_error(std::move(message), true, true, schema);
  }
  lost(true);
}

int Connection::socket() const noexcept { return impl_->conn == nullptr ? -1 : PQsocket(impl_->conn); }

}  // namespace posthouse::pg
