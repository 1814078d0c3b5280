// SPDX-License-Identifier: Apache-2.0
#include "bench/site.hpp"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <thread>

#include <posthouse/schema.hpp>

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

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  auto const middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

Site::Site(DatabaseOptions database, bool quiet) : database_(std::move(database)), quiet_(quiet) {
  database_.schema = "posthouse_bench_" + std::to_string(::getpid());
  database_.statement_timeout = std::chrono::minutes(10);
  install(database_);
  sql_ = pg::Connection::open(database_);
  ClientOptions options;
  options.database = database_;
  client_ = std::make_unique<Client>(options);
}

Site::~Site() {
  client_.reset();
  sql_.reset();
  try {
    uninstall(database_);
  } catch (std::exception const& error) {
    fmt::print(stderr, "posthouse: schema {} could not be removed: {}\n", database_.schema, error.what());
  }
}

std::string Site::name(std::string const& object) const { return sql_->quoted_schema() + "." + object; }

void Site::fill(std::string const& kind, std::int64_t jobs, int priority) {
  std::vector<Payload> const chunk(static_cast<std::size_t>(std::min(jobs, fill_chunk)), Payload{json{R"({"n": 1})"}});
  EnqueueOptions options;
  options.priority = priority;
  for (std::int64_t done = 0; done < jobs;) {
    auto const size = std::min<std::int64_t>(fill_chunk, jobs - done);
    client_->enqueue_many(kind, std::span(chunk).first(static_cast<std::size_t>(size)), options);
    done += size;
  }
}

void Site::clear() {
  sql_->query("truncate " + name("job") + ", " + name("batch") + ", " + name("deferred") + ", " + name("dead"));
}

Counters Site::counters() {
  // The statistics of other backends arrive up to a second late.
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));
  Counters counters;
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
  while (worker.stats().succeeded < jobs) std::this_thread::sleep_for(std::chrono::milliseconds(1));
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
          .int8(0, 0);
  std::vector<std::int64_t> const lane = {
      sql.query("select " + site.name("lane_of") + "('default', $1, 0, false)", pg::Params{}.text(bench_kind))
          .int8(0, 0)};
  auto const statement = "select * from " + site.name("finish_and_claim") + "($1, $2, $3, $4, null, $5, $6, $7, $7)";
  std::vector<std::optional<std::string>> const whole(1);
  std::vector<int> const started = {0};
  std::int64_t token = 16;
  std::int64_t done = 0;
  double const start = now_seconds();
  auto rows =
      sql.prepared(statement, pg::Params{}.int8(worker).null().null().null().int8(token).int8_array(lane).int8(batch),
                   pg::Format::binary);
  while (rows.rows() > 0) {
    done += rows.rows();
    std::vector<std::int64_t> const tokens = {token};
    token += 16;
    rows = sql.prepared(statement,
                        pg::Params{}
                            .int8(worker)
                            .int8_array(tokens)
                            .text_array(std::span<std::optional<std::string> const>(whole))
                            .int4_array(started)
                            .int8(token)
                            .int8_array(lane)
                            .int8(done < jobs ? batch : 0),
                        pg::Format::binary);
  }
  double const seconds = now_seconds() - start;
  sql.query("select " + site.name("leave") + "($1)", pg::Params{}.int8(worker));
  return seconds;
}

}  // namespace posthouse::bench
