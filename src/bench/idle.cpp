// SPDX-License-Identifier: Apache-2.0
// Scenarios of workers that have nothing to do: idle and fleet.
#include <fmt/format.h>

#include <algorithm>

#include "bench/scenarios.hpp"

namespace posthouse::bench {

namespace {

constexpr int idle_workers = 10;
constexpr int fleet_workers = 200;
constexpr auto idle_settle = std::chrono::seconds(5);  // the first looks are over
// A heartbeat of each falls into it. The server counts late what a session did before it fell asleep, and what autovacuum
// does: bursts, which the median of the slices leaves out.
constexpr auto idle_slice = std::chrono::seconds(5);
constexpr auto fleet_settle = std::chrono::seconds(15);  // the same of many

std::vector<std::unique_ptr<Worker>> start_workers(Site& site, std::int64_t count) {
  std::vector<std::unique_ptr<Worker>> workers;
  for (std::int64_t i = 0; i < count; ++i) {
    site.interrupt().check();
    workers.push_back(std::make_unique<Worker>(drain_options(site.database(), 0)));
    workers.back()->on(bench_kind, [](Job const&) {});
    workers.back()->start();
  }
  return workers;
}

/// Transactions of the whole database so far, those of this question not yet among them.
std::int64_t transactions(Site& site) {
  return site.sql()
      .query("select xact_commit + xact_rollback from pg_stat_database where datname = current_database()")
      .int8(0, 0);
}

}  // namespace

IdleCost idle_cost(Site& site, std::vector<std::unique_ptr<Worker>> const& workers, std::chrono::seconds time) {
  auto const asked = [&] {
    std::int64_t statements = 0;
    for (auto const& worker : workers) statements += worker->stats().statements;
    return statements;
  };
  auto const before = site.counters();
  auto const asked_before = asked();
  auto const count = static_cast<double>(workers.size());
  double const start = now_seconds();
  auto const slices = std::max<std::int64_t>(1, time / idle_slice);
  std::vector<double> seen;
  for (std::int64_t i = 0; i < slices; ++i) {
    double const slice_start = now_seconds();
    auto const transactions_before = transactions(site);
    site.interrupt().sleep(time / slices);
    // The first of the two questions is one of the transactions in between.
    auto const more = std::max<std::int64_t>(0, transactions(site) - transactions_before - 1);
    seen.push_back(static_cast<double>(more) / (now_seconds() - slice_start) / count);
  }
  auto const asked_after = asked();
  double const spent = now_seconds() - start;
  auto const after = site.counters();
  IdleCost cost;
  cost.asked_per_s = static_cast<double>(asked_after - asked_before) / spent / count;
  cost.transactions_per_s = median(seen);
  double const around = after.at - before.at;
  cost.client_cpu_percent = (after.client_cpu_us - before.client_cpu_us) / around / 1e4 / count;
  if (auto const used = server_cpu_us(before, after)) cost.server_cpu_percent = *used / around / 1e4 / count;
  return cost;
}

void idle(Site& site, Options const& options, Figures& figures) {
  auto const workers = start_workers(site, idle_workers);
  site.interrupt().sleep(idle_settle);
  site.progress(fmt::format("idle: {} workers for {} s", idle_workers, options.seconds));
  auto const cost = idle_cost(site, workers, std::chrono::seconds(options.seconds));
  figures.add("idle_queries_per_s", cost.queries_per_s());
  figures.add("idle_asked_per_s", cost.asked_per_s);
  figures.add("idle_transactions_per_s", cost.transactions_per_s);
  figures.add("idle_client_cpu_percent", cost.client_cpu_percent);
  if (cost.server_cpu_percent) figures.add("idle_server_cpu_percent", *cost.server_cpu_percent);
}

void fleet(Site& site, Options const& options, Figures& figures) {
  // Each worker has two connections and one for LISTEN.
  auto const room = site.sql().query(
      "select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int -"
      " (select count(*) from pg_stat_activity where backend_type = 'client backend')");
  auto const count = std::min<std::int64_t>(fleet_workers, room.int8(0, 0) / 3 - 2);
  if (count < 1) {
    throw Unavailable(fmt::format("the server has {} connections left", room.int8(0, 0)),
                      {.sqlstate = {}, .in_doubt = false, .hint = "a worker needs three: raise max_connections"});
  }
  site.progress(fmt::format("fleet: {} workers start", count));
  auto const workers = start_workers(site, count);
  site.interrupt().sleep(fleet_settle);
  site.progress(fmt::format("fleet: {} workers idle for {} s", count, options.seconds));
  auto const before = site.counters();
  site.interrupt().sleep(std::chrono::seconds(options.seconds));
  auto const after = site.counters();
  figures.add("fleet_workers", static_cast<double>(count));
  if (auto const used = server_cpu_us(before, after)) {
    figures.add("fleet_server_cpu_percent_of_a_core", *used / (after.at - before.at) / 1e4);
  }
}

}  // namespace posthouse::bench
