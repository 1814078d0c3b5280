// SPDX-License-Identifier: Apache-2.0
// Scenarios with many lanes and with many worker processes.
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <thread>

#include "bench/scenarios.hpp"

extern char** environ;

namespace posthouse::bench {

namespace {

constexpr int kinds = 200;
constexpr int priorities = 5;
constexpr int busy_lanes = 10;
constexpr int cold_probes = 20;
constexpr int drain_prefetch = 2 * claim_size;  // a job in a cold lane starts behind what is prefetched

std::string lane_kind(int number) { return fmt::format("kind{:03}", number); }

}  // namespace

void lanes(Site& site, Options const& options, Figures& figures) {
  std::vector<double> one;
  std::vector<double> many;
  std::vector<double> cold;
  for (int i = 0; i < options.repetitions; ++i) {
    site.progress(fmt::format("lanes {}/{}: one lane, then {} lanes of which {} are busy", i + 1, options.repetitions,
                              kinds * priorities, busy_lanes));
    site.clear();
    site.fill(bench_kind, options.jobs);
    one.push_back(static_cast<double>(options.jobs) / drain_with_worker(site, options.jobs, 1, drain_prefetch).seconds);
    site.clear();
    std::vector<Request> first_use;
    for (int kind = 0; kind < kinds; ++kind) {
      for (int priority = 0; priority < priorities; ++priority) {
        first_use.push_back({lane_kind(kind), {}, {.priority = priority}});
      }
    }
    site.client().enqueue_many(first_use);
    std::atomic<double> started{0};
    Worker worker(drain_options(site.database(), drain_prefetch));
    for (int kind = 0; kind < kinds; ++kind) {
      if (kind == busy_lanes) {
        worker.on(lane_kind(kind), [&started](Job const&) { started = now_seconds(); });
      } else {
        worker.on(lane_kind(kind), [](Job const&) {});
      }
    }
    worker.start();
    while (worker.stats().succeeded < kinds * priorities) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    std::this_thread::sleep_for(std::chrono::seconds(2));  // the lanes cool down
    std::int64_t const each = options.jobs / busy_lanes;
    // The whole backlog arrives in one commit; the enqueue in it rings the bells.
    auto const before = worker.stats().succeeded;
    auto& sql = site.sql();
    sql.begin();
    for (int kind = 0; kind < busy_lanes; ++kind) {
      sql.query("insert into " + site.name("job") + " (lane, payload) select " + site.name("lane_of") +
                    "('default', $1, 0, false), '{\"n\": 1}' from generate_series(1, $2)",
                pg::Params{}.text(lane_kind(kind)).int8(each - 1));
      sql.query("select " + site.name("enqueue") + "($1)", pg::Params{}.text(lane_kind(kind)));
    }
    sql.commit();
    double const start = now_seconds();
    int probes = 0;
    while (worker.stats().succeeded < before + each * busy_lanes) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      if (probes < cold_probes && now_seconds() - start > 0.1 * (probes + 1)) {
        ++probes;
        started = 0;
        double const sent = now_seconds();
        site.client().enqueue(lane_kind(busy_lanes));
        while (started == 0 && now_seconds() - sent < 5) std::this_thread::sleep_for(std::chrono::microseconds(200));
        cold.push_back((started - sent) * 1e3);
      }
    }
    many.push_back(static_cast<double>(each * busy_lanes) / (now_seconds() - start));
    worker.stop();
  }
  std::sort(cold.begin(), cold.end());
  figures.compare("thousand_lanes_per_s", median(many), "one_lane_per_s", median(one), "lanes_ratio");
  if (!cold.empty()) {
    figures.add("cold_lane_p50_ms", cold[cold.size() / 2]);
    figures.add("cold_lane_max_ms", cold.back());
  }
}

int run_drain_process(DatabaseOptions const& database, std::string const& kind, int prefetch) {
  Worker worker(drain_options(database, prefetch));
  worker.on(kind, [](Job const&) {});
  worker.run();
  return 0;
}

void workers(Site& site, Options const& options, Figures& figures) {
  std::vector<std::pair<int, double>> rates;
  for (int const count : {1, 4, 16}) {
    std::vector<double> runs;
    for (int i = 0; i < options.repetitions; ++i) {
      site.progress(fmt::format("workers {}/{}: {} processes", i + 1, options.repetitions, count));
      site.clear();
      // The processes are idle when the jobs arrive in one commit.
      ::setenv("POSTHOUSE_BENCH_URL", site.database().database_url.c_str(), 1);
      ::setenv("POSTHOUSE_BENCH_SCHEMA", site.database().schema.c_str(), 1);
      std::vector<pid_t> children;
      for (int n = 0; n < count; ++n) {
        std::string program = "/proc/self/exe";
        std::string verb = "bench-drain-process";
        char* const argv[] = {program.data(), verb.data(), nullptr};
        pid_t pid = 0;
        if (posix_spawn(&pid, program.c_str(), nullptr, nullptr, argv, environ) == 0) children.push_back(pid);
      }
      auto const alive = "select count(*) from " + site.name("worker") + " where ended_at is null";
      while (site.sql().query(alive).int8(0, 0) < static_cast<std::int64_t>(children.size())) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
      auto& sql = site.sql();
      sql.query("select " + site.name("open_lane") + "($1)", pg::Params{}.text(bench_kind));
      sql.query("insert into " + site.name("job") + " (lane, payload) select " + site.name("lane_of") +
                    "('default', $1, 0, false), '{\"n\": 1}' from generate_series(1, $2)",
                pg::Params{}.text(bench_kind).int8(options.jobs));
      double const start = now_seconds();
      site.client().enqueue(bench_kind);
      auto const left = "select coalesce(sum(n), 0) from " + site.name("batch") + " where closed_at is not null";
      while (sql.query(left).int8(0, 0) < options.jobs) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      runs.push_back(static_cast<double>(options.jobs) / (now_seconds() - start));
      for (auto const pid : children) ::kill(pid, SIGTERM);
      for (auto const pid : children) ::waitpid(pid, nullptr, 0);
    }
    rates.emplace_back(count, median(runs));
  }
  double best = 0;
  double worst = 1e300;
  for (auto const& [count, rate] : rates) {
    figures.add(fmt::format("workers_{}_per_s", count), rate);
    best = std::max(best, rate);
    worst = std::min(worst, rate);
  }
  figures.add("workers_worst_to_best", worst / best);
}

}  // namespace posthouse::bench
