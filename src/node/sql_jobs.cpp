// SPDX-License-Identifier: Apache-2.0
#include "node/sql_jobs.hpp"

#include <fmt/format.h>

#include <condition_variable>
#include <mutex>
#include <stop_token>
#include <utility>

#include <posthouse/error.hpp>

#include "node/sql_jobs_impl.hpp"

namespace posthouse::node {
namespace {

using namespace std::chrono_literals;

std::string position_of(std::string const& hint, std::string const& context) {
  return hint.empty() ? context : context.empty() ? hint : context + "\n" + hint;
}

}  // namespace

Places::Place::Place(Places& places, std::stop_token const& stop) : places_(places) {
  std::unique_lock lock(places.mutex_);
  if (!places.freed_.wait(lock, stop, [&] { return places.free_ > 0; })) {
    throw ServerError("the job was asked to stop before it began", {.sqlstate = "57014"});
  }
  --places.free_;
}

Places::Place::~Place() {
  {
    std::lock_guard const lock(places_.mutex_);
    ++places_.free_;
  }
  places_.freed_.notify_one();
}

SqlJobs::Impl::Impl(Options the_options, base::Log the_log)
    : options(std::move(the_options)),
      log(std::move(the_log)),
      run_as(options.run_as),
      // Each job of another role takes one for a moment when it starts and when it ends.
      pool(options.database, options.connections + options.run_as_connections, 24h, options.keep),
      own_places(options.connections),
      role_places(options.run_as_connections),
      stopper(options.kill_after) {}

Outcome SqlJobs::Impl::run(Job const& job, bool plpgsql) {
  try {
    auto const order = [&] {
      auto const connection = pool.acquire();
      return store::broker_start(*connection, job.id());
    }();
    if (!order.problem.empty()) return Discard{order.problem};
    return order.is_own_login ? run_own(job, order, plpgsql) : run_role(job, order, plpgsql);
  } catch (LeaseLost const&) {
    throw;
  } catch (Error const& error) {
    return end_of(job, error, {});
  }
}

Outcome SqlJobs::Impl::end_of(Job const& job, Error const& error, std::string const& context) const {
  bool const late = job.deadline() && std::chrono::steady_clock::now() >= *job.deadline();
  bool const stopped = job.stop_token().stop_requested();
  bool const ended = error.sqlstate() == "57014" || error.error_class() == ErrorClass::unavailable;
  if (late && ended) {
    return Failure{.type = "Timeout",
                   .message = "the SQL ran into its time limit and was ended: " + core::sanitise(error.what(), 1000),
                   .stack = core::sanitise(context, kMostMessage)};
  }
  // Stopped without a fault of its own; rolled back, so it may run again as if it never had.
  if (stopped && ended && !error.in_doubt()) return Snooze{0ms};
  std::string message = error.what();
  // plpgsql's words for COMMIT and the like mean nothing to somebody who wrote none of it.
  if (error.sqlstate() == "0A000" && message.find("transaction command") != std::string::npos) {
    message += "; an SQL job is one transaction that posthouse ends: remove COMMIT, ROLLBACK and the like";
  }
  return Failure{.type = error.sqlstate().empty() ? "SQL" : "SQLSTATE " + error.sqlstate(),
                 .message = core::sanitise(message, kMostMessage),
                 .stack = core::sanitise(position_of(error.hint(), context), kMostMessage)};
}

SqlJobs::SqlJobs(Options options, base::Log log) : impl_(std::make_shared<Impl>(std::move(options), std::move(log))) {}

SqlJobs::~SqlJobs() = default;

HandlerOptions SqlJobs::once() {
  HandlerOptions options;
  options.max_attempts = 1;
  return options;
}

void SqlJobs::add_to(Worker& worker, HandlerOptions const& policy) {
  for (bool const plpgsql : {false, true}) {
    worker.on(plpgsql ? "plpgsql" : "sql", policy,
              Worker::Handler([impl = impl_, plpgsql](Job const& job) { return impl->run(job, plpgsql); }));
  }
}

void SqlJobs::close_idle() { impl_->pool.close_idle(); }

void SqlJobs::tend() { impl_->pool.close_stale(); }
std::size_t SqlJobs::open_connections() const { return impl_->pool.open_connections(); }

void SqlJobs::set_run_as(RunAsLogins run_as) {
  std::lock_guard const lock(impl_->mutex);
  impl_->run_as = std::move(run_as);
}

}  // namespace posthouse::node
