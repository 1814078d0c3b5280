// SPDX-License-Identifier: Apache-2.0
#include "bench/site.hpp"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include <posthouse/error.hpp>

namespace posthouse::bench {

namespace {

constexpr std::int64_t fill_chunk = 100'000;

/// Processor time of a server process, from /proc; nullopt when there is none by that id. From schedstat, since an idle
/// backend uses less than a clock tick, in which stat counts.
std::optional<double> process_us(std::int64_t pid) {
  auto const folder = "/proc/" + std::to_string(pid);
  std::string name;
  if (!std::getline(std::ifstream(folder + "/comm"), name) || name.find("postgres") == std::string::npos) return {};
  double nanoseconds = 0;
  if (!(std::ifstream(folder + "/schedstat") >> nanoseconds)) return std::nullopt;
  return nanoseconds / 1e3;
}

}  // namespace

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Site::Site(DatabaseOptions database, bool quiet, Interrupt& interrupt)
    : interrupt_(interrupt),
      quiet_(quiet),
      home_(std::move(database), [this](std::string const& what) { progress(what); }) {
  connect();
}

Site::~Site() { interrupt_.cancels({}); }

void Site::connect() {
  sql_ = pg::Connection::open(database());
  interrupt_.cancels(sql_->canceller());
  ClientOptions options;
  options.database = database();
  client_ = std::make_unique<Client>(options);
}

void Site::renew() {
  interrupt_.cancels({});
  client_.reset();
  sql_.reset();
  home_.renew();
  connect();
}

void Site::stalled(std::string const& what, std::int64_t reached, std::int64_t goal) {
  throw Timeout(
      fmt::format("{}: {} of {}, and none more for {} s", what, reached, goal, stalled_after_s),
      {.sqlstate = {}, .in_doubt = false, .hint = "look at the server: its log, its disk, what it waits for"});
}

std::string Site::name(std::string const& object) const { return sql_->quoted_schema() + "." + object; }

void Site::fill(std::string const& kind, std::int64_t jobs, int priority) {
  std::vector<Payload> const chunk(static_cast<std::size_t>(std::min(jobs, fill_chunk)), Payload{json{R"({"n": 1})"}});
  EnqueueOptions options;
  options.priority = priority;
  for (std::int64_t done = 0; done < jobs;) {
    auto const size = std::min<std::int64_t>(fill_chunk, jobs - done);
    interrupt_.check();
    client_->enqueue_many(kind, std::span(chunk).first(static_cast<std::size_t>(size)), options);
    done += size;
  }
}

void Site::clear() {
  sql_->query("truncate " + name("job") + ", " + name("batch") + ", " + name("deferred") + ", " + name("dead"));
}

Counters Site::counters() {
  // The statistics of other backends arrive up to a second late.
  interrupt_.sleep(std::chrono::milliseconds(1100));
  Counters counters;
  counters.at = now_seconds();
  auto const row = sql_->query(
      "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint,"
      " (select xact_commit from pg_stat_database where datname = current_database()),"
      " pg_snapshot_xmax(pg_current_snapshot())::text::bigint");
  counters.wal_bytes = row.int8(0, 0);
  counters.commits = row.int8(0, 1);
  counters.xids = row.int8(0, 2);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  auto const us = [](timeval const& t) { return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_usec); };
  counters.client_cpu_us = us(usage.ru_utime) + us(usage.ru_stime);
  counters.client_peak_mib = static_cast<double>(usage.ru_maxrss) / 1024;
  auto const pids = sql_->query("select pid from pg_stat_activity where pid is not null");
  for (int i = 0; i < pids.rows(); ++i) {
    auto const pid = pids.int8(i, 0);
    if (auto const used = process_us(pid)) counters.server_cpu_us[pid] = *used;
  }
  if (!counters.server_cpu_us.contains(sql_->backend_pid())) counters.server_cpu_us.clear();
  return counters;
}

std::optional<double> server_cpu_us(Counters const& before, Counters const& after) {
  if (before.server_cpu_us.empty() || after.server_cpu_us.empty()) return std::nullopt;
  double sum = 0;
  for (auto const& [pid, used] : after.server_cpu_us) {
    auto const then = before.server_cpu_us.find(pid);
    // A process that is new since then has used all of its time in between.
    sum += used - (then == before.server_cpu_us.end() ? 0 : then->second);
  }
  return sum;
}

void Site::progress(std::string const& what) const {
  if (!quiet_) fmt::print(stderr, "bench: {}\n", what);
}

WorkerOptions drain_options(DatabaseOptions const& database, int prefetch) {
  WorkerOptions options;
  options.database = database;
  options.name = "bench";
  options.concurrency = 1;
  if (prefetch > 0) options.with_prefetch(prefetch, std::chrono::seconds(30));
  return options;
}

Drain drain_with_worker(Site& site, std::int64_t jobs, int concurrency, int prefetch,
                        std::function<void()> const& before_stop) {
  auto options = drain_options(site.database(), prefetch);
  options.concurrency = concurrency;
  Worker worker(options);
  worker.on(bench_kind, [](Job const&) {});
  Drain drain;
  double const start = now_seconds();
  worker.start();
  site.await("jobs that a worker has run", jobs, [&] { return worker.stats().succeeded; });
  drain.seconds = now_seconds() - start;
  drain.stats = worker.stats();
  if (before_stop) before_stop();
  worker.stop();
  return drain;
}

double drain_raw(Site& site, std::int64_t jobs, int batch) {
  auto& sql = site.sql();
  auto const worker =
      sql.query("select " + site.name("register_worker") + "('raw', 'raw', 0, 'raw', '{}', array[$1], 600000, 1)",
                pg::Params{}.text(bench_kind))
          .text(0, 0);
  auto const lane =
      "{" +
      sql.query("select " + site.name("lane_of") + "('default', $1, 0, false)", pg::Params{}.text(bench_kind))
          .text(0, 0) +
      "}";
  pg::Bare bare(site.database());
  bare.prepare("next", "select * from " + site.name("finish_and_claim") + "($1, $2, $3, $4, null, $5, $6, $7, $7)");
  std::int64_t token = 16;
  std::int64_t done = 0;
  auto const next = [&](char const* finished, int size) {
    auto const token_text = std::to_string(token);
    auto const size_text = std::to_string(size);
    bool const first = finished == nullptr;
    char const* const values[] = {worker.c_str(),     finished,     first ? nullptr : "{NULL}", first ? nullptr : "{0}",
                                  token_text.c_str(), lane.c_str(), size_text.c_str()};
    return bare.execute_prepared("next", values, pg::Format::binary);
  };
  double const start = now_seconds();
  auto rows = next(nullptr, batch);
  while (rows.rows() > 0) {
    site.interrupt().check();
    done += rows.rows();
    auto const finished = "{" + std::to_string(token) + "}";
    token += 16;
    rows = next(finished.c_str(), done < jobs ? batch : 0);
  }
  double const seconds = now_seconds() - start;
  sql.query("select " + site.name("leave") + "($1)", pg::Params{}.text(worker));
  if (done < jobs) throw ServerError(fmt::format("the raw loop found {} of {} jobs", done, jobs));
  return seconds;
}

}  // namespace posthouse::bench
