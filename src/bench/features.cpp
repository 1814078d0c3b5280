// SPDX-License-Identifier: Apache-2.0
// Scenario features: what each feature of a job costs, as a ratio to plain jobs in the same run, and under a snapshot
// that somebody holds.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <thread>

#include "bench/scenarios.hpp"

namespace posthouse::bench {

namespace {

using std::chrono::milliseconds;

constexpr int features_prefetch = 4 * claim_size;
constexpr std::int64_t request_chunk = 5000;
constexpr std::uint64_t keys_in_use = 1000;
constexpr char const* busy_kind = "bench_busy";
constexpr double rate_per_second = 100;
constexpr double rate_seconds = 10;
constexpr double enqueue_at_least_per_s = 10'000;  // of scheduled jobs: all of them are there before they are due

Payload const& payload() {
  static Payload const one{json{R"({"n": 1})"}};
  return one;
}

/// Whoever may not do this measures the making of new WAL files too.
void checkpoint(Site& site) {
  try {
    site.sql().query("checkpoint");
  } catch (Error const&) {
    site.interrupt().check();
  }
}

/// A session that has read the view of all jobs, and stays.
std::unique_ptr<pg::Connection> hold_snapshot(Site& site) {
  auto reader = pg::Connection::open(site.database());
  reader->query("begin isolation level repeatable read");
  reader->query("select state, count(*) from " + site.name("jobs") + " group by 1");
  reader->query("select pg_current_xact_id()");
  return reader;
}

/// Runs one worker until a counter of its has come to `goal`; seconds from its start, or from `since`.
double work(Site& site, HandlerOptions const& options, Worker::Handler handler, std::int64_t goal,
            std::int64_t WorkerStats::*counter = &WorkerStats::succeeded, std::optional<double> since = {}) {
  auto own = drain_options(site.database(), features_prefetch);
  own.logger = [](LogRecord const&) {};  // of jobs that fail it has a line each
  Worker worker(own);
  worker.on(bench_kind, options, std::move(handler));
  double const start = now_seconds();
  worker.start();
  if (since && *since > start) {
    site.interrupt().sleep(std::chrono::microseconds(static_cast<std::int64_t>((*since - start) * 1e6)));
  }
  site.await("jobs that a worker has run", goal, [&] { return worker.stats().*counter; });
  double const seconds = now_seconds() - std::max(start, since.value_or(start));
  worker.stop();
  return seconds;
}

Outcome nothing(Job const& /*job*/) { return Success{}; }

/// Enqueues requests, each with what `adorn` adds; seconds.
template <class Adorn>
double enqueue_requests(Site& site, std::int64_t jobs, Adorn adorn) {
  std::vector<Request> requests;
  double seconds = 0;
  for (std::int64_t done = 0; done < jobs; done += static_cast<std::int64_t>(requests.size())) {
    site.interrupt().check();
    requests.clear();
    for (std::int64_t i = done; i < std::min(jobs, done + request_chunk); ++i) {
      requests.push_back({bench_kind, payload(), {}});
      adorn(requests.back().options, i);
    }
    double const start = now_seconds();
    site.client().enqueue_many(requests);
    seconds += now_seconds() - start;
  }
  return seconds;
}

// Each takes a number of jobs from nothing to their end and returns how many a second, of the part that is measured.

double plain(Site& site, std::int64_t jobs) {
  site.fill(bench_kind, jobs);
  return static_cast<double>(jobs) / work(site, {}, nothing, jobs);
}

/// Enqueue and drain together: the base of those whose enqueue is what costs.
double plain_requests(Site& site, std::int64_t jobs) {
  double const seconds = enqueue_requests(site, jobs, [](EnqueueOptions&, std::int64_t) {});
  return static_cast<double>(jobs) / (seconds + work(site, {}, nothing, jobs));
}

double dedupe(Site& site, std::int64_t jobs) {
  double const seconds = enqueue_requests(
      site, jobs, [](EnqueueOptions& options, std::int64_t i) { options.dedupe_key = "key " + std::to_string(i); });
  return static_cast<double>(jobs) / (seconds + work(site, {}, nothing, jobs));
}

/// A limit below what the worker would hold, so that it is full all the time.
double kind_limit(Site& site, std::int64_t jobs) {
  site.fill(bench_kind, jobs);
  return static_cast<double>(jobs) / work(site, {.concurrency_limit = 2 * claim_size}, nothing, jobs);
}

/// Jobs of each key run one after another. The keys come mixed, as those of many producers do.
double keys(Site& site, std::int64_t jobs) {
  constexpr std::uint64_t odd = 0x9E3779B97F4A7C15U;
  enqueue_requests(site, jobs, [](EnqueueOptions& options, std::int64_t i) {
    options.key = "key " + std::to_string((static_cast<std::uint64_t>(i) * odd >> 32U) % keys_in_use);
  });
  return static_cast<double>(jobs) / work(site, {}, nothing, jobs);
}

double results(Site& site, std::int64_t jobs) {
  site.fill(bench_kind, jobs);
  return static_cast<double>(jobs) / work(
                                         site, {},
                                         [](Job const&) -> Outcome {
                                           return Success{payload(), {}};
                                         },
                                         jobs);
}

/// From the moment at which all are due.
double scheduled(Site& site, std::int64_t jobs) {
  auto const ahead = 1 + static_cast<double>(jobs) / enqueue_at_least_per_s;
  auto const due = std::chrono::system_clock::now() + milliseconds(static_cast<std::int64_t>(ahead * 1000));
  double const due_seconds = now_seconds() + ahead;
  EnqueueOptions options;
  options.run_at = due;
  std::vector<Payload> const chunk(static_cast<std::size_t>(request_chunk), payload());
  for (std::int64_t done = 0; done < jobs; done += request_chunk) {
    site.interrupt().check();
    auto const size = static_cast<std::size_t>(std::min(request_chunk, jobs - done));
    site.client().enqueue_many(bench_kind, std::span(chunk).first(size), options);
  }
  if (now_seconds() > due_seconds) site.progress("features: scheduled jobs were due before all of them were enqueued");
  return static_cast<double>(jobs) / work(site, {}, nothing, jobs, &WorkerStats::succeeded, due_seconds);
}

/// Attempts a second of jobs that fail twice and end among the dead.
double retry(Site& site, std::int64_t jobs) {
  std::int64_t const runs = jobs / 2 * 2;
  site.fill(bench_kind, runs / 2);
  HandlerOptions options{.max_attempts = 2};
  options.backoff = Backoff::fixed({milliseconds{0}});
  double const seconds = work(
      site, options,
      [](Job const&) -> Outcome {
        return Failure{"bench", "fails always", {}};
      },
      runs, &WorkerStats::failed);
  return static_cast<double>(runs) / seconds;
}

/// Plain jobs beside so many that wait for one key, whose holder runs all the while: as a ratio to plain jobs before.
/// The log is not emptied between, so that both find tables of a kind.
void parked(Site& site, Options const& options, Figures& figures) {
  std::int64_t const waiting = *options.jobs * 10 / 3;  // a million, unless told otherwise
  auto const jobs = *options.jobs / 5;
  int const times = 2 * options.repetitions + 1;
  auto const drain = [&] {
    std::vector<double> rates;
    for (int i = 0; i < 2 * times; ++i) rates.push_back(plain(site, jobs));
    return median({rates.begin() + times, rates.end()});  // the first half warms up
  };
  site.progress(fmt::format("features: {} jobs behind one busy key", waiting));
  std::atomic<bool> release{false};
  EnqueueOptions keyed;
  keyed.key = "busy";
  std::vector<Payload> const chunk(static_cast<std::size_t>(request_chunk), payload());
  site.client().enqueue(busy_kind, payload(), keyed);
  auto own = drain_options(site.database(), features_prefetch);
  own.logger = [](LogRecord const&) {};
  Worker holder(own);
  holder.on(busy_kind, {}, [&](Job const& job) -> Outcome {
    while (!release && !job.stop_token().stop_requested()) std::this_thread::sleep_for(milliseconds(10));
    return Success{};
  });
  struct Release {  // whatever happens, before the worker waits for its handler
    std::atomic<bool>& release;
    ~Release() { release = true; }
  } const at_the_end{release};
  holder.start();
  auto const count = [&] { return site.sql().query("select count(*) from " + site.name("parked")).int8(0, 0); };
  double const before = drain();
  for (std::int64_t done = 0; done < waiting; done += request_chunk) {
    site.interrupt().check();
    auto const size = static_cast<std::size_t>(std::min(request_chunk, waiting - done));
    site.client().enqueue_many(busy_kind, std::span(chunk).first(size), keyed);
  }
  site.await("jobs that wait for a busy key", waiting, count, milliseconds(100));
  // Parking leaves as many dead rows, which autovacuum would clear just now.
  site.sql().query("vacuum " + site.name("job") + ", " + site.name("parked"));
  checkpoint(site);
  double const after = drain();
  figures.add("parked_jobs", static_cast<double>(waiting));
  figures.add("parked_ratio", after / before);
  auto reader = hold_snapshot(site);
  figures.add("parked_held_ratio", drain() / after);
  reader->rollback();
  release = true;
  holder.stop();
}

struct Feature {
  char const* name;
  double (*run)(Site&, std::int64_t);
  double (*base)(Site&, std::int64_t);  ///< plain jobs in the same way
};

// One line a feature; figures are NAME_per_s, NAME_ratio (to its base) and NAME_held_ratio (under a held snapshot).
constexpr Feature features_table[] = {
    {"dedupe", dedupe, plain_requests}, {"kind_limit", kind_limit, plain}, {"keys", keys, plain},
    {"results", results, plain},        {"scheduled", scheduled, plain},   {"retry", retry, plain},
};

void tidy(Site& site) {
  site.clear();
  site.sql().query("truncate " + site.name("unique_key") + ", " + site.name("result") + ", " +
                   site.name("attempt_error") + ", " + site.name("limit_rule") + ", " + site.name("limit_bucket") +
                   ", " + site.name("key_turn") + ", " + site.name("key_check") + ", " + site.name("parked"));
  checkpoint(site);
}

/// How far the starts of ten seconds are from what the rate allows: the burst, and a token every so often.
double rate_error(Site& site) {
  // The burst is one second's worth, the default.
  auto const jobs = static_cast<std::int64_t>(rate_per_second * (1 + rate_seconds + 1));
  site.fill(bench_kind, jobs);
  auto options = drain_options(site.database(), 0);
  options.concurrency = 4;
  Worker worker(options);
  worker.on(bench_kind, {.requests_per_second = rate_per_second}, nothing);
  worker.start();
  site.await(
      "jobs at a rate", jobs, [&] { return worker.stats().succeeded; }, milliseconds(10));
  worker.stop();
  // By the server's clock: every claim and every token are on it.
  auto const row = site.sql().query(
      "select coalesce(sum(n) filter (where claimed_at <= first + $1 * interval '1 second'), 0)::bigint from "
      "(select b.n, b.claimed_at, min(b.claimed_at) over () as first from " +
          site.name("batch") + " b) q",
      pg::Params{}.int8(static_cast<std::int64_t>(rate_seconds)));
  return static_cast<double>(row.int8(0, 0)) - rate_per_second * (1 + rate_seconds);
}

}  // namespace

void features(Site& site, Options const& options, Figures& figures) {
  auto const jobs = *options.jobs / 5;
  struct Measured {
    Pairs free{};  ///< beside its base
    Pairs held{};  ///< beside itself without the snapshot
  };
  std::vector<Measured> all(std::size(features_table));
  std::vector<double> plains;
  for (int i = 0; i < options.repetitions; ++i) {
    for (std::size_t f = 0; f < all.size(); ++f) {
      auto const& feature = features_table[f];
      site.progress(fmt::format("features {}/{}: {}, {} jobs", i + 1, options.repetitions, feature.name, jobs));
      auto const run = [&] {
        tidy(site);
        return feature.run(site, jobs);
      };
      auto const base = [&] {
        tidy(site);
        double const rate = feature.base(site, jobs);
        if (feature.base == plain) plains.push_back(rate);
        return rate;
      };
      auto const held = [&] {
        tidy(site);
        auto reader = hold_snapshot(site);
        double const rate = feature.run(site, jobs);
        reader->rollback();
        return rate;
      };
      // The free run is between the two that it is compared with.
      auto& measured = all[f];
      if (i % 2 == 0) measured.free.raw.push_back(base());
      if (i % 2 != 0) measured.held.ours.push_back(held());
      measured.free.ours.push_back(run());
      measured.held.raw.push_back(measured.free.ours.back());
      if (i % 2 == 0) measured.held.ours.push_back(held());
      if (i % 2 != 0) measured.free.raw.push_back(base());
    }
  }
  figures.add("features_plain_per_s", plains);
  for (std::size_t f = 0; f < all.size(); ++f) {
    std::string const name = features_table[f].name;
    figures.add(name + "_per_s", all[f].free.ours);
    figures.add(name + "_ratio", all[f].free.ratio());
    figures.add(name + "_held_ratio", all[f].held.ratio());
  }
  tidy(site);
  parked(site, options, figures);
  tidy(site);
  site.progress(fmt::format("features: {} starts a second for {} s", rate_per_second, rate_seconds));
  figures.add("rate_error_tokens", rate_error(site));
}

}  // namespace posthouse::bench
