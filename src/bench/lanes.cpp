// SPDX-License-Identifier: Apache-2.0
// Scenario lanes: a thousand lanes of which ten are busy, and what an idle worker asks beside one lane and beside a
// thousand.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "bench/scenarios.hpp"

namespace posthouse::bench {

namespace {

using std::chrono::milliseconds;

constexpr int kinds = 200;
constexpr int priorities = 5;
constexpr int busy_lanes = 10;
constexpr int cold_probes = 20;
constexpr double probe_every_s = 0.1;
constexpr auto missed_after = std::chrono::seconds(5);  // a job that has not started by then counts as so long
constexpr int drain_prefetch = 2 * claim_size;          // a job in a cold lane starts behind what is prefetched
constexpr int idle_workers = 10;
constexpr auto idle_settle = std::chrono::seconds(15);  // the lanes cool down, and bells are put on them

std::string lane_kind(int number) { return fmt::format("kind{:03}", number); }

/// One job at a time, each in a lane that nothing has come to since it cooled down: when it was committed and when it has
/// started. The handler's thread takes the time, so it does not matter when ours is woken.
class ColdLanes {
 public:
  void started() {
    std::lock_guard const lock(mutex_);
    started_ = now_seconds();
    changed_.notify_one();
  }
  void probe(Site& site, int kind) {
    {
      std::lock_guard const lock(mutex_);
      started_ = 0;
    }
    double const called = now_seconds();
    site.client().enqueue(lane_kind(kind));
    double const committed = now_seconds();
    std::unique_lock lock(mutex_);
    bool const came = changed_.wait_for(lock, missed_after, [&] { return started_ > 0; });
    if (!came) ++missed_;
    double const waited =
        came ? std::max(0.0, started_ - committed) : std::chrono::duration<double>(missed_after).count();
    waits_.push_back(waited * 1e3);
    enqueues_.push_back((committed - called) * 1e3);
  }
  void report(Figures& figures) const {
    if (waits_.empty()) return;
    figures.add("cold_lane_p50_ms", percentile(waits_, 0.5));
    figures.add("cold_lane_p95_ms", percentile(waits_, 0.95));
    figures.add("cold_lane_max_ms", percentile(waits_, 1));
    figures.add("cold_lane_missed", missed_);
    figures.add("cold_enqueue_max_ms", percentile(enqueues_, 1));
  }

 private:
  std::mutex mutex_{};
  std::condition_variable changed_{};
  double started_ = 0;
  std::vector<double> waits_{};
  std::vector<double> enqueues_{};
  int missed_ = 0;
};

/// One job in each of the thousand lanes.
void use_all_lanes(Site& site) {
  std::vector<Request> first_use;
  for (int kind = 0; kind < kinds; ++kind) {
    for (int priority = 0; priority < priorities; ++priority) {
      first_use.push_back({lane_kind(kind), {}, {.priority = priority}});
    }
  }
  site.client().enqueue_many(first_use);
}

void drain_first_use(Site& site, Worker const& worker) {
  site.await(
      "jobs, one in each lane", std::int64_t{kinds} * priorities, [&] { return worker.stats().succeeded; },
      milliseconds(10));
}

/// Drains ten busy lanes of a thousand while jobs come to a cold one. Returns jobs a second.
double drain_busy(Site& site, std::int64_t jobs, ColdLanes& cold) {
  site.clear();
  use_all_lanes(site);
  Worker worker(drain_options(site.database(), drain_prefetch));
  for (int kind = 0; kind < kinds; ++kind) {
    if (kind >= busy_lanes) {
      worker.on(lane_kind(kind), [&cold](Job const&) { cold.started(); });
    } else {
      worker.on(lane_kind(kind), [](Job const&) {});
    }
  }
  worker.start();
  drain_first_use(site, worker);
  site.interrupt().sleep(std::chrono::seconds(2));  // the lanes cool down
  std::int64_t const each = jobs / busy_lanes;
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
  double next_probe = start + probe_every_s;
  int probes = 0;
  site.await("jobs in ten busy lanes", each * busy_lanes, [&] {
    if (probes < cold_probes && now_seconds() > next_probe) {
      cold.probe(site, busy_lanes + probes);
      ++probes;
      next_probe = now_seconds() + probe_every_s;
    }
    return worker.stats().succeeded - before - probes;
  });
  double const seconds = now_seconds() - start;
  worker.stop();
  return static_cast<double>(each * busy_lanes) / seconds;
}

/// What each of ten idle workers asks, whose kinds have used one lane each, or all of them.
double idle_queries(Site& site, bool all_lanes, std::chrono::seconds time) {
  site.renew();  // a lane that was used once is known for ever
  std::vector<std::unique_ptr<Worker>> workers;
  for (int i = 0; i < idle_workers; ++i) {
    workers.push_back(std::make_unique<Worker>(drain_options(site.database(), 0)));
    for (int kind = 0; kind < (all_lanes ? kinds : 1); ++kind) workers.back()->on(lane_kind(kind), [](Job const&) {});
    workers.back()->start();
  }
  if (all_lanes) {
    use_all_lanes(site);
  } else {
    site.client().enqueue(lane_kind(0));
  }
  auto const succeeded = [&] {
    std::int64_t sum = 0;
    for (auto const& worker : workers) sum += worker->stats().succeeded;
    return sum;
  };
  site.await("jobs, one in each lane", all_lanes ? kinds * priorities : 1, succeeded, milliseconds(10));
  site.interrupt().sleep(idle_settle);
  site.progress(fmt::format("lanes: {} workers idle beside {} for {} s", idle_workers,
                            all_lanes ? "a thousand lanes" : "one lane", time.count()));
  return idle_cost(site, workers, time).queries_per_s();
}

}  // namespace

void lanes(Site& site, Options const& options, Figures& figures) {
  auto const jobs = *options.jobs;
  Pairs drains;
  ColdLanes cold;
  auto const one = [&] {
    site.clear();
    site.fill(bench_kind, jobs);
    return static_cast<double>(jobs) / drain_with_worker(site, jobs, 1, drain_prefetch).seconds;
  };
  auto const many = [&] { return drain_busy(site, jobs, cold); };
  for (int i = 0; i < options.repetitions; ++i) {
    site.progress(fmt::format("lanes {}/{}: one lane, and {} lanes of which {} are busy", i + 1, options.repetitions,
                              kinds * priorities, busy_lanes));
    drains.measure(i, many, one);
  }
  figures.compare("thousand_lanes_per_s", "one_lane_per_s", "lanes_ratio", drains);
  cold.report(figures);
  auto const half = std::chrono::seconds(std::max(1, options.seconds / 2));
  figures.add("idle_one_lane_queries_per_s", idle_queries(site, false, half));
  figures.add("idle_thousand_lanes_queries_per_s", idle_queries(site, true, half));
}

}  // namespace posthouse::bench
