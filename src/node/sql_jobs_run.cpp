// SPDX-License-Identifier: Apache-2.0
// How SqlJobs runs one job: on the daemon's login, or on the job's own.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <thread>
#include <utility>

#include "core/headers_json.hpp"
#include "node/sql_jobs_impl.hpp"
#include "node/sql_text.hpp"
#include "pg/login.hpp"
#include "store/commit.hpp"
#include "store/json_text.hpp"

namespace posthouse::node {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

/// A job may take as long as its time limit says, or for ever; the server keeps the time, and the stopper.
constexpr milliseconds kNever = 24h * 30;
constexpr milliseconds kCommit = 60s;
constexpr std::size_t kMostNotices = 16 * 1024;
constexpr std::size_t kMostAnswer = 16 * 1024 * 1024;
constexpr std::size_t kMostApplicationName = 63;
constexpr int kFateLooks = 100;

/// Cleans a session of the pool whichever way the job ends.
class OwnSession {
 public:
  OwnSession(pg::Connection& connection, bool ours) : sql(connection), connection_(connection), ours_(ours) {}
  OwnSession(OwnSession const&) = delete;
  OwnSession& operator=(OwnSession const&) = delete;
  ~OwnSession() {
    sql.leave(ours_);
    connection_.keep_notices(0);
    connection_.limit_answer(0);
  }
  store::UserSql sql;

 private:
  pg::Connection& connection_;
  bool ours_;
};

void check_stop(Job const& job) {
  if (job.stop_token().stop_requested()) {
    throw ServerError("the job was asked to stop before it began", {.sqlstate = "57014"});
  }
}

std::string first_line(std::string const& path) {
  std::ifstream file(path);
  std::string line;
  if (!file || !std::getline(file, line)) {
    throw InvalidArgument("cannot read password_file " + core::sanitise(path, 500));
  }
  return line;
}

}  // namespace

store::UserSqlFacts SqlJobs::Impl::facts_of(Job const& job, store::BrokerJob const& order) {
  return {.job_id = job.id(),
          .kind = job.kind(),
          .queue = job.queue(),
          .attempt = job.attempt(),
          .payload = payload_text(job.payload()),
          .headers = core::headers_to_json(job.headers()),
          .user_login = order.user_login};
}

std::string SqlJobs::Impl::execute(Job const& job, store::BrokerJob const& order, bool plpgsql, store::UserSql& sql,
                                   pg::Connection& connection) {
  connection.keep_notices(kMostNotices);
  connection.limit_answer(kMostAnswer);
  check_stop(job);
  sql.run(plpgsql ? "do " + connection.quote_literal(order.statement) : order.statement, time_left(job));
  sql.settle();
  std::string result = "{";
  if (auto const rows = sql.row_count(); rows && !plpgsql) result += "\"row_count\": " + std::to_string(*rows);
  if (auto const notices = connection.notices(); !notices.empty()) {
    result += result.size() > 1 ? ", \"notices\": [" : "\"notices\": [";
    for (std::size_t i = 0; i < notices.size(); ++i) {
      if (i > 0) result += ", ";
      store::append_json_string(result, notices[i]);
    }
    result += ']';
  }
  check_stop(job);
  return result + "}";
}

Stopper::Ways SqlJobs::Impl::ways_of(pg::Connection const& connection, int backend,
                                     std::optional<DatabaseOptions> const& role) {
  // The role may end what is its own, and so may the daemon if it is a member of the role or of pg_signal_backend.
  auto const ask = [this, backend, role](bool (*how)(pg::Connection&, int)) {
    for (auto const* database : {role ? &*role : nullptr, &options.database}) {
      if (database == nullptr) continue;
      try {
        auto const other = pg::Connection::open(*database);
        if (how(*other, backend)) return true;
      } catch (std::exception const& error) {
        log.warning("cannot end the statement of an SQL job", {{"error", error.what()}});
      }
    }
    return false;
  };
  return {
      .cancel =
          [ask, direct = connection.canceller(), behind_pooler = options.database.pgbouncer_transaction_mode, role] {
            if (!ask(store::cancel_backend) && (role || !behind_pooler)) direct();
          },
      .kill = [ask] { ask(store::terminate_backend); },
      .sever = connection.breaker()};
}

Outcome SqlJobs::Impl::run_own(Job const& job, store::BrokerJob const& order, bool plpgsql) {
  Places::Place const place(own_places, job.stop_token());
  auto connection = pool.acquire();
  try {
    connection->set_deadline(kNever);
    OwnSession session(*connection, !options.database.pgbouncer_transaction_mode);
    int const backend = session.sql.begin(facts_of(job, order));
    std::string result;
    {
      Stopper::Watch const watch(stopper, job.stop_token(), ways_of(*connection, backend, std::nullopt));
      result = execute(job, order, plpgsql, session.sql, *connection);
    }
    job.complete(session.sql.transaction(), json{result});
    session.sql.commit();
    return Success{};
  } catch (LeaseLost const&) {
    throw;
  } catch (Error const& error) {
    return end_of(job, error, connection->error_context());
  }
}

