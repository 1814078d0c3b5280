// SPDX-License-Identifier: Apache-2.0
// Several statements on their way at once: libpq's pipeline mode, with a synchronisation point after each.
#include <poll.h>

#include <posthouse/error.hpp>

#include "pg/connection_impl.hpp"
#include "pg/error.hpp"

namespace posthouse::pg {

bool Connection::pipe(std::string const& sql, Params const& params, Format format) {
  Impl& impl = *impl_;
  impl.check_usable();
  if (impl.in_block()) return false;
  if (impl.piped.empty()) {
    if (!impl.pooled) impl.prepare(sql);
    impl.start_statement();
    if (PQenterPipelineMode(impl.conn) == 0) return false;
  } else if (!impl.pooled && !impl.prepared.contains(sql)) {
    return false;
  }
  impl.drain_notifications();
  char const* const name = impl.pooled ? nullptr : impl.prepared.at(sql).c_str();
  auto const until = Clock::now() + impl.deadline;
  // Others, and the role's own settings, may have left any defaults on the server connection. This is for the transaction
  // that the statements up to the next synchronisation point make, and unlike SET LOCAL it warns nobody.
  if (impl.pooled && (PQsendQueryParams(impl.conn, "set transaction_isolation = 'read committed'", 0, nullptr, nullptr,
                                        nullptr, nullptr, 0) == 0 ||
                      PQsendQueryParams(impl.conn, "set transaction_read_only = off", 0, nullptr, nullptr, nullptr,
                                        nullptr, 0) == 0)) {
    impl.lost(false);
  }
  if (impl.send(sql, name, params.values_, format) == 0 || PQpipelineSync(impl.conn) == 0) impl.lost(false);
  impl.piped.push_back({sql, until});
  impl.flush(until, true);
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

Result Connection::piped() {
  Impl& impl = *impl_;
  impl.check_usable();
  if (impl.piped.empty()) throw InvalidArgument("nothing is on its way on this connection");
  auto const sent = std::move(impl.piped.front());
  impl.piped.pop_front();
  ResultPtr last;
  ResultPtr error;
  int nothing = 0;  // in a row: an answer ends with one, and two are the end of the connection
  for (;;) {
    bool broken = false;
    while (!broken && PQisBusy(impl.conn) != 0) {
      if (!wait_socket(PQsocket(impl.conn), POLLIN, sent.until)) impl.too_late(true);
      broken = PQconsumeInput(impl.conn) == 0;
    }
    if (broken && PQisBusy(impl.conn) != 0) break;
    ResultPtr result(PQgetResult(impl.conn));
    if (!result) {
      if (++nothing > 1 || PQstatus(impl.conn) == CONNECTION_BAD) break;
      continue;
    }
    nothing = 0;
    auto const status = PQresultStatus(result.get());
    if (status == PGRES_PIPELINE_SYNC) {
      impl.drain_notifications();
      if (impl.piped.empty() && PQexitPipelineMode(impl.conn) == 0) impl.lost(true);
      if (error) {
        ServerMessage message = message_of(error.get());
        impl.error_context = message.context;
        // The next one will be prepared anew.
        bool const stale = message.sqlstate == "26000" || message.sqlstate == "0A000";
        if (stale && impl.piped.empty()) impl.forget(sent.sql, message.sqlstate == "0A000");
        throw_error(std::move(message), false, true, impl.schema);
      }
      if (!last) impl.lost(true);
      return Result(last.release());
    }
    if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH) {
      impl.close();
      throw InvalidArgument(
          "COPY cannot be run as a plain statement: it would leave the connection in the middle of it");
    }
    if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) {
      last = std::move(result);
    } else if (!error) {
      error = std::move(result);  // later ones only say that the connection is gone
    }
  }
  if (error) {
    ServerMessage message = message_of(error.get());
    impl.close();
    throw_error(std::move(message), true, true, impl.schema);
  }
  impl.lost(true);
}

int Connection::socket() const noexcept { return impl_->conn == nullptr ? -1 : PQsocket(impl_->conn); }

}  // namespace posthouse::pg
