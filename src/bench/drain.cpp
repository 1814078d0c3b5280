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

/// Makes `table` anew with a backlog of jobs, claims one at a time by SKIP LOCKED and deletes it, in a loop. Returns jobs
/// a second.
double skip_locked(Site& site, std::string const& table, std::int64_t jobs) {
  site.sql().script(
      "drop table if exists " + table + "; create table " + table +
      " (id bigint generated always as identity primary key, state int not null default 0, payload jsonb);"
      "create index on " +
      table + " (id) where state = 0");
  site.sql().query("insert into " + table + " (payload) select '{\"n\": 1}' from generate_series(1, $1)",
                   pg::Params{}.int8(single_backlog));
  site.sql().script("vacuum analyze " + table);
  pg::Bare bare(site.database());
  bare.prepare("claim", "update " + table + " set state = 1 where id = (select id from " + table +
                            " where state = 0 order by id limit 1 for update skip locked) returning id, payload");
  bare.prepare("finish", "delete from " + table + " where id = $1");
  double const start = now_seconds();
  for (std::int64_t i = 0; i < jobs; ++i) {
    site.interrupt().check();
    auto const id = bare.execute_prepared("claim", {}).text(0, 0);
    char const* const values[] = {id.c_str()};
    bare.execute_prepared("finish", values);
  }
  return static_cast<double>(jobs) / (now_seconds() - start);
}

}  // namespace

void throughput(Site& site, Options const& options, Figures& figures) {
  auto const count = *options.jobs;
  auto const jobs = static_cast<double>(count);
  Pairs drains;
  std::vector<double> wal, statements, commits, xids, client_cpu, server_cpu, peak;
  auto const ours = [&] {
    site.clear();
    auto const empty = site.counters();
    site.fill(bench_kind, count);
    auto const before = site.counters();
    // The counters are read while the worker is still connected, so that its backends are counted.
    Counters after;
    auto const drain = drain_with_worker(site, count, 1, drain_prefetch, [&] { after = site.counters(); });
    wal.push_back(static_cast<double>(after.wal_bytes - empty.wal_bytes) / jobs);
    statements.push_back(static_cast<double>(drain.stats.statements) / jobs);
    commits.push_back(static_cast<double>(after.commits - before.commits) / jobs);
    xids.push_back(static_cast<double>(after.xids - before.xids) / jobs);
    client_cpu.push_back((after.client_cpu_us - before.client_cpu_us) / jobs);
    if (auto const used = server_cpu_us(before, after)) server_cpu.push_back(*used / jobs);
    peak.push_back(after.client_peak_mib);
    return jobs / drain.seconds;
  };
  auto const raw = [&] {
    site.clear();
    site.fill(bench_kind, count);
    return jobs / drain_raw(site, count, claim_size);
  };
  for (int i = 0; i < options.repetitions; ++i) {
    site.progress(
        fmt::format("throughput {}/{}: {} jobs by a worker and by the raw loop", i + 1, options.repetitions, count));
    drains.measure(i, ours, raw);
  }
  figures.compare("drain_per_s", "raw_drain_per_s", "drain_ratio", drains);
  figures.add("wal_bytes_per_job", wal);
  figures.add("statements_per_job", statements);
  figures.add("commits_per_job", commits);
  figures.add("xids_per_job", xids);
  figures.add("client_cpu_us_per_job", client_cpu);
  if (!server_cpu.empty()) figures.add("server_cpu_us_per_job", server_cpu);
  figures.add("client_peak_mib", peak);
}

void single(Site& site, Options const& options, Figures& figures) {
  auto const table = site.name("raw_queue");
  Pairs claims;
  auto const ours = [&] {
    site.clear();
    site.fill(bench_kind, single_backlog);
    return static_cast<double>(single_jobs) / drain_with_worker(site, single_jobs, 1, 0).seconds;
  };
  auto const raw = [&] { return skip_locked(site, table, single_jobs); };
  for (int i = 0; i < options.repetitions; ++i) {
    site.progress(fmt::format("single {}/{}: {} jobs one at a time", i + 1, options.repetitions, single_jobs));
    claims.measure(i, ours, raw);
  }
  site.sql().script("drop table " + table);
  figures.compare("single_per_s", "raw_skip_locked_per_s", "single_ratio", claims);
}

void held_snapshot(Site& site, Options const& options, Figures& figures) {
  auto const jobs = *options.jobs;
  Pairs drains;
  auto const drain = [&] {
    site.fill(bench_kind, jobs);
    return static_cast<double>(jobs) / drain_with_worker(site, jobs, 1, drain_prefetch).seconds;
  };
  // The reader takes its snapshot, reads the view and stays; then the jobs arrive and are drained.
  auto const held = [&] {
    site.clear();
    auto reader = pg::Connection::open(site.database());
    reader->query("begin isolation level repeatable read");
    reader->query("select state, count(*) from " + site.name("jobs") + " group by 1");
    reader->query("select pg_current_xact_id()");
    double const rate = drain();
    reader->rollback();
    return rate;
  };
  auto const plain = [&] {
    site.clear();
    return drain();
  };
  for (int i = 0; i < options.repetitions; ++i) {
    site.progress(
        fmt::format("held-snapshot {}/{}: {} jobs with and without a held snapshot", i + 1, options.repetitions, jobs));
    drains.measure(i, held, plain);
  }
  figures.compare("held_drain_per_s", "free_drain_per_s", "held_ratio", drains);
}

}  // namespace posthouse::bench