std::optional<DatabaseOptions> SqlJobs::Impl::login_as(store::BrokerJob const& order, std::string& problem) {
  RunAsLogin login;
  {
    std::lock_guard const lock(mutex);
    auto const it = run_as.find(order.run_as);
    if (it != run_as.end()) login = it->second;
  }
  auto const key = fmt::format("databases.{}.run_as.{}", options.entry, order.run_as);
  if (login.empty()) {
    problem = fmt::format(
        "the job runs as role '{}' and the broker has no login for it; set {}.password, .password_file, .sslcert with "
        ".sslkey, or .peer",
        order.run_as, key);
    return std::nullopt;
  }
  if (options.database.pgbouncer_transaction_mode && options.database.session_database_url.empty()) {
    problem = fmt::format(
        "the job runs as role '{}', which needs a connection of its own, and database_url is a pooler; set "
        "databases.{}.session_database_url",
        order.run_as, options.entry);
    return std::nullopt;
  }
  auto database = options.database;
  if (!database.session_database_url.empty()) database.database_url = std::exchange(database.session_database_url, {});
  database.pgbouncer_transaction_mode = false;
  database.password_file.clear();
  database.database_url =
      pg::url_as(database.database_url,
                 {.user = order.run_as,
                  .password = login.password_file.empty() ? login.password : first_line(login.password_file),
                  .sslcert = login.sslcert,
                  .sslkey = login.sslkey});
  if (!order.user_login.empty()) {
    database.application_name = core::truncate_utf8(order.user_login, kMostApplicationName);
  }
  return database;
}

Outcome SqlJobs::Impl::run_role(Job const& job, store::BrokerJob const& order, bool plpgsql) {
  std::string problem;
  auto const database = login_as(order, problem);
  if (!database) return Discard{problem};
  Places::Place const place(role_places, job.stop_token());
  // Closed at the end of this function: nothing that the job leaves in its session outlives it.
  std::unique_ptr<pg::Connection> connection;
  try {
    connection = pg::Connection::open(*database);
  } catch (Error const& error) {
    return Failure{.type = "Login",
                   .message = fmt::format("cannot log in as role '{}': {}", order.run_as,
                                          core::sanitise(error.what(), kMostMessage)),
                   .stack = fmt::format("databases.{}.run_as.{}", options.entry, order.run_as)};
  }
  try {
    if (auto const who = store::session_user(*connection); who != order.run_as) {
      return Discard{fmt::format("the login for role '{}' logs in as '{}'", order.run_as, who)};
    }
    connection->set_deadline(kNever);
    store::UserSql sql(*connection);
    sql.begin(facts_of(job, order));
    std::string result;
    {
      Stopper::Watch const watch(stopper, job.stop_token(), ways_of(*connection, connection->backend_pid(), database));
      result = execute(job, order, plpgsql, sql, *connection);
    }
    connection->set_deadline(kCommit);
    auto own = pool.acquire();
    own->begin();
    // Fenced, and until it commits nobody else can get the job.
    job.complete(store::UserSql(*own).transaction(), json{result});
    return commit_both(job, *connection, *own);
  } catch (LeaseLost const&) {
    throw;
  } catch (Error const& error) {
    return end_of(job, error, connection->error_context());
  }
}

Outcome SqlJobs::Impl::commit_both(Job const& job, pg::Connection& role, pg::Connection& own) const {
  auto const transaction = store::transaction_id(role);
  try {
    role.commit();
  } catch (Error const& error) {
    // Nothing was written: there is nothing to be in doubt about.
    auto fate = transaction.empty() || !error.in_doubt() ? store::Fate::aborted : store::Fate::in_progress;
    for (int look = 0; look < kFateLooks && fate == store::Fate::in_progress; ++look) {
      if (look > 0) std::this_thread::sleep_for(50ms);
      fate = store::fate_of(own, transaction);
    }
    if (fate != store::Fate::committed) {
      own.rollback();
      if (fate == store::Fate::aborted) return end_of(job, error, role.error_context());
      return Failure{.type = "InDoubt",
                     .message = "the connection was lost while the job's transaction " + transaction +
                                " was being committed, and what became of it cannot be told",
                     .stack = core::sanitise(error.what(), kMostMessage)};
    }
  }
  own.commit();
  return Success{};
}

}  // namespace posthouse::node
