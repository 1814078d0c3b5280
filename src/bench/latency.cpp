// SPDX-License-Identifier: Apache-2.0
// Scenarios on an idle system: latency and idle.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "bench/scenarios.hpp"

namespace posthouse::bench {

namespace {

constexpr int probes = 200;
constexpr int idle_workers = 10;
constexpr int fleet_workers = 200;

double percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
}

/// A NOTIFY there and a NOTIFY back: what two connections that wait for each other need at the least. An echo thread
/// answers; the probes come at the pace of the scenario, since a machine that has slept wakes more slowly.
class RawNotify {
 public:
  explicit RawNotify(Site& site)
      : caller_(listen(site, "posthouse_bench_b")), echo_(listen(site, "posthouse_bench_a")) {
    thread_ = std::thread([this] {
      while (!echo_->wait(-1, pg::Clock::now() + std::chrono::seconds(60)).empty()) {
        heard_ = now_seconds();
        if (over_) return;
        echo_->query("notify posthouse_bench_b");
      }
    });
  }
  ~RawNotify() {
    over_ = true;
    caller_->query("notify posthouse_bench_a");
    thread_.join();
  }
  void probe() {
    double const sent = now_seconds();
    caller_->query("notify posthouse_bench_a");
    if (caller_->wait(-1, pg::Clock::now() + std::chrono::seconds(5)).empty()) return;
    round_trips_.push_back((now_seconds() - sent) * 1e3);
    one_ways_.push_back(std::max(0.0, (heard_ - sent) * 1e3));
  }
  [[nodiscard]] std::vector<double> const& round_trips() const { return round_trips_; }
  [[nodiscard]] std::vector<double> const& one_ways() const { return one_ways_; }

 private:
  static std::unique_ptr<pg::Connection> listen(Site& site, std::string const& channel) {
    auto connection = pg::Connection::open(site.database());
    connection->query("listen " + channel);
    return connection;
  }

  std::unique_ptr<pg::Connection> caller_;
  std::unique_ptr<pg::Connection> echo_;
  std::atomic<bool> over_{false};
  std::atomic<double> heard_{0};
  std::thread thread_{};
  std::vector<double> round_trips_{};
  std::vector<double> one_ways_{};
};

void pause_before(int probe) {
  std::this_thread::sleep_for(std::chrono::milliseconds(probe == 0 ? 2000 : 25 + probe % 13 * 10));
}

}  // namespace

void latency(Site& site, Options const& /*options*/, Figures& figures) {
  std::mutex mutex;
  std::condition_variable changed;
  double started = 0;
  auto options = drain_options(site.database(), 0);
  options.concurrency = 4;
  Worker worker(options);
  worker.on("latency", [&](Job const&) {
    std::lock_guard const lock(mutex);
    started = now_seconds();
    changed.notify_one();
  });
  worker.start();
  auto const enqueue = "select " + site.name("enqueue") + "('latency', '{\"n\": 1}')";
  std::vector<double> times;
  std::vector<double> trips;
  RawNotify raw(site);
  for (int i = 0; i < probes + 1; ++i) {
    pause_before(i);
    raw.probe();
    pause_before(i + 1);
    {
      std::lock_guard const lock(mutex);
      started = 0;
    }
    double const sent = now_seconds();
    site.sql().prepared(enqueue);
    double const committed = now_seconds();
    std::unique_lock lock(mutex);
    if (!changed.wait_for(lock, std::chrono::seconds(10), [&] { return started > 0; })) continue;
    if (i == 0) continue;
    times.push_back(std::max(0.0, (started - committed) * 1e3));
    trips.push_back((started - sent) * 1e3);
  }
  worker.stop();
  figures.add("latency_p50_ms", percentile(times, 0.5));
  figures.add("latency_p99_ms", percentile(times, 0.99));
  figures.add("enqueue_to_start_p50_ms", percentile(trips, 0.5));
  figures.add("raw_notify_p50_ms", percentile(raw.round_trips(), 0.5));
  figures.add("raw_notify_one_way_p50_ms", percentile(raw.one_ways(), 0.5));
  figures.add("latency_ratio", percentile(times, 0.5) / percentile(raw.round_trips(), 0.5));
  figures.add("latency_missed", probes - static_cast<double>(times.size()));
}

void fleet(Site& site, Options const& options, Figures& figures) {
  // Each worker has two connections and one for LISTEN.
  auto const room = site.sql().query(
      "select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int -"
      " (select count(*) from pg_stat_activity where backend_type = 'client backend')");
  auto const count = std::min<std::int64_t>(fleet_workers, room.int8(0, 0) / 3 - 2);
  std::vector<std::unique_ptr<Worker>> workers;
  site.progress(fmt::format("fleet: {} workers start", count));
  for (std::int64_t i = 0; i < count; ++i) {
    workers.push_back(std::make_unique<Worker>(drain_options(site.database(), 0)));
    workers.back()->on(bench_kind, [](Job const&) {});
    workers.back()->start();
  }
  std::this_thread::sleep_for(std::chrono::seconds(15));  // the first looks are over
  auto const before = site.counters();
  site.progress(fmt::format("fleet: {} workers idle for {} s", count, options.seconds));
  double const start = now_seconds();
  std::this_thread::sleep_for(std::chrono::seconds(options.seconds));
  auto const after = site.counters();
  double const spent = now_seconds() - start;
  figures.add("fleet_workers", static_cast<double>(count));
  if (auto const used = server_cpu_us(before, after)) {
    figures.add("fleet_server_cpu_percent_of_a_core", *used / spent / 1e4);
  }
  for (auto& worker : workers) worker->stop();
}

void idle(Site& site, Options const& options, Figures& figures) {
  std::vector<std::unique_ptr<Worker>> workers;
  for (int i = 0; i < idle_workers; ++i) {
    workers.push_back(std::make_unique<Worker>(drain_options(site.database(), 0)));
    workers.back()->on(bench_kind, [](Job const&) {});
    workers.back()->start();
  }
  std::this_thread::sleep_for(std::chrono::seconds(5));
  auto const sum = [&] {
    std::int64_t statements = 0;
    for (auto const& worker : workers) statements += worker->stats().statements;
    return statements;
  };
  auto const statements = sum();
  auto const before = site.counters();
  site.progress(fmt::format("idle: {} workers for {} s", idle_workers, options.seconds));
  std::this_thread::sleep_for(std::chrono::seconds(options.seconds));
  auto const after = site.counters();
  double const spent = options.seconds + 1.1;
  figures.add("idle_queries_per_s", static_cast<double>(sum() - statements) / spent / idle_workers);
  figures.add("idle_client_cpu_percent", (after.client_cpu_us - before.client_cpu_us) / spent / 1e4 / idle_workers);
  if (auto const used = server_cpu_us(before, after)) {
    figures.add("idle_server_cpu_percent", *used / spent / 1e4 / idle_workers);
  }
  for (auto& worker : workers) worker->stop();
}

}  // namespace posthouse::bench
