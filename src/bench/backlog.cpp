// SPDX-License-Identifier: Apache-2.0
// Scenario backlog: do the figures of an empty log hold in front of a long backlog, and behind as many finished jobs; and
// does a worker's memory.
#include <fmt/format.h>

#include <algorithm>

#include "bench/children.hpp"
#include "bench/scenarios.hpp"

namespace posthouse::bench {

namespace {

constexpr int drain_prefetch = 4 * claim_size;
constexpr std::int64_t most_slice = 200'000;

struct Rates {
  double enqueue = 0;  ///< jobs a second by COPY
  double drain = 0;
};

/// Enqueues a slice and drains as many jobs, whatever else is there.
Rates slice_of(Site& site, std::int64_t slice) {
  Rates rates;
  double const start = now_seconds();
  site.fill(bench_kind, slice);
  rates.enqueue = static_cast<double>(slice) / (now_seconds() - start);
  rates.drain = static_cast<double>(slice) / drain_with_worker(site, slice, 1, drain_prefetch).seconds;
  return rates;
}

/// A process of its own drains what is there. Returns the most memory it had, in MiB.
double drain_by_process(Site& site, std::int64_t jobs) {
  auto const finished =
      site.sql()
          .query("select coalesce(sum(n), 0) from " + site.name("batch") + " where closed_at is not null")
          .int8(0, 0);
  Children child(site, 1);
  await_finished(site, child, finished + jobs);
  double const peak = child.peak_mib(0);
  child.stop();
  return peak;
}

}  // namespace

void backlog(Site& site, Options const& options, Figures& figures) {
  auto const jobs = *options.jobs;
  auto const slice = std::min(most_slice, jobs);
  Pairs drains_behind, drains_finished, enqueues_behind, enqueues_finished;
  std::vector<double> small, large;
  auto const empty = [&] {
    site.clear();
    return slice_of(site, slice);
  };
  for (int i = 0; i < options.repetitions; ++i) {
    site.progress(
        fmt::format("backlog {}/{}: {} jobs in front of {}, and after them", i + 1, options.repetitions, slice, jobs));
    site.clear();
    site.fill(bench_kind, slice);
    small.push_back(drain_by_process(site, slice));
    auto const first = empty();
    site.clear();
    site.fill(bench_kind, jobs);
    auto const before_backlog = slice_of(site, slice);
    // The worker may have claimed more than its slice; what it has not finished it gave back when it stopped.
    auto const left =
        site.sql()
            .query("select $1 - coalesce(sum(n), 0) from " + site.name("batch") + " where closed_at is not null",
                   pg::Params{}.int8(jobs + slice))
            .int8(0, 0);
    large.push_back(drain_by_process(site, left));
    auto const after_finished = slice_of(site, slice);
    auto const last = empty();
    // Each beside the empty log that was measured next to it.
    drains_behind.ours.push_back(before_backlog.drain);
    drains_behind.raw.push_back(first.drain);
    enqueues_behind.ours.push_back(before_backlog.enqueue);
    enqueues_behind.raw.push_back(first.enqueue);
    drains_finished.ours.push_back(after_finished.drain);
    drains_finished.raw.push_back(last.drain);
    enqueues_finished.ours.push_back(after_finished.enqueue);
    enqueues_finished.raw.push_back(last.enqueue);
  }
  figures.add("backlog_jobs", static_cast<double>(jobs));
  figures.add("backlog_slice_jobs", static_cast<double>(slice));
  figures.compare("backlog_drain_per_s", "before_backlog_drain_per_s", "backlog_drain_ratio", drains_behind);
  figures.compare("finished_drain_per_s", "after_finished_empty_drain_per_s", "finished_drain_ratio", drains_finished);
  figures.add("backlog_enqueue_ratio", enqueues_behind.ratio());
  figures.add("finished_enqueue_ratio", enqueues_finished.ratio());
  figures.add("worker_rss_mib_small", small);
  figures.add("worker_rss_mib_large", large);
}

}  // namespace posthouse::bench
