// SPDX-License-Identifier: Apache-2.0
#include "support/outage.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace posthouse::test {

using namespace std::chrono_literals;

bool long_run() { return std::getenv("POSTHOUSE_TEST_LONG") != nullptr; }

TestServer& OutageTest::shared_server() {
  static TestServer server(TestServer::durable);
  return server;
}

DatabaseOptions hurried(std::string const& url) {
  DatabaseOptions options;
  options.database_url = url;
  options.connect_timeout = 1s;
  options.statement_timeout = 2s;
  return options;
}

void OutageTest::set(std::string const& setting) {
  reset_ = true;
  auto session = sql();
  session.exec("alter system set " + setting);
  session.exec("select pg_reload_conf()");
}

void OutageTest::TearDown() {
  server.thaw();
  if (server.postmaster() == 0) server.start();
  if (!reset_) return;
  sql().exec("alter system reset all");
  server.stop();
  server.start();
}

Load::Load(Options options) : options_(std::move(options)) {
  ClientOptions client;
  client.database = options_.database;
  client.safe_resend = true;
  client.resend_timeout = 2s;
  client_ = std::make_unique<Client>(client);
  client.database.statement_timeout = 60s;
  client.database.connect_timeout = 20s;
  client.resend_timeout = 60s;
  filler_ = std::make_unique<Client>(client);
  for (int i = 0; i < options_.workers; ++i) {
    WorkerOptions worker;
    worker.database = options_.database;
    worker.name = "w" + std::to_string(i);
    worker.concurrency = 2;
    worker.heartbeat_interval = 500ms;
    worker.claim_lease = options_.claim_lease;
    worker.stop_grace = 20s;
    worker.logger = [this](LogRecord const& record) {
      std::string line(record.message);
      for (auto const& [key, value] : record.fields) line += " " + key + "=" + value;
      std::lock_guard const lock(mutex_);
      log_.push_back(std::move(line));
    };
    workers_.push_back(std::make_unique<Worker>(worker));
    workers_.back()->on("outage", [this](Job const& job) {
      {
        std::lock_guard const lock(mutex_);
        ++record_[std::stoll(std::string(job.payload().data()))].runs;
      }
      ++runs_;
      std::this_thread::sleep_for(options_.pause);
    });
  }
}

Load::~Load() {
  hush();
  for (auto& worker : workers_) worker->stop();
  if (!::testing::Test::HasFailure()) return;
  std::fprintf(stderr, "%s", log().c_str());
}

void Load::start() {
  pile_up(options_.backlog);
  for (auto& worker : workers_) worker->start();
  if (options_.between > 0ms) producer_ = std::thread([this] { produce(); });
}

void Load::pile_up(int jobs) {
  std::vector<Payload> payloads;
  std::lock_guard const lock(mutex_);
  for (int i = 0; i < jobs; ++i) {
    payloads.emplace_back(json{std::to_string(next_)});
    record_[next_++].confirmed = true;
  }
  if (jobs > 0) filler_->enqueue_many("outage", payloads);
}

void Load::produce() {
  while (!quiet_) {
    std::int64_t n = 0;
    {
      std::lock_guard const lock(mutex_);
      n = next_++;
      record_[n];
    }
    bool confirmed = false;
    bool doubtful = false;
    try {
      client_->enqueue("outage", json{std::to_string(n)});
      confirmed = true;
    } catch (Error const& error) {
      doubtful = error.in_doubt();
      if (error.error_class() == ErrorClass::storage) ++storage_full_;
      ++refused_;
    }
    {
      std::lock_guard const lock(mutex_);
      record_[n].confirmed = confirmed;
      record_[n].doubtful = doubtful;
    }
    std::this_thread::sleep_for(options_.between);
  }
}

void Load::hush() {
  quiet_ = true;
  if (producer_.joinable()) producer_.join();
}

::testing::AssertionResult Load::runs(int more) {
  auto const wanted = runs_ + more;
  return eventually([&] { return runs_ >= wanted; }, 60s);
}

::testing::AssertionResult Load::recovers(std::string const& what, Clock::time_point from) {
  std::vector<std::int64_t> before;
  for (auto const& worker : workers_) before.push_back(worker->stats().claimed);
  std::vector<milliseconds> times(workers_.size(), milliseconds{-1});
  auto const done = eventually(
      [&] {
        for (std::size_t i = 0; i < workers_.size(); ++i) {
          if (times[i] >= 0ms || workers_[i]->stats().claimed == before[i]) continue;
          times[i] = std::chrono::duration_cast<milliseconds>(Clock::now() - from);
        }
        return std::none_of(times.begin(), times.end(), [](auto time) { return time < 0ms; });
      },
      90s);
  if (!done) return done;
  auto const [first, last] = std::minmax_element(times.begin(), times.end());
  std::printf("[   OUTAGE ] %s: first claim after %lld ms, whole fleet after %lld ms\n", what.c_str(),
              static_cast<long long>(first->count()), static_cast<long long>(last->count()));
  return done;
}

Load::Verdict Load::finish(Sql& sql) {
  hush();
  EXPECT_TRUE(eventually(
      [&] { return sql.number("select count(*) from posthouse.jobs where state not in ('succeeded', 'failed')") == 0; },
      120s))
      << "jobs are left";
  Verdict verdict;
  for (auto& worker : workers_) {
    worker->stop();
    verdict.lease_lost += worker->stats().lease_lost;
  }
  EXPECT_EQ(sql.number("select count(*) from posthouse.held()"), 0);
  EXPECT_EQ(sql.number("select count(*) from posthouse.attempt_error"), 0);
  std::lock_guard const lock(mutex_);
  for (auto const& [n, entry] : record_) {
    verdict.confirmed += entry.confirmed ? 1 : 0;
    if (entry.confirmed && entry.runs == 0) verdict.lost.push_back(n);
    if (entry.runs > 1) verdict.doubled.push_back(n);
    if (!entry.confirmed && !entry.doubtful && entry.runs > 0) verdict.uninvited.push_back(n);
  }
  return verdict;
}

std::int64_t Load::highest() const {
  std::lock_guard const lock(mutex_);
  std::int64_t last = 0;
  for (auto const& [n, entry] : record_) {
    if (entry.confirmed) last = n;
  }
  return last;
}

bool Load::logged(std::string const& text) { return log().find(text) != std::string::npos; }

std::string Load::log() {
  std::lock_guard const lock(mutex_);
  std::string all;
  for (auto const& line : log_) all += "  log: " + line + "\n";
  return all;
}

void expect_kept(Load::Verdict const& verdict) {
  EXPECT_TRUE(verdict.lost.empty()) << "lost: " << ::testing::PrintToString(verdict.lost);
  EXPECT_TRUE(verdict.uninvited.empty()) << "uninvited: " << ::testing::PrintToString(verdict.uninvited);
  EXPECT_LE(static_cast<std::int64_t>(verdict.doubled.size()), verdict.lease_lost)
      << "ran twice, and no worker was told: " << ::testing::PrintToString(verdict.doubled);
  EXPECT_GT(verdict.confirmed, 0);
}

void expect_once(Load::Verdict const& verdict) {
  expect_kept(verdict);
  EXPECT_TRUE(verdict.doubled.empty()) << "ran twice: " << ::testing::PrintToString(verdict.doubled);
}

}  // namespace posthouse::test
