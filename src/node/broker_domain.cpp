// SPDX-License-Identifier: Apache-2.0
// See broker_domain.hpp.
#include "node/broker_domain.hpp"

#include <unistd.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/random.hpp"
#include "core/refuse.hpp"
#include "node/broker_crew.hpp"
#include "node/declare_schedules.hpp"
#include "node/registration.hpp"
#include "node/run_worker.hpp"
#include "store/broker_instance.hpp"
#include "store/migrate.hpp"

namespace posthouse::node {
namespace {

using namespace std::chrono_literals;

constexpr auto kInUse = "55006";
constexpr auto kStandbyEvery = 1s;

}  // namespace

struct Domain::Crew : BrokerCrew {
  using BrokerCrew::BrokerCrew;
};

Domain::Domain(Config config, BrokerShared& shared)
    : name_(config.name), shared_(shared), config_(std::move(config)), since_(shared.clock->now()) {}

Domain::~Domain() = default;

void Domain::run_task(std::function<void()> task) {
  if (task_.joinable()) task_.join();
  {
    std::lock_guard const lock(mutex_);
    busy_ = true;
  }
  task_ = std::jthread([this, task = std::move(task)] {
    try {
      task();
    } catch (std::exception const& error) {
      failed(DatabaseState::down, error.what());
    }
    {
      std::lock_guard const lock(mutex_);
      busy_ = false;
    }
    shared_.changed();
  });
}

void Domain::tick(Time now) {
  std::unique_lock lock(mutex_);
  if (busy_ || stopped_) return;
  auto const crew = crew_;
  if (crew) crew->tend();
  if (stopping_) {
    lock.unlock();
    return run_task([this] { give_up(); });
  }
  if (crew && (lost_ || crew->ended())) {
    lock.unlock();
    return run_task([this] { give_up(); });
  }
  if (crew && wanted_) {
    auto const wanted = *std::exchange(wanted_, nullptr);
    lock.unlock();
    return run_task([this, wanted] { swap_crew(wanted); });
  }
  if (!crew && now >= next_try_) {
    if (wanted_) config_ = *std::exchange(wanted_, nullptr);
    lock.unlock();
    return run_task([this] { attempt(); });
  }
}

Domain::Time Domain::due() const {
  std::lock_guard const lock(mutex_);
  // Whatever runs says when it is done; workers are looked at now and then.
  auto const later = shared_.clock->now() + 1s;
  if (busy_ || stopped_ || crew_) return later;
  return stopping_ ? shared_.clock->now() : std::min(next_try_, later);
}

void Domain::become(DatabaseState state, std::string problem) {
  {
    std::lock_guard const lock(mutex_);
    if (stopping_ && state != DatabaseState::stopping) return;
    bool const same = state == state_ && problem == problem_;
    if (state != state_) since_ = shared_.clock->now();
    state_ = state;
    problem_ = problem;
    if (same) return;
  }
  base::Log::Fields fields{{"database", name_}};
  if (!problem.empty()) fields["problem"] = problem;
  switch (state) {
    case DatabaseState::serving:
      shared_.log.info("database is served", fields);
      break;
    case DatabaseState::down:
      shared_.log.warning("database is down, trying again", fields);
      break;
    case DatabaseState::not_installed:
      shared_.log.warning("database is not installed, trying again", fields);
      break;
    case DatabaseState::refused:
      shared_.log.warning("database has another broker, waiting for its end", fields);
      break;
    case DatabaseState::starting:
    case DatabaseState::stopping:
      break;
  }
  shared_.changed();
}

void Domain::failed(DatabaseState state, std::string const& problem) {
  {
    std::lock_guard const lock(mutex_);
    tried_ = true;
    auto const wait =
        state == DatabaseState::refused ? std::chrono::milliseconds(kStandbyEvery) : backoff_.next(base::random_unit());
    next_try_ = shared_.clock->now() + wait;
  }
  become(state, problem);
  shared_.changed();
}

DatabaseOptions Domain::reach(Config const& config) const {
  auto options = config.database;
  return shared_.options.database ? shared_.options.database(name_, std::move(options)) : options;
}

void Domain::attempt() {
  auto const current = config();
  try {
    serve(current);
  } catch (SchemaMissing const& error) {
    failed(DatabaseState::not_installed, error.what() + (error.hint().empty() ? "" : ". " + error.hint()));
  } catch (Error const& error) {
    if (error.sqlstate() == kInUse) return failed(DatabaseState::refused, error.what());
    failed(DatabaseState::down, error.what());
  }
}

void Domain::serve(Config config) {
  config.database = reach(config);
  auto connection = pg::Connection::open(config.database);
  if (config.broker.auto_install || shared_.options.install) {
    auto const report = store::install(*connection);
    if (report.changed) shared_.log.info("schema installed", {{"database", name_}, {"schema", config.database.schema}});
  }
  for (auto const& warning : store::check_version(*connection)) {
    shared_.log.warning(warning, {{"database", name_}});
  }
  auto const instance = store::BrokerInstances(*connection)
                            .register_instance({.name = config.broker.name,
                                                .host = host_name(),
                                                .version = POSTHOUSE_VERSION,
                                                .pid = ::getpid(),
                                                .queue_count = config.broker.queue_count});
  std::shared_ptr<Crew> crew;
  try {
    keep_retention(config, *connection);
    declare_schedules(config, shared_.log);
    connection.reset();
    crew = hire(config, instance);
  } catch (...) {
    shut_down(instance, config.database);
    throw;
  }
  {
    std::lock_guard const lock(mutex_);
    crew_ = crew;
    instance_ = instance;
    queue_count_ = config.broker.queue_count;
    options_ = config.database;
    lost_ = false;
    tried_ = true;
    backoff_.reset();
  }
  become(DatabaseState::serving, "");
}

std::shared_ptr<Domain::Crew> Domain::hire(Config const& config, std::int64_t instance) {
  WorkerWatch watch;
  watch.listen_retry = config.broker.notify_retry;
  watch.claim_most = config.broker.fetch_query_que_size;
  watch.with_heart = [this, instance, queues = config.broker.queue_count,
                      hold = !config.database.pgbouncer_transaction_mode](pg::Connection& connection) {
    if (store::BrokerInstances(connection).ping(instance, hold, queues)) return become(DatabaseState::serving, "");
    {
      std::lock_guard const lock(mutex_);
      if (instance_ != 0 && instance_ != instance) return;
      lost_ = true;
    }
    shared_.changed();
  };
  watch.trouble = [this](std::exception const& error) { become(DatabaseState::down, error.what()); };
  auto crew = std::make_shared<Crew>(config, shared_.options, shared_.log, std::move(watch), jobs_);
  crew->start();
  return crew;
}

void Domain::swap_crew(Config const& config) {
  std::shared_ptr<Crew> old;
  std::int64_t instance = 0;
  {
    std::lock_guard const lock(mutex_);
    old = crew_;
    instance = instance_;
  }
  auto next = config;
  try {
    next.database = reach(config);
    auto const connection = pg::Connection::open(next.database);
    keep_retention(next, *connection);
    declare_schedules(next, shared_.log);
    // Both claim for a while: the limits of numbered queues are kept by the database.
    auto crew = hire(next, instance);
    {
      std::lock_guard const lock(mutex_);
      crew_ = std::move(crew);
      config_ = config;
      queue_count_ = config.broker.queue_count;
      options_ = next.database;
    }
    shared_.log.info("database has a new configuration", {{"database", name_}});
  } catch (Error const& error) {
    shared_.log.error("the new configuration of a database cannot be used, the old one stays",
                      {{"database", name_}, {"problem", error.what()}});
    return;
  }
  drain(old);
}

void Domain::drain(std::shared_ptr<Crew> const& crew) const {
  if (crew) crew->stop();
}

void Domain::shut_down(std::int64_t instance, DatabaseOptions const& options) const {
  try {
    auto const connection = pg::Connection::open(options);
    store::BrokerInstances(*connection).shut_down(instance);
  } catch (Error const& error) {
    shared_.log.warning("could not take leave of a database: another broker may have to wait for 15 s",
                        {{"database", name_}, {"problem", error.what()}});
  }
}

// The end of the crew: for good, or since it has ended by itself or another broker has taken over.
void Domain::give_up() {
  std::shared_ptr<Crew> crew;
  std::int64_t instance = 0;
  bool lost = false;
  bool stopping = false;
  DatabaseOptions options;
  {
    std::lock_guard const lock(mutex_);
    crew = crew_;
    instance = instance_;
    lost = lost_;
    stopping = stopping_;
    options = options_;
  }
  if (!stopping) {
    become(lost ? DatabaseState::refused : DatabaseState::down,
           lost ? "another broker has taken over, or this one was shut down" : "its worker has ended");
  }
  drain(crew);
  if (instance != 0 && !lost) shut_down(instance, options);
  {
    std::lock_guard const lock(mutex_);
    crew_.reset();
    instance_ = 0;
    lost_ = false;
    next_try_ = shared_.clock->now() + kStandbyEvery;
    stopped_ = stopping_ && stopping;
  }
  crew.reset();
  shared_.changed();
}

void Domain::reconfigure(Config config) {
  {
    std::lock_guard const lock(mutex_);
    wanted_ = std::make_unique<Config>(std::move(config));
    next_try_ = {};
  }
  shared_.changed();
}

void Domain::request_stop() {
  {
    std::lock_guard const lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
    state_ = DatabaseState::stopping;
    since_ = shared_.clock->now();
  }
  shared_.changed();
}

void Domain::stop_now() {
  request_stop();
  std::shared_ptr<Crew> crew;
  {
    std::lock_guard const lock(mutex_);
    crew = crew_;
  }
  if (crew) crew->stop_now();
}

bool Domain::stopped() const {
  std::lock_guard const lock(mutex_);
  return stopped_ && !busy_;
}

bool Domain::tried() const {
  std::lock_guard const lock(mutex_);
  return tried_;
}

Config Domain::config() const {
  std::lock_guard const lock(mutex_);
  return config_;
}

std::int64_t Domain::connections() const {
  std::lock_guard const lock(mutex_);
  return crew_ ? crew_->connections() : 0;
}

DatabaseStatus Domain::status() const {
  std::lock_guard const lock(mutex_);
  return {.name = name_,
          .state = state_,
          .problem = problem_,
          .since = std::chrono::duration_cast<std::chrono::milliseconds>(shared_.clock->now() - since_),
          .instance = instance_,
          .queue_count = crew_ ? queue_count_ : config_.broker.queue_count,
          .stats = crew_ ? crew_->stats() : WorkerStats{}};
}

void check_for_broker(Config const& config) {
  for (auto const* const kind : {"sql", "plpgsql"}) {
    if (!config.kinds.contains(kind)) continue;
    core::refuse_because(std::string("kinds.") + kind, "is a kind of the broker itself", "any other name", "rename it");
  }
  bool const children = config.isolated.value_or(false) || children_of(config) > 0;
  if (children) {
    core::refuse_because("isolation", "is for `posthouse work`", "threads in a broker",
                         "remove isolation and processes; programs (exec) have processes of their own anyway");
  }
}

}  // namespace posthouse::node
