// SPDX-License-Identifier: Apache-2.0
#include "node/sql_runner.hpp"

#include <chrono>
#include <functional>
#include <optional>
#include <utility>

#include <posthouse/error.hpp>

#include "core/headers_json.hpp"
#include "node/sql_text.hpp"
#include "store/user_sql.hpp"

namespace posthouse::node {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

/// Statements may take as long as the kind's timeout says, or for ever; the server keeps the time. A server that is
/// gone is found by TCP's keepalives.
constexpr milliseconds kNever = 24h * 30;
constexpr milliseconds kWaitForConnection = 24h;
constexpr milliseconds kCancelAgain = 200ms;

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

/// While it lives, a stop of the job cancels the backend's statement; afterwards no cancel is on its way any more,
/// which would hit the next job's statement.
class PooledSqlRunner::Cancellation {
 public:
  Cancellation(PooledSqlRunner& runner, std::stop_token const& stop, int backend_pid)
      : runner_(runner), pid_(backend_pid), callback_(std::in_place, stop, [this] { runner_.request_cancel(pid_); }) {}
  Cancellation(Cancellation const&) = delete;
  Cancellation& operator=(Cancellation const&) = delete;
  ~Cancellation() {
    callback_.reset();
    runner_.forget_cancel(pid_);
  }

 private:
  PooledSqlRunner& runner_;
  int pid_;
  std::optional<std::stop_callback<std::function<void()>>> callback_;
};

PooledSqlRunner::PooledSqlRunner(DatabaseOptions options, int connections, base::Log log, pg::Pool::Keep keep)
    : pool_(std::move(options), connections, kWaitForConnection, keep), log_(std::move(log)) {}

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
    Cancellation const cancellation(*this, job.stop_token(), pid);
    for (auto const& statement : statements) {
      if (job.stop_token().stop_requested()) {
        throw ServerError("the job was asked to stop before the statement began", {.sqlstate = "57014"});
      }
      session.sql.run(statement, time_left(job));
    }
  }
  job.complete(session.sql.transaction(), json{session.sql.result()});
  session.sql.commit();
}

void PooledSqlRunner::request_cancel(int backend_pid) {
  // On the thread that asks for the stop, which must not wait for a database.
  {
    std::scoped_lock const lock(mutex_);
    to_cancel_.insert(backend_pid);
    if (!canceller_.joinable()) {
      canceller_ = std::jthread([this](std::stop_token const& stop) { cancel_loop(stop); });
    }
  }
  requested_.notify_one();
}

void PooledSqlRunner::forget_cancel(int backend_pid) {
  std::unique_lock lock(mutex_);
  to_cancel_.erase(backend_pid);
  cancelled_.wait(lock, [this] { return !cancelling_; });
}

void PooledSqlRunner::cancel_loop(std::stop_token const& stop) {
  std::unique_lock lock(mutex_);
  while (requested_.wait(lock, stop, [this] { return !to_cancel_.empty(); })) {
    auto const pids = to_cancel_;
    cancelling_ = true;
    lock.unlock();
    try {
      auto const connection = pg::Connection::open(pool_.options());
      for (int const pid : pids) store::cancel_backend(*connection, pid);
    } catch (std::exception const& error) {
      log_.warning("cannot cancel the statements of SQL jobs", {{"error", error.what()}});
    }
    lock.lock();
    cancelling_ = false;
    cancelled_.notify_all();
    // Again until it has ended: a cancel that comes between two statements does nothing.
    requested_.wait_for(lock, stop, kCancelAgain, [] { return false; });
  }
}

}  // namespace posthouse::node
