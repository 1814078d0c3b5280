// SPDX-License-Identifier: Apache-2.0
// Statements and waits on one connection.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "pg/connection_impl.hpp"
#include "pg/error.hpp"
#include "pg/text.hpp"

namespace posthouse::pg {
namespace {

using std::chrono::milliseconds;

int poll_timeout(Clock::time_point deadline) {
  auto const now = Clock::now();
  if (deadline <= now) return 0;
  // Rounded up: a time-out that is cut to 0 ms would spin through the last millisecond.
  auto const left = std::chrono::ceil<milliseconds>(deadline - now).count();
  return static_cast<int>(std::min<std::int64_t>(left, 3'600'000));
}

/// poll() that survives signals; the number of ready descriptors, 0 when the deadline passed.
int poll_until(pollfd* fds, nfds_t count, Clock::time_point deadline) {
  for (;;) {
    int const ready = ::poll(fds, count, poll_timeout(deadline));
    if (ready > 0) return ready;
    if (ready == 0 && Clock::now() >= deadline) return 0;
    if (ready < 0 && errno != EINTR && errno != EAGAIN) {
      throw Unavailable(std::string("poll failed with errno ") + std::to_string(errno));
    }
  }
}

std::string statement_name(std::string const& sql) {
  std::uint64_t hash = 0xcbf29ce484222325U;  // FNV-1a; its length is added to make a collision still less likely
  for (char const byte : sql) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3U;
  char name[48];
  std::snprintf(name, sizeof name, "posthouse_%016llx_%zu", static_cast<unsigned long long>(hash), sql.size());
  return name;
}

struct Arrays {
  std::vector<char const*> values{};
  std::vector<int> lengths{};
  std::vector<int> formats{};
};

}  // namespace

bool wait_socket(int fd, short events, Clock::time_point deadline) {
  pollfd item{fd, events, 0};
  return poll_until(&item, 1, deadline) > 0;
}

void Connection::Impl::close() noexcept {
  if (borrowed) return give_back_borrowed();
  if (conn == nullptr) return;
  if (owner == ::getpid()) {
    PQfinish(conn);
  } else {
    // The parent uses this socket. PQfinish would tell the server to end the parent's session, so only the
    // descriptor goes; the handle's memory stays until the child ends.
    ::close(PQsocket(conn));
  }
  conn = nullptr;
}

void Connection::Impl::check_usable() {
  if (executor != nullptr && owner == ::getpid()) return;
  if ((conn != nullptr || executor != nullptr) && owner != ::getpid()) {
    throw InvalidArgument("this connection was opened before fork(): open clients and workers in the child");
  }
  if (ended()) lost(false);
  if (conn != nullptr && outdated()) {
    close();
    throw Unavailable(former_primary(timeline, lineage->highest()));
  }
  if (conn == nullptr) throw Unavailable("the connection is closed");
}

bool Connection::Impl::in_block() const noexcept {
  if (executor != nullptr) return executor_block;
  auto const state = PQtransactionStatus(conn);
  return state == PQTRANS_INTRANS || state == PQTRANS_INERROR;
}

void Connection::Impl::drain_notifications() {
  while (PGnotify* notification = PQnotifies(conn)) {
    std::unique_ptr<PGnotify, void (*)(void*)> const guard(notification, PQfreemem);
    notifications.push_back({notification->relname, notification->extra});
  }
}

void Connection::Impl::listen_to_notices() noexcept {
  // Without a receiver libpq prints notices to standard error.
  PQsetNoticeReceiver(
      conn,
      [](void* self, PGresult const* notice) {
        char const* severity = PQresultErrorField(notice, PG_DIAG_SEVERITY_NONLOCALIZED);
        auto& impl = *static_cast<Impl*>(self);
        if (severity != nullptr && std::string_view(severity) == "FATAL") {
          impl.farewell = message_of(notice);
        } else {
          impl.keep_notice(notice, severity);
        }
      },
      this);
}

void Connection::Impl::lost(bool in_doubt) {
  ServerMessage message = farewell;
  if (!ended()) message.text = conn == nullptr ? "closed" : PQerrorMessage(conn);
  while (!message.text.empty() && message.text.back() == '\n') message.text.pop_back();
  close();
  throw_error(std::move(message), true, in_doubt, schema);
}

void Connection::Impl::too_late(bool in_doubt) {
  close();
  throw Timeout("the database did not answer within " + std::to_string(deadline.count()) + " ms; connection closed",
                {.sqlstate = {}, .in_doubt = in_doubt, .hint = "raise statement_timeout or look at what blocks it"});
}

void Connection::Impl::flush(Clock::time_point until, bool in_doubt) {
  for (;;) {
    int const state = PQflush(conn);
    if (state == 0) return;
    if (state < 0) lost(in_doubt);
    pollfd item{PQsocket(conn), POLLIN | POLLOUT, 0};
    if (poll_until(&item, 1, until) == 0) too_late(in_doubt);
    // The server may be blocked on sending to us; without reading, both sides would wait for ever.
    if ((item.revents & POLLIN) != 0 && PQconsumeInput(conn) == 0) return;  // collect() finds the reason
  }
}

ResultPtr Connection::Impl::collect(Clock::time_point until, bool in_doubt) {
  ResultPtr last;
  ResultPtr error;
  bool broken = false;
  for (;;) {
    while (!broken && PQisBusy(conn) != 0) {
      if (!wait_socket(PQsocket(conn), POLLIN, until)) too_late(in_doubt);
      check_answer(in_doubt);
      if (PQconsumeInput(conn) == 0) broken = true;
    }
    drain_notifications();
    if (broken && PQisBusy(conn) != 0) break;
    ResultPtr result(PQgetResult(conn));
    if (!result) break;
    switch (PQresultStatus(result.get())) {
      case PGRES_FATAL_ERROR:
      case PGRES_BAD_RESPONSE:
      case PGRES_NONFATAL_ERROR:
      case PGRES_EMPTY_QUERY:
        if (!error) error = std::move(result);  // later ones only say that the connection is gone
        break;
      case PGRES_COPY_IN:
      case PGRES_COPY_OUT:
      case PGRES_COPY_BOTH:
        return result;
      default:
        last = std::move(result);
    }
  }
  drain_notifications();
  if (error) {
    ServerMessage message = message_of(error.get());
    error_context = message.context;
    bool const bad = PQstatus(conn) == CONNECTION_BAD;
    if (bad) close();
    throw_error(std::move(message), bad, in_doubt, schema);
  }
  if (broken || PQstatus(conn) == CONNECTION_BAD || !last) lost(in_doubt);
  return last;
}

Clock::time_point Connection::Impl::start_statement() {
  if (server_deadline.count() > 0 && deadline > server_deadline && !in_block()) {
    server_deadline = deadline;
    constexpr milliseconds most{2'147'483'647};
    // 0 is the server's "no limit"; what is longer than it can count is as good as none.
    simple("set statement_timeout = " + std::to_string(deadline > most ? 0 : deadline.count()));
  }
  return Clock::now() + deadline;
}

ResultPtr Connection::Impl::simple(std::string const& sql, bool ends_block) {
  if (executor != nullptr) return echoed(sql, 0, [&] { return by_executor(sql, {}); });
  ResultPtr result = echoed(sql, 0, [&] { return run([&] { return PQsendQuery(conn, sql.c_str()); }, ends_block); });
  if (PQresultStatus(result.get()) == PGRES_COPY_IN || PQresultStatus(result.get()) == PGRES_COPY_OUT ||
      PQresultStatus(result.get()) == PGRES_COPY_BOTH) {
    close();
    throw InvalidArgument("COPY cannot be run as a plain statement: it would leave the connection in the middle of it");
  }
  return result;
}

Connection::~Connection() {
  if (!impl_ || !impl_->listener || !ok()) return;
  try {
    impl_->deadline = std::min(impl_->deadline, milliseconds(2000));
    impl_->simple("unlisten *; select pg_catalog.pg_advisory_unlock_all()");
  } catch (...) {
    // It is given back as unusable.
  }
}

Result Connection::query(std::string const& sql, Params const& params, Format format) {
  return Result(impl_->exec(sql, nullptr, params.values_, format).release());
}

Result Connection::prepared(std::string const& sql, Params const& params, Format format) {
  Impl& impl = *impl_;
  if (impl.pooled) return query(sql, params, format);
  impl.check_usable();
  for (bool again = false;; again = true) {
    auto const& name = impl.prepare(sql);
    try {
      return Result(impl.exec(sql, name.c_str(), params.values_, format).release());
    } catch (ServerError const& error) {
      // Somebody ran DISCARD or changed the function's result under us: prepare once more, outside a block only,
      // since inside the transaction is already aborted.
      bool const stale = error.sqlstate() == "26000" || error.sqlstate() == "0A000";
      if (!stale || again || impl.in_block()) throw;
      impl.forget(sql, error.sqlstate() == "0A000");
    }
  }
}

bool Connection::send_prepared(std::string const& sql, Params const& params, Format format) {
  Impl& impl = *impl_;
  impl.check_usable();
  if (impl.executor != nullptr) return false;
  if (impl.pooled) return pipe(sql, params, format);
  char const* const name = impl.prepare(sql).c_str();
  impl.sent_until =
      impl.start([&] { return impl.send(sql, name, params.values_, format); }, /*in_doubt=*/!impl.in_block());
  impl.sent = sql;
  return true;
}

Result Connection::receive() {
  Impl& impl = *impl_;
  if (!impl.piped.empty()) return piped();
  bool const in_doubt = impl.conn != nullptr && !impl.in_block();
  impl.check_usable();
  try {
    return Result(impl.collect(impl.sent_until, in_doubt).release());
  } catch (ServerError const& error) {
    // The next one will be prepared anew.
    bool const stale = error.sqlstate() == "26000" || error.sqlstate() == "0A000";
    if (stale && impl.open() && !impl.in_block()) impl.forget(impl.sent, error.sqlstate() == "0A000");
    throw;
  }
}

std::string const& Connection::Impl::prepare(std::string const& sql) {
  auto it = prepared.find(sql);
  if (it == prepared.end()) {
    std::string name = statement_name(sql);
    run([&] { return PQsendPrepare(conn, name.c_str(), sql.c_str(), 0, nullptr); });
    it = prepared.emplace(sql, std::move(name)).first;
  }
  return it->second;
}

void Connection::Impl::forget(std::string const& sql, bool deallocate) {
  auto const it = prepared.find(sql);
  if (it == prepared.end()) return;
  if (deallocate) simple("deallocate " + pg::quote_identifier(it->second));
  prepared.erase(it);
}

int Connection::Impl::send(std::string const& sql, char const* name, std::vector<Params::Value> const& params,
                           Format format) {
  Arrays arrays;
  for (auto const& value : params) {
    arrays.values.push_back(value.data ? value.data->c_str() : nullptr);
    arrays.lengths.push_back(value.data ? static_cast<int>(value.data->size()) : 0);
    arrays.formats.push_back(value.binary ? 1 : 0);
  }
  int const count = static_cast<int>(params.size());
  int const binary = format == Format::binary ? 1 : 0;
  return name == nullptr ? PQsendQueryParams(conn, sql.c_str(), count, nullptr, arrays.values.data(),
                                             arrays.lengths.data(), arrays.formats.data(), binary)
                         : PQsendQueryPrepared(conn, name, count, arrays.values.data(), arrays.lengths.data(),
                                               arrays.formats.data(), binary);
}

ResultPtr Connection::Impl::exec(std::string const& sql, char const* name, std::vector<Params::Value> const& params,
                                 Format format) {
  return echoed(sql, params.size(),
                [&] { return executor != nullptr ? by_executor(sql, params) : exec_now(sql, name, params, format); });
}

ResultPtr Connection::Impl::exec_now(std::string const& sql, char const* name, std::vector<Params::Value> const& params,
                                     Format format) {
  check_usable();
  // One round trip with what makes it independent of others' settings.
  bool const alone = pooled && piped.empty() && pipe(sql, params, format);
  ResultPtr result = alone ? answer() : run([&] { return send(sql, name, params, format); });
  auto const status = PQresultStatus(result.get());
  if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
    close();
    throw InvalidArgument("COPY cannot be run as a plain statement: it would leave the connection in the middle of it");
  }
  return result;
}

void Connection::script(std::string const& sql) { impl_->simple(sql); }

void Connection::begin() {
  impl_->simple(impl_->pooled ? "begin isolation level read committed read write"
                              : "begin isolation level read committed");
}

void Connection::commit() {
  ResultPtr const result = impl_->simple("commit", true);
  if (impl_->executor != nullptr) return;
  // COMMIT of an aborted transaction succeeds and says ROLLBACK.
  if (std::string_view(PQcmdStatus(result.get())) == "ROLLBACK") {
    throw ServerError("the transaction had failed before and was rolled back instead of committed",
                      {.sqlstate = "25P02", .in_doubt = false, .hint = {}});
  }
}

void Connection::rollback() noexcept {
  if (!ok()) return;
  try {
    impl_->simple("rollback");
  } catch (...) {
    if (impl_->owner == ::getpid()) impl_->close();
  }
}

std::vector<Notification> Connection::wait(int wake_fd, Clock::time_point deadline, int other_fd) {
  Impl& impl = *impl_;
  impl.check_usable();
  for (;;) {
    impl.drain_notifications();
    if (!impl.notifications.empty()) return std::exchange(impl.notifications, {});
    pollfd items[3] = {{PQsocket(impl.conn), POLLIN, 0}, {wake_fd, POLLIN, 0}, {other_fd, POLLIN, 0}};
    if (poll_until(items, 3, deadline) == 0) return {};  // a negative descriptor is passed over
    if (items[0].revents != 0) {
      if (PQconsumeInput(impl.conn) == 0) impl.lost(false);
      impl.drain_notifications();  // also parses what came, a farewell for one
      if (!impl.open()) impl.lost(false);
    }
    if (items[1].revents != 0 || items[2].revents != 0) return std::exchange(impl.notifications, {});
  }
}

std::function<void()> Connection::canceller() const {
  std::shared_ptr<PGcancel> cancel(impl_->conn == nullptr ? nullptr : PQgetCancel(impl_->conn), PQfreeCancel);
  return [cancel] {
    char why[256];
    if (cancel) PQcancel(cancel.get(), why, sizeof why);
  };
}

void Connection::set_deadline(milliseconds per_statement) noexcept {
  impl_->deadline = std::clamp<milliseconds>(per_statement, milliseconds(1), std::chrono::hours(24 * 365));
}

bool Connection::ok() const noexcept { return impl_->owner == ::getpid() && impl_->open(); }

bool Connection::in_transaction() const noexcept {
  return (impl_->conn != nullptr || impl_->executor != nullptr) && impl_->in_block();
}

int Connection::server_version() const noexcept { return impl_->conn == nullptr ? 0 : PQserverVersion(impl_->conn); }
int Connection::backend_pid() const noexcept { return impl_->conn == nullptr ? 0 : PQbackendPID(impl_->conn); }
std::string const& Connection::schema() const noexcept { return impl_->schema; }
std::string Connection::quoted_schema() const { return pg::quote_identifier(impl_->schema); }
std::string Connection::quote_identifier(std::string_view name) const { return pg::quote_identifier(name); }
std::string Connection::quote_literal(std::string_view text) const { return pg::quote_literal(text); }

}  // namespace posthouse::pg
