// SPDX-License-Identifier: Apache-2.0
// Scenario latency: from an enqueue to the start of its handler, on an idle system.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "bench/scenarios.hpp"

namespace posthouse::bench {

namespace {

constexpr int probes_a_second = 10;
constexpr int least_probes = 20;
constexpr int most_probes = 200;
constexpr auto missed_after = std::chrono::seconds(10);  // a job that has not started by then counts as so long

/// A NOTIFY there and a NOTIFY back: what two connections that wait for each other need at the least. An echo thread
/// answers; the probes come at the pace of the scenario, since a machine that has slept wakes more slowly.
class RawNotify {
 public:
  explicit RawNotify(Site& site)
      : there_("notify " + site.database().schema + "_a"),
        back_("notify " + site.database().schema + "_b"),
        caller_(site.database()),
        echo_(site.database()) {
    caller_.execute(("listen " + site.database().schema + "_b").c_str());
    echo_.execute(("listen " + site.database().schema + "_a").c_str());
    thread_ = std::thread([this] { echo(); });
  }
  ~RawNotify() {
    over_ = true;
    thread_.join();
  }
  RawNotify(RawNotify const&) = delete;
  RawNotify& operator=(RawNotify const&) = delete;

  void probe(bool counts) {
    double const sent = now_seconds();
    caller_.execute(there_.c_str());
    if (!caller_.wait_notification(std::chrono::seconds(5))) {
      throw Timeout("a plain NOTIFY was not answered within 5 s" + (problem().empty() ? "" : ": " + problem()));
    }
    if (!counts) return;
    round_trips_.push_back((now_seconds() - sent) * 1e3);
    one_ways_.push_back(std::max(0.0, (heard_ - sent) * 1e3));
  }
  [[nodiscard]] std::vector<double> const& round_trips() const { return round_trips_; }
  [[nodiscard]] std::vector<double> const& one_ways() const { return one_ways_; }

 private:
  void echo() {
    try {
      while (!over_) {
        if (!echo_.wait_notification(std::chrono::milliseconds(500))) continue;
        heard_ = now_seconds();
        echo_.execute(back_.c_str());
      }
    } catch (std::exception const& error) {
      std::lock_guard const lock(mutex_);
      problem_ = error.what();
    }
  }
  std::string problem() {
    std::lock_guard const lock(mutex_);
    return problem_;
  }

  std::string const there_;
  std::string const back_;
  pg::Bare caller_;
  pg::Bare echo_;
  std::atomic<bool> over_{false};
  std::atomic<double> heard_{0};
  std::mutex mutex_{};
  std::string problem_{};
  std::thread thread_{};
  std::vector<double> round_trips_{};
  std::vector<double> one_ways_{};
};

void pause_before(Site const& site, int probe) {
  site.interrupt().sleep(std::chrono::milliseconds(probe == 0 ? 2000 : 25 + probe % 13 * 10));
}

}  // namespace

void latency(Site& site, Options const& given, Figures& figures) {
  int const probes = std::clamp(given.seconds * probes_a_second, least_probes, most_probes);
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
  int missed = 0;
  RawNotify raw(site);
  for (int i = 0; i < probes + 1; ++i) {
    pause_before(site, i);
    raw.probe(i > 0);
    pause_before(site, i + 1);
    {
      std::lock_guard const lock(mutex);
      started = 0;
    }
    double const sent = now_seconds();
    site.sql().prepared(enqueue);
    double const committed = now_seconds();
    std::unique_lock lock(mutex);
    bool const came = changed.wait_for(lock, missed_after, [&] { return started > 0; });
    if (i == 0) continue;  // warms up
    if (!came) ++missed;
    double const then = came ? started : committed + std::chrono::duration<double>(missed_after).count();
    times.push_back(std::max(0.0, (then - committed) * 1e3));
    trips.push_back((then - sent) * 1e3);
  }
  worker.stop();
  figures.add("latency_p50_ms", percentile(times, 0.5));
  figures.add("latency_p99_ms", percentile(times, 0.99));
  figures.add("enqueue_to_start_p50_ms", percentile(trips, 0.5));
  figures.add("raw_notify_p50_ms", percentile(raw.round_trips(), 0.5));
  figures.add("raw_notify_one_way_p50_ms", percentile(raw.one_ways(), 0.5));
  figures.add("latency_ratio", percentile(times, 0.5) / percentile(raw.round_trips(), 0.5));
  figures.add("latency_missed", missed);
}

}  // namespace posthouse::bench
