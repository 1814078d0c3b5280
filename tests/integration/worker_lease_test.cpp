// SPDX-License-Identifier: Apache-2.0
// Crashes, lapsed leases and lost connections: no job is lost, none is reported by two, and handlers are told.
#include <sys/wait.h>

#include <csignal>
#include <semaphore>
#include <set>
#include <thread>

#include "integration/worker_fixture.hpp"
#include "support/tcp_gate.hpp"

namespace posthouse::test {
namespace {

class WorkerLease : public WorkerTest {
 protected:
  // A worker in a process of its own that takes every job and never ends one.
  pid_t hanging_process(WorkerOptions options) {
    auto const child = ::fork();
    if (child != 0) return child;
    options.logger = [](LogRecord const&) {};
    Worker worker(options);
    worker.on("k", [](Job const&) { std::this_thread::sleep_for(1h); });
    worker.start();
    std::this_thread::sleep_for(1h);
    ::_exit(0);
  }
  WorkerOptions short_lease() {
    auto options = quick();
    options.claim_lease = 1s;
    options.claim_lease_given = true;
    return options;
  }
  static void end(pid_t child, int signal) {
    ::kill(child, signal);
    if (signal == SIGKILL) ::waitpid(child, nullptr, 0);
  }
  std::int64_t running() { return jobs_in("running"); }
};

TEST_F(WorkerLease, JobsOfAKilledProcessRunElsewhere) {
  auto const ids = enqueue_some(30);
  auto options = short_lease();
  options.with_prefetch(100, 1s);
  auto const child = hanging_process(options);
  ASSERT_TRUE(eventually([&] { return running() == 30; }));
  end(child, SIGKILL);

  Worker worker(short_lease());
  std::mutex mutex;
  std::map<std::int64_t, std::int64_t> attempts;
  worker.on("k", [&](Job const& job) {
    std::lock_guard const lock(mutex);
    attempts[job.id()] = job.attempt();
  });
  auto const before = std::chrono::steady_clock::now();
  worker.start();
  ASSERT_TRUE(eventually([&] { return jobs_in("succeeded") == 30; }, 60s));
  EXPECT_LT(std::chrono::steady_clock::now() - before, 30s);
  worker.stop();
  // The two that were running lost an attempt, the buffered ones did not.
  int second = 0;
  for (auto const& [id, attempt] : attempts) second += attempt == 2 ? 1 : 0;
  EXPECT_EQ(attempts.size(), 30u);
  EXPECT_EQ(second, 2);
  EXPECT_EQ(sql.number("select count(*) from attempt_error where type = 'worker lost'"), 2);
}

TEST_F(WorkerLease, PausedProcessIsToldAndItsResultsAreRefused) {
  auto const id = enqueue();
  Worker worker(short_lease());
  std::atomic<int> stopped{0};
  std::atomic<int> runs{0};
  worker.on("k", [&](Job const& job) {
    if (++runs > 1) return;
    auto const until = std::chrono::steady_clock::now() + 20s;
    while (!job.stop_token().stop_requested() && std::chrono::steady_clock::now() < until) {
      std::this_thread::sleep_for(1ms);
    }
    if (job.stop_token().stop_requested()) ++stopped;
  });
  worker.start();
  auto const first = worker.incarnation();
  ASSERT_TRUE(eventually([&] { return runs == 1; }));
  // What another worker's reaper does to one that has been silent.
  sql.rows("update worker set ended_at = now(), end_reason = 'lease lapsed' where id = $1", first);
  sql.rows("select reap()");
  ASSERT_TRUE(eventually([&] { return state(id) == "succeeded"; }));
  worker.stop();
  EXPECT_EQ(stopped, 1);
  EXPECT_EQ(runs, 2);
  EXPECT_NE(worker.incarnation(), first);
  EXPECT_EQ(worker.stats().lease_lost, 1);
  EXPECT_EQ(attempt(id), 2);
}

TEST_F(WorkerLease, SecondWorkerTakesOverWhatTheFirstGivesBack) {
  enqueue_some(40);
  std::counting_semaphore<> go{0};
  std::atomic<int> done{0};
  auto options = quick();
  options.with_prefetch(100, 30s);
  Worker first(options);
  std::atomic<int> begun{0};
  first.on("k", [&](Job const&) {
    ++begun;
    go.acquire();
  });
  first.start();
  ASSERT_TRUE(eventually([&] { return begun == 2; }));
  Worker second(quick());
  second.on("k", [&](Job const&) { ++done; });
  second.start();
  std::thread stopper([&] { first.stop(); });
  EXPECT_TRUE(eventually([&] { return done == 38; }));
  go.release(2);
  stopper.join();
  second.stop();
  EXPECT_EQ(jobs_in("succeeded"), 40);
}

TEST_F(WorkerLease, KilledConnectionsAreReplaced) {
  auto options = quick();
  options.with_prefetch(50, 30s);
  options.concurrency = 4;
  Worker worker(options);
  std::mutex mutex;
  std::multiset<std::int64_t> seen;
  worker.on("k", [&](Job const& job) {
    std::this_thread::sleep_for(1ms);
    std::lock_guard const lock(mutex);
    seen.insert(job.id());
  });
  worker.start();
  std::vector<std::int64_t> all;
  for (int i = 0; i < 20; ++i) {
    for (auto id : enqueue_some(50)) all.push_back(id);
    sql.rows(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> "
        "pg_backend_pid() and random() < 0.7");
  }
  EXPECT_TRUE(eventually([&] { return jobs_in("succeeded") == 1000; }, 60s));
  worker.stop();
  // Every one ran, and none twice: the connections broke, the leases did not.
  EXPECT_EQ(seen, std::multiset<std::int64_t>(all.begin(), all.end()));
  EXPECT_EQ(sql.number("select count(*) from attempt_error"), 0);
  EXPECT_EQ(sql.number("select count(*) from batch where closed_at is null"), 0);
}

TEST_F(WorkerLease, ClaimWhoseReplyIsLostIsGivenBack) {
  TcpGate gate(url());
  auto options = quick();
  options.database_url = gate.url();
  options.duties = false;
  Worker worker(options);
  std::multiset<std::int64_t> seen;
  std::mutex mutex;
  worker.on("k", [&](Job const& job) {
    std::lock_guard const lock(mutex);
    seen.insert(job.id());
    EXPECT_EQ(job.attempt(), 1);
  });
  worker.start();
  // Prepared statements are called by name after their first use, so the names in the packet are what can be seen.
  ASSERT_TRUE(eventually([&] { return worker.stats().empty_claims > 0; }));
  gate.cut();
  gate.lose_reply("claim(");
  auto const ids = enqueue_some(5);
  EXPECT_TRUE(eventually([&] { return jobs_in("succeeded") == 5; }, 60s));
  EXPECT_TRUE(gate.sprung());
  worker.stop();
  EXPECT_EQ(seen, std::multiset<std::int64_t>(ids.begin(), ids.end()));
  EXPECT_EQ(sql.number("select count(*) from attempt_error"), 0);
}

TEST_F(WorkerLease, FinishWhoseReplyIsLostIsNotRepeated) {
  for (bool const lose_request : {true, false}) {
    SCOPED_TRACE(lose_request);
    TcpGate gate(url());
    auto options = quick();
    options.database_url = gate.url();
    options.concurrency = 1;
    options.duties = false;
    Worker worker(options);
    std::atomic<int> runs{0};
    std::binary_semaphore armed{0};
    worker.on("k", policy(5, {1h}), [&](Job const& job) {
      ++runs;
      armed.acquire();
      if (job.payload().data() == "1") throw std::runtime_error("x");
    });
    worker.start();
    auto const id = sql.number("select enqueue('k', '1')");
    ASSERT_TRUE(eventually([&] { return runs == 1; }));
    if (lose_request) {
      gate.lose_request("finish");
    } else {
      gate.lose_reply("finish");
    }
    armed.release();
    EXPECT_TRUE(eventually([&] { return state(id) == "retryable"; }, 60s));
    worker.stop();
    EXPECT_TRUE(gate.sprung());
    EXPECT_EQ(runs, 1);
    EXPECT_EQ(errors_of(id), 1);
    EXPECT_EQ(attempt(id), 1);
  }
}

TEST_F(WorkerLease, HangingConnectionIsGivenUp) {
  TcpGate gate(url());
  auto options = quick();
  options.database_url = gate.url();
  options.database.statement_timeout = 500ms;
  options.claim_lease = 10s;
  options.claim_lease_given = true;
  Worker worker(options);
  std::atomic<int> runs{0};
  worker.on("k", [&](Job const&) { ++runs; });
  worker.start();
  enqueue();
  ASSERT_TRUE(eventually([&] { return runs == 1; }));
  gate.hang();
  enqueue();
  std::this_thread::sleep_for(1s);
  gate.cut();
  gate.pass();
  EXPECT_TRUE(eventually([&] { return runs >= 2; }, 30s));
  worker.stop();
  EXPECT_EQ(jobs_in("succeeded"), 2);
}

}  // namespace
}  // namespace posthouse::test
