// SPDX-License-Identifier: Apache-2.0
// Scenarios that drain a backlog: throughput, single, held-snapshot.
#include <fmt/format.h>

#include <algorithm>

#include "bench/scenarios.hpp"

namespace posthouse::bench {

namespace {

constexpr int drain_prefetch = 4 * claim_size;
constexpr std::int64_t single_jobs = 5000;
constexpr std::int64_t single_backlog = 100'000;

/// Claims one job of `table` by SKIP LOCKED and deletes it, in a loop. Returns jobs a second.
double skip_locked(Site& site, std::string const& table, std::int64_t jobs) {
  auto& sql = site.sql();
  auto const claim = "update " + table + " set state = 1 where id = (select id from " + table +
                     " where state = 0 order by id limit 1 for update skip locked) returning id, payload";
  auto const finish = "delete from " + table + " where id = $1";
  double const start = now_seconds();
  for (std::int64_t i = 0; i < jobs; ++i) {
    auto const row = sql.prepared(claim);
    sql.prepared(finish, pg::Params{}.int8(row.int8(0, 0)));
  }
  return static_cast<double>(jobs) / (now_seconds() - start);
}

}  // namespace

void throughput(Site& site, Options const& options, Figures& figures) {
  std::vector<double> ours;
  std::vector<double> raw;
  std::vector<double> ratio;
  auto const jobs = static_cast<double>(options.jobs);
  double wal = 0;
  double statements = 0;
  double commits = 0;
  double xids = 0;
  double client_cpu = 0;
  double server_cpu = 0;
  double peak = 0;
  for (int i = 0; i < options.repetitions; ++i) {
    site.progress(fmt::format("throughput {}/{}: {} jobs by a worker, then by the raw loop", i + 1, options.repetitions,
                              options.jobs));
    auto const empty = site.counters();
    site.fill(bench_kind, options.jobs);
    auto const before = site.counters();
    // The counters are read while the worker is still connected, so that its backends are counted.
    Counters after;
    auto const drain = drain_with_worker(site, options.jobs, 1, drain_prefetch, [&] { after = site.counters(); });
    ours.push_back(jobs / drain.seconds);
    wal = static_cast<double>(after.wal_bytes - empty.wal_bytes) / jobs;
    statements = static_cast<double>(drain.stats.statements) / jobs;
    commits = static_cast<double>(after.commits - before.commits) / jobs;
    xids = static_cast<double>(after.xids - before.xids) / jobs;
    client_cpu = (after.client_cpu_us - before.client_cpu_us) / jobs;
    server_cpu = server_cpu_us(before, after).value_or(0) / jobs;
    peak = after.client_peak_mib;
    site.fill(bench_kind, options.jobs);
    raw.push_back(jobs / drain_raw(site, options.jobs, claim_size));
    ratio.push_back(ours.back() / raw.back());
  }
  figures.add("drain_per_s", median(ours));
  figures.add("raw_drain_per_s", median(raw));
  figures.add("drain_ratio", median(ratio));
  figures.add("wal_bytes_per_job", wal);
  figures.add("statements_per_job", statements);
  figures.add("commits_per_job", commits);
  figures.add("xids_per_job", xids);
  figures.add("client_cpu_us_per_job", client_cpu);
  if (server_cpu > 0) figures.add("server_cpu_us_per_job", server_cpu);
  figures.add("client_peak_mib", peak);
}

void single(Site& site, Options const& options, Figures& figures) {
  std::vector<double> ours;
  std::vector<double> raw;
  auto const table = site.name("raw_queue");
  site.sql().script(
      "create table " + table +
      " (id bigint generated always as identity primary key, state int not null default 0, payload jsonb);"
      "create index on " +
      table + " (id) where state = 0");
  site.sql().query("insert into " + table + " (payload) select '{\"n\": 1}' from generate_series(1, $1)",
                   pg::Params{}.int8(single_backlog));
  site.sql().script("vacuum analyze " + table);
  site.fill(bench_kind, single_backlog);
  for (int i = 0; i < options.repetitions; ++i) {
    site.progress(fmt::format("single {}/{}: {} jobs one at a time", i + 1, options.repetitions, single_jobs));
    ours.push_back(static_cast<double>(single_jobs) / drain_with_worker(site, single_jobs, 1, 0).seconds);
    raw.push_back(skip_locked(site, table, single_jobs));
  }
  site.sql().script("drop table " + table);
  figures.compare("single_per_s", median(ours), "raw_skip_locked_per_s", median(raw), "single_ratio");
}

void held_snapshot(Site& site, Options const& options, Figures& figures) {
  // The reader takes its snapshot, reads the view and stays; then the jobs arrive and are drained.
  std::vector<double> plain;
  std::vector<double> held;
  auto const jobs = std::max<std::int64_t>(options.jobs, 1'000'000);
  for (int i = 0; i < options.repetitions; ++i) {
    site.progress(fmt::format("held-snapshot {}/{}: {} jobs without, then with a held snapshot", i + 1,
                              options.repetitions, jobs));
    site.clear();
    site.fill(bench_kind, jobs);
    plain.push_back(static_cast<double>(jobs) / drain_with_worker(site, jobs, 1, drain_prefetch).seconds);
    site.clear();
    auto reader = pg::Connection::open(site.database());
    reader->query("begin isolation level repeatable read");
    reader->query("select state, count(*) from " + site.name("jobs") + " group by 1");
    reader->query("select pg_current_xact_id()");
    site.fill(bench_kind, jobs);
    held.push_back(static_cast<double>(jobs) / drain_with_worker(site, jobs, 1, drain_prefetch).seconds);
    reader->rollback();
  }
  figures.compare("held_drain_per_s", median(held), "free_drain_per_s", median(plain), "held_ratio");
}

}  // namespace posthouse::bench
