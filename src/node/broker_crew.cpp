// SPDX-License-Identifier: Apache-2.0
// See broker_crew.hpp.
#include "node/broker_crew.hpp"

#include <algorithm>
#include <thread>
#include <utility>

#include "node/run_worker.hpp"

namespace posthouse::node {
namespace {

constexpr int connections_of_worker = 3;  // claims, heartbeats, LISTEN

WorkerOptions common_options(Config const& config, BrokerOptions const& options) {
  auto worker = configured_options(config);
  worker.name = config.broker.name;
  worker.stop_grace = options.stop_grace;
  worker.logger = options.logger;
  return worker;
}

WorkerOptions numbered_options(Config const& config, BrokerOptions const& options) {
  auto worker = common_options(config, options);
  worker.concurrency = 0;
  for (int number = 1; number <= config.broker.queue_count; ++number) {
    auto const at_once = config.broker.concurrency_of(number);
    worker.queues.push_back(numbered_queue(number));
    // Of the database, not of this process: exact also while another broker takes over.
    worker.queue_limits[worker.queues.back()].max_concurrency = at_once;
    worker.concurrency += at_once;
  }
  return worker;
}

WorkerOptions other_options(Config const& config, BrokerOptions const& options) {
  auto worker = common_options(config, options);
  worker.queues = {"default"};
  for (auto const& [name, limits] : config.queue_limits) {
    if (name != "default") worker.queues.push_back(name);
  }
  worker.queue_limits = config.queue_limits;
  worker.concurrency = config.concurrency;
  worker.prefetch_buffer = config.prefetch_buffer;
  return worker;
}

bool has_sql(Config const& config) {
  return std::any_of(config.kinds.begin(), config.kinds.end(),
                     [](auto const& kind) { return !kind.second.sql.empty(); });
}

/// What is left of max_open_conns beside the workers' own, for one of the two that run SQL.
int sql_connections(Config const& config) {
  int const workers = config.kinds.empty() ? 1 : 2;
  int const left = std::max(1, config.pool.open() - workers * connections_of_worker);
  return has_sql(config) ? std::max(1, left / 2) : left;
}

pg::Pool::Keep keep_of(Config const& config) {
  return {.idle = config.pool.idle(),
          .lifetime = config.pool.lifetime(),
          .idle_time = std::min(config.pool.idle_time(), config.broker.idle_timeout())};
}

SqlJobs::Options sql_jobs_options(Config const& config, int slots) {
  int const most = sql_connections(config);
  return {.database = config.database,
          .entry = config.name,
          .run_as = config.run_as,
          .connections = std::clamp(most / 2, 1, slots),
          // A job of another role takes one of each login.
          .run_as_connections = std::clamp(most / 4, 1, slots),
          .keep = keep_of(config)};
}

WorkerStats sum(WorkerStats a, WorkerStats const& b) {
  a.claimed += b.claimed;
  a.succeeded += b.succeeded;
  a.failed += b.failed;
  a.snoozed += b.snoozed;
  a.released += b.released;
  a.expired += b.expired;
  a.cancelled += b.cancelled;
  a.lease_lost += b.lease_lost;
  a.statements += b.statements;
  a.claims += b.claims;
  a.empty_claims += b.empty_claims;
  return a;
}

}  // namespace

std::string numbered_queue(int number) { return "broker:" + std::to_string(number); }

BrokerCrew::BrokerCrew(Config const& config, BrokerOptions const& options, base::Log const& log, WorkerWatch watch,
                       std::shared_ptr<monitor::JobMetrics> const& jobs)
    : jobs_(sql_jobs_options(config, numbered_options(config, options).concurrency), log),
      numbered_(std::make_unique<Worker>(numbered_options(config, options))) {
  if (has_sql(config)) {
    sql_ = std::make_shared<PooledSqlRunner>(config.database, sql_connections(config),
                                             static_cast<std::size_t>(config.max_result_bytes), log, keep_of(config));
  }
  auto policy = SqlJobs::once();
  policy.max_attempts = config.broker.max_attempts;
  jobs_.add_to(*numbered_, policy);
  register_configured(*numbered_, config, {}, sql_);
  if (!config.kinds.empty()) {
    others_ = std::make_unique<Worker>(other_options(config, options));
    register_configured(*others_, config, {}, sql_);
    WorkerDoor::watch(*others_, {.listen_retry = watch.listen_retry});
    WorkerDoor::observe(*others_, jobs);
  }
  WorkerDoor::watch(*numbered_, std::move(watch));
  WorkerDoor::observe(*numbered_, jobs);
}

void BrokerCrew::start() {
  numbered_->start();
  try {
    if (others_) others_->start();
  } catch (...) {
    numbered_->stop();
    throw;
  }
}

void BrokerCrew::stop() {
  std::jthread beside;
  if (others_) beside = std::jthread([this] { others_->stop(); });
  numbered_->stop();
}

void BrokerCrew::stop_now() {
  std::jthread beside;
  if (others_) beside = std::jthread([this] { others_->stop_now(); });
  numbered_->stop_now();
}

bool BrokerCrew::ended() const { return WorkerDoor::ended(*numbered_) || (others_ && WorkerDoor::ended(*others_)); }

void BrokerCrew::tend() {
  jobs_.tend();
  if (sql_) sql_->tend();
}

WorkerStats BrokerCrew::stats() const {
  return others_ ? sum(numbered_->stats(), others_->stats()) : numbered_->stats();
}

std::int64_t BrokerCrew::connections() const {
  auto const sql = jobs_.open_connections() + (sql_ ? sql_->open_connections() : 0);
  return (others_ ? 6 : 3) + static_cast<std::int64_t>(sql);
}

}  // namespace posthouse::node
