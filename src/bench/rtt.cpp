// SPDX-License-Identifier: Apache-2.0
// Scenario rtt: what is left of a worker's and a producer's speed when the database is far away.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <thread>

#include <posthouse/pool.hpp>

#include "bench/delay_proxy.hpp"
#include "bench/scenarios.hpp"
#include "dev/pooler.hpp"
#include "pg/endpoint.hpp"

namespace posthouse::bench {

namespace {

using std::chrono::milliseconds;

constexpr std::array delays{milliseconds(0), milliseconds(5), milliseconds(33), milliseconds(100), milliseconds(150)};
constexpr int concurrency = 64;
constexpr int rtt_prefetch = 10'000;
constexpr auto job_time = milliseconds(10);
constexpr auto settle = milliseconds(500);  // beside ten round trips, before the count begins
constexpr auto watched_for = milliseconds(3'000);
constexpr std::int64_t without_prefetch = 100'000;  // jobs that are there; more than anybody gets through
constexpr std::int64_t slow_jobs = 40'000;          // the same of 10 ms jobs
constexpr int pool_size = 4;
constexpr int enqueues = 20;

/// A way to the database: direct, or through a pooler that stands beside the server.
struct Road {
  std::string name{};
  std::unique_ptr<DelayProxy> line{};          ///< of database_url
  std::unique_ptr<DelayProxy> session_line{};  ///< of session_database_url; null: none
  std::unique_ptr<dev::Pooler> pooler{};
  DatabaseOptions near{};  ///< without the lines
  DatabaseOptions far{};

  void delay(std::chrono::microseconds one_way) const {
    line->delay(one_way);
    if (session_line) session_line->delay(one_way);
  }
};

Road direct_road(DatabaseOptions const& database) {
  auto const to = pg::endpoint_of(database, database.database_url);
  Road road{.name = "direct", .near = database, .far = database};
  road.line = std::make_unique<DelayProxy>(to.host, to.port, milliseconds(0));
  road.far.database_url = pg::url_through(database.database_url, road.line->port());
  return road;
}

Road pooled_road(DatabaseOptions const& database, std::filesystem::path const& program) {
  auto const to = pg::endpoint_of(database, database.database_url);
  Road road{.name = "pooled", .near = database, .far = database};
  road.pooler = std::make_unique<dev::Pooler>(dev::PoolerOptions{.program = program,
                                                                 .host = to.host,
                                                                 .port = to.port,
                                                                 .user = to.user,
                                                                 .password = to.password,
                                                                 .pool_size = pool_size});
  auto const folder = road.pooler->socket_folder().string();
  auto const port = std::to_string(dev::Pooler::port());
  auto const pooled = fmt::format("host={} port={} user={} dbname={}", folder, port,
                                  to.user.empty() ? "anyone" : to.user, to.database.empty() ? to.user : to.database);
  road.line = std::make_unique<DelayProxy>(folder, port, milliseconds(0));
  road.session_line = std::make_unique<DelayProxy>(to.host, to.port, milliseconds(0));
  for (auto* options : {&road.near, &road.far}) options->pgbouncer_transaction_mode = true;
  road.near.database_url = pooled;
  road.near.session_database_url = database.database_url;
  road.far.database_url = pg::url_through(pooled, road.line->port());
  road.far.session_database_url = pg::url_through(database.database_url, road.session_line->port());
  return road;
}

struct Pace {
  double per_s = 0;
  double statements_per_job = 0;
};

/// Of one worker with a backlog before it, once it is under way: for a few seconds, or until the backlog is gone.
Pace pace_of(Site& site, DatabaseOptions const& database, std::int64_t jobs, int prefetch, bool slow,
             std::chrono::microseconds round_trip) {
  site.clear();
  site.fill(bench_kind, jobs);
  auto options = drain_options(database, prefetch);
  options.concurrency = concurrency;
  Worker worker(options);
  worker.on(bench_kind, [slow](Job const&) {
    if (slow) std::this_thread::sleep_for(job_time);
  });
  worker.start();
  site.await("the first job", 1, [&] { return worker.stats().succeeded; });
  auto const count = [&] { return worker.stats().succeeded; };
  site.interrupt().sleep(settle + 10 * round_trip);
  auto const before = worker.stats();
  double const start = now_seconds();
  double const until = start + std::chrono::duration<double>(watched_for + 4 * round_trip).count();
  while (now_seconds() < until && count() < jobs) site.interrupt().sleep(milliseconds(1));
  auto const after = worker.stats();
  double const end = now_seconds();
  worker.stop_now();
  auto const done = static_cast<double>(after.succeeded - before.succeeded);
  if (done <= 0) throw Timeout("too few jobs to measure: give more with --jobs");
  return {.per_s = done / (end - start),
          .statements_per_job = static_cast<double>(after.statements - before.statements) / done};
}

struct Series {
  std::string name{};
  std::int64_t jobs = 0;
  int prefetch = 0;
  bool slow = false;
};

void measure_workers(Site& site, Options const& options, Road const& road, Figures& figures) {
  std::array const series{
      Series{.name = "noop", .jobs = without_prefetch},
      Series{.name = "noop_prefetch", .jobs = *options.jobs, .prefetch = rtt_prefetch},
      Series{.name = "10ms", .jobs = slow_jobs, .slow = true},
      Series{.name = "10ms_prefetch", .jobs = slow_jobs, .prefetch = rtt_prefetch, .slow = true},
  };
  for (auto const& one : series) {
    std::vector<double> local;
    std::vector<double> statements;
    std::array<Pairs, delays.size()> pairs;
    for (int i = 0; i < options.repetitions; ++i) {
      site.progress(fmt::format("rtt {}/{}: {} {}", i + 1, options.repetitions, road.name, one.name));
      auto const without = pace_of(site, road.near, one.jobs, one.prefetch, one.slow, {});
      local.push_back(without.per_s);
      statements.push_back(without.statements_per_job);
      for (std::size_t d = 0; d < delays.size(); ++d) {
        road.delay(delays[d]);
        auto const with = pace_of(site, road.far, one.jobs, one.prefetch, one.slow, 2 * delays[d]);
        site.progress(fmt::format("rtt: {} ms each way: {:.0f} a second, {:.0f} without", delays[d].count(), with.per_s,
                                  without.per_s));
        pairs[d].ours.push_back(with.per_s);
        pairs[d].raw.push_back(without.per_s);
      }
      road.delay(milliseconds(0));
    }
    auto const key = "rtt_" + road.name + "_" + one.name;
    figures.add(key + "_local_per_s", local);
    figures.add(key + "_local_statements_per_job", statements);
    for (std::size_t d = 0; d < delays.size(); ++d) {
      figures.add(fmt::format("{}_{}ms_per_s", key, delays[d].count()), pairs[d].ours);
      figures.add(fmt::format("{}_{}ms_ratio", key, delays[d].count()), pairs[d].ratio());
    }
  }
}

/// Round trips of a call, counted on the line, on a connection that is open.
template <class Call>
double round_trips(DelayProxy const& line, Call call) {
  call();  // the connection and what is prepared on it
  std::vector<double> counts;
  for (int i = 0; i < enqueues; ++i) {
    auto const before = line.turns();
    call();
    counts.push_back(static_cast<double>(line.turns() - before));
  }
  return median(std::move(counts));
}

void measure_producers(Site& site, Road const& road, Figures& figures) {
  site.clear();
  ClientOptions options;
  options.database = road.far;
  Client client(options);
  Payload const payload{json{R"({"n": 1})"}};
  std::vector<Payload> const thousand(1'000, payload);
  road.delay(milliseconds(1));
  auto const key = "rtt_" + road.name + "_enqueue_";
  figures.add(key + "one_round_trips", round_trips(*road.line, [&] { client.enqueue(bench_kind, payload); }));
  figures.add(key + "thousand_round_trips",
              round_trips(*road.line, [&] { client.enqueue_many(bench_kind, thousand); }));
  road.delay(milliseconds(0));
}

/// What pool_pre_ping adds to an enqueue whose connection has been idle for long enough to be asked.
void measure_pre_ping(Site& site, Road const& road, Figures& figures) {
  site.clear();
  Payload const payload{json{R"({"n": 1})"}};
  for (bool const ping : {true, false}) {
    PoolOptions pool;
    pool.database = road.far;
    pool.pool_pre_ping = ping;
    pool.ping_after = milliseconds(0);
    ClientOptions options;
    options.pool = std::make_shared<Pool>(pool);
    Client client(options);
    auto const key = "rtt_" + road.name + (ping ? "_pre_ping_" : "_no_pre_ping_");
    road.delay(milliseconds(1));
    figures.add(key + "round_trips", round_trips(*road.line, [&] { client.enqueue(bench_kind, payload); }));
    for (auto const delay : {delays[0], delays[2]}) {
      road.delay(delay);
      client.enqueue(bench_kind, payload);
      std::vector<double> times;
      for (int i = 0; i < enqueues; ++i) {
        double const start = now_seconds();
        client.enqueue(bench_kind, payload);
        times.push_back((now_seconds() - start) * 1e3);
      }
      figures.add(fmt::format("{}{}ms_enqueue_ms", key, delay.count()), times);
    }
    road.delay(milliseconds(0));
  }
}

}  // namespace

void rtt(Site& site, Options const& options, Figures& figures) {
  std::vector<Road> roads;
  roads.push_back(direct_road(site.database()));
  if (site.database().pgbouncer_transaction_mode) {
    site.progress("rtt: the database is behind a pooler already: that road alone");
  } else if (auto const program = dev::find_pgbouncer()) {
    roads.push_back(pooled_road(site.database(), *program));
  } else {
    site.progress("rtt: pgbouncer is not installed: the direct road alone");
  }
  for (auto const& road : roads) {
    measure_producers(site, road, figures);
    measure_pre_ping(site, road, figures);
    measure_workers(site, options, road, figures);
  }
}

}  // namespace posthouse::bench
