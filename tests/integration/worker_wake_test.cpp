// SPDX-License-Identifier: Apache-2.0
// How soon a job is found, and what an idle worker costs.
#include <algorithm>
#include <iostream>
#include <semaphore>
#include <thread>

#include "integration/worker_fixture.hpp"

namespace posthouse::test {
namespace {

class WorkerWake : public WorkerTest {
 protected:
  using Clock = std::chrono::steady_clock;

  // A worker that is idle and, if there is no other, the keeper of its bells.
  void start_idle(Worker& worker) {
    worker.on("k", [this](Job const&) {
      ran_at = Clock::now();
      ++ran;
    });
    worker.start();
  }
  std::int64_t bells() {
    return sql.number(
        "select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where "
        "datname = current_database()) and mode = 'ExclusiveLock' and objid::bigint & 3 = 2");
  }
  // How many calls for a keeper this session has heard since it was asked last.
  static int called(Sql& listener) {
    listener.one("select 1");
    int calls = 0;
    while (PGnotify* const heard = PQnotifies(listener.connection())) {
      if (std::string(heard->extra) == "keep") ++calls;
      PQfreemem(heard);
    }
    return calls;
  }
  // Times are told, not asserted: this machine may be busy. The bench is where they are held.
  static void tell(char const* what, Clock::duration took) {
    auto const ms = std::chrono::duration<double, std::milli>(took).count();
    std::cout << "[     INFO ] " << what << ": " << ms << " ms\n";
  }
  // Enqueues one job at a time and returns how long each took to start, sorted.
  std::vector<Clock::duration> latencies(int n, std::chrono::milliseconds pause) {
    std::vector<Clock::duration> all;
    for (int i = 0; i < n; ++i) {
      std::this_thread::sleep_for(pause);
      int const before = ran;
      enqueue();
      auto const sent = Clock::now();
      EXPECT_TRUE(eventually([&] { return ran > before; }));
      all.push_back(std::max(Clock::duration{0}, ran_at.load() - sent));
    }
    std::sort(all.begin(), all.end());
    return all;
  }

