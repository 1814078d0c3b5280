// SPDX-License-Identifier: Apache-2.0
// Scenario workers: several worker processes on one lane.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "bench/children.hpp"
#include "bench/scenarios.hpp"

namespace posthouse::bench {

namespace {

constexpr std::array counts{1, 4, 16};

/// The processes are idle when the jobs arrive in one commit. Returns jobs a second.
double drain_with(Site& site, int count, std::int64_t jobs) {
  site.clear();
  Children children(site, count);
  auto& sql = site.sql();
  sql.query("select " + site.name("open_lane") + "($1)", pg::Params{}.text(bench_kind));
  sql.query("insert into " + site.name("job") + " (lane, payload) select " + site.name("lane_of") +
                "('default', $1, 0, false), '{\"n\": 1}' from generate_series(1, $2)",
            pg::Params{}.text(bench_kind).int8(jobs));
  double const start = now_seconds();
  site.client().enqueue(bench_kind);
  await_finished(site, children, jobs);
  double const seconds = now_seconds() - start;
  children.stop();
  return static_cast<double>(jobs) / seconds;
}

}  // namespace

void await_finished(Site& site, Children& children, std::int64_t jobs) {
  auto const finished = "select coalesce(sum(n), 0) from " + site.name("batch") + " where closed_at is not null";
  site.await(
      "jobs that worker processes have finished", jobs,
      [&] {
        children.check();
        return site.sql().query(finished).int8(0, 0);
      },
      std::chrono::milliseconds(10));
}

void workers(Site& site, Options const& options, Figures& figures) {
  std::array<std::vector<double>, counts.size()> rates;
  std::vector<double> worst_to_best;
  for (int i = 0; i < options.repetitions; ++i) {
    double best = 0;
    double worst = 1e300;
    for (std::size_t c = 0; c < counts.size(); ++c) {
      site.progress(fmt::format("workers {}/{}: {} processes", i + 1, options.repetitions, counts[c]));
      rates[c].push_back(drain_with(site, counts[c], *options.jobs));
      best = std::max(best, rates[c].back());
      worst = std::min(worst, rates[c].back());
    }
    worst_to_best.push_back(worst / best);
  }
  for (std::size_t c = 0; c < counts.size(); ++c) figures.add(fmt::format("workers_{}_per_s", counts[c]), rates[c]);
  figures.add("workers_worst_to_best", worst_to_best);
}

}  // namespace posthouse::bench