  std::atomic<int> ran{0};
  std::atomic<Clock::time_point> ran_at{};
};

TEST_F(WorkerWake, ColdLaneRings) {
  Worker worker(quick());
  start_idle(worker);
  enqueue();
  ASSERT_TRUE(eventually([&] { return ran == 1 && bells() >= 1; }));
  auto const took = latencies(20, 150ms);
  tell("commit to start, median", took[10]);
}

TEST_F(WorkerWake, NewLaneIsFoundAtOnce) {
  Worker worker(quick());
  worker.on("fresh", [this](Job const&) { ++ran; });
  start_idle(worker);
  ASSERT_TRUE(eventually([&] { return worker.stats().empty_claims > 0; }));
  std::this_thread::sleep_for(300ms);
  auto const before = Clock::now();
  enqueue("fresh");
  ASSERT_TRUE(eventually([&] { return ran == 1; }));
  tell("new lane, commit to start", Clock::now() - before);
}

TEST_F(WorkerWake, JobOfATransactionOlderThanTheBellIsFound) {
  Worker worker(quick());
  auto open_session = open();
  enqueue();
  // Inserts, and therefore looks for a bell, before there is one.
  open_session.exec("begin; select enqueue('k')");
  start_idle(worker);
  ASSERT_TRUE(eventually([&] { return ran == 1 && bells() >= 1; }));
  std::this_thread::sleep_for(400ms);
  open_session.exec("commit");
  auto const before = Clock::now();
  ASSERT_TRUE(eventually([&] { return ran == 2; }));
  tell("late transaction, commit to start", Clock::now() - before);
}

TEST_F(WorkerWake, ManyJobsInAColdLaneRingOnce) {
  Worker worker(quick());
  start_idle(worker);
  enqueue();
  ASSERT_TRUE(eventually([&] { return ran == 1 && bells() >= 1; }));
  auto listener = open();
  listener.exec("listen \"" + sql.one("select channel()") + "\"");
  for (int i = 0; i < 40; ++i) enqueue_some(50);
  ASSERT_TRUE(eventually([&] { return ran == 2001; }));
  listener.exec("select 1");
  int notifications = 0;
  while (auto* notification = PQnotifies(listener.connection())) {
    ++notifications;
    PQfreemem(notification);
  }
  EXPECT_LT(notifications, 30);
}

TEST_F(WorkerWake, FullKeeperLetsAnotherWork) {
  auto options = quick();
  options.concurrency = 1;
  std::counting_semaphore<> go{0};
  std::atomic<int> held{0};
  Worker keeper(options);
  keeper.on("k", [&](Job const&) {
    ++held;
    go.acquire();
  });
  keeper.start();
  enqueue();
  ASSERT_TRUE(eventually([&] { return held == 1; }));
  ASSERT_TRUE(eventually([&] { return bells() >= 1; }));
  auto other_options = quick();
  Worker other(other_options);
  start_idle(other);
  ASSERT_TRUE(eventually([&] { return other.stats().empty_claims > 0; }));
  // The keeper hears of these and has no slot.
  std::vector<Clock::duration> took;
  for (int i = 1; i <= 10; ++i) {
    std::this_thread::sleep_for(150ms);
    auto const before = Clock::now();
    enqueue();
    ASSERT_TRUE(eventually([&] { return ran == i; }));
    took.push_back(Clock::now() - before);
  }
  std::sort(took.begin(), took.end());
  tell("beside a full keeper, median", took[5]);
  go.release(10);
  keeper.stop();
  other.stop();
}

TEST_F(WorkerWake, AnotherKeeperTakesOver) {
  auto first = std::make_unique<Worker>(quick());
  start_idle(*first);
  enqueue();
  ASSERT_TRUE(eventually([&] { return ran == 1 && bells() >= 1; }));
  Worker second(quick());
  start_idle(second);
  auto listener = open();
  listener.exec("listen " + listener.one("select channel()"));
  first.reset();
  // The first one let go of its locks and called, so that nobody has to wait for a try in turn.
  EXPECT_TRUE(eventually([&] { return called(listener) > 0; }));
  ASSERT_TRUE(eventually([&] { return bells() >= 1; }));
  tell("after the change of keepers, median", latencies(5, 150ms)[2]);
}

TEST_F(WorkerWake, ListenConnectionThatBreaksIsReplaced) {
  Worker worker(quick());
  start_idle(worker);
  enqueue();
  ASSERT_TRUE(eventually([&] { return ran == 1 && bells() >= 1; }));
  for (int i = 0; i < 3; ++i) {
    sql.rows(
        "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and database = (select oid from "
        "pg_database where datname = current_database()) and mode = 'ExclusiveLock' and objid::bigint & 3 = 2");
    int const before = ran;
    enqueue();
    ASSERT_TRUE(eventually([&] { return ran > before && bells() >= 1; }));
  }
  tell("on a new LISTEN connection, median", latencies(5, 150ms)[2]);
}

TEST_F(WorkerWake, WithoutListenItPolls) {
  auto options = quick();
  options.database.pgbouncer_transaction_mode = true;
  Worker worker(options);
  start_idle(worker);
  enqueue();
  ASSERT_TRUE(eventually([&] { return ran == 1; }));
  tell("by polling, median", latencies(10, 150ms)[5]);
  EXPECT_EQ(bells(), 0);
}

TEST_F(WorkerWake, IdleWorkersAreCheap) {
  constexpr int count = 10;
  std::vector<std::unique_ptr<Worker>> workers;
  for (int i = 0; i < count; ++i) {
    auto options = quick();
    options.heartbeat_interval = 5s;
    workers.push_back(std::make_unique<Worker>(options));
    start_idle(*workers.back());
  }
  enqueue();
  ASSERT_TRUE(eventually([&] { return ran == 1; }));
  std::this_thread::sleep_for(3s);
  auto const sum = [&] {
    std::int64_t all = 0;
    for (auto const& worker : workers) all += worker->stats().statements;
    return all;
  };
  auto const before = sum();
  constexpr int seconds = 10;
  std::this_thread::sleep_for(std::chrono::seconds(seconds));
  auto const rate = static_cast<double>(sum() - before) / seconds / count;
  EXPECT_LE(rate, 1.0);
  RecordProperty("statements_a_second", std::to_string(rate));
}

TEST_F(WorkerWake, ThreeConnectionsAtRest) {
  auto options = quick();
  options.concurrency = 50;
  Worker worker(options);
  start_idle(worker);
  enqueue_some(200);
  ASSERT_TRUE(eventually([&] { return ran == 200; }));
  EXPECT_TRUE(eventually([&] {
    return sql.number(
               "select count(*) from pg_stat_activity where datname = current_database() and pid <> "
               "pg_backend_pid() and backend_type = 'client backend'") <= 3;
  }));
}

}  // namespace
}  // namespace posthouse::test
