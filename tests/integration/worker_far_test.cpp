// SPDX-License-Identifier: Apache-2.0
// A database that is far away: claims and reports are on their way at once, and what becomes of them when the connection
// breaks, the server refuses one of them, or the worker stops.
#include <map>

#include "integration/worker_fixture.hpp"
#include "support/outage.hpp"
#include "support/seed.hpp"
#include "support/tcp_gate.hpp"

namespace posthouse::test {
namespace {

class WorkerFar : public WorkerTest {
 protected:
  WorkerFar() { gate.delay(3ms); }

  /// Room for several claims at a time.
  WorkerOptions far() {
    auto options = quick();
    options.database = DatabaseOptions{};
    options.database.database_url = gate.url();
    options.concurrency = 4;
    options.with_prefetch(10'000, 60s);
    return options;
  }
  void pile_up(int jobs) {
    made_ += static_cast<int>(client.enqueue_many("k", std::vector<Payload>(jobs, json{"1"})).size());
  }
  void count(Worker& worker) {
    worker.on("k", [this](Job const& job) {
      std::lock_guard const lock(mutex_);
      ++runs_[job.id()];
    });
  }
  int ran() {
    std::lock_guard const lock(mutex_);
    return static_cast<int>(runs_.size());
  }
  void expect_each_once() {
    EXPECT_TRUE(eventually([&] { return jobs_in("succeeded") == made_; }, 120s))
        << jobs_in("succeeded") << " of " << made_;
    {
      std::lock_guard const lock(mutex_);
      EXPECT_EQ(static_cast<int>(runs_.size()), made_);
      for (auto const& [id, runs] : runs_) EXPECT_EQ(runs, 1) << "job " << id;
    }
  }
  void expect_nothing_left() {
    EXPECT_EQ(sql.number("select count(*) from held()"), 0);
    EXPECT_EQ(sql.number("select count(*) from attempt_error"), 0);
  }

  TcpGate gate{url()};
  Client client{{.database = {.database_url = url()}}};
  int made_ = 0;

 private:
  std::mutex mutex_;
  std::map<std::int64_t, int> runs_;
};

TEST_F(WorkerFar, CutInTheMiddleOfThePipeline) {
  Seed seed;
  pile_up(4'000);
  Worker worker(far());
  count(worker);
  worker.start();
  ASSERT_TRUE(eventually([&] { return ran() > 0; }));
  int const cuts = long_run() ? 200 : 8;
  for (int i = 0; i < cuts; ++i) {
    pile_up(3'000);
    auto const way = seed.chance(0.5) ? TcpGate::Way::to_server : TcpGate::Way::to_client;
    auto const most = way == TcpGate::Way::to_server ? 3'000 : 200'000;
    gate.cut_after(static_cast<std::size_t>(seed.between(1, most)), way);
    ASSERT_TRUE(eventually([&] { return gate.sprung(); }, 60s));
  }
  expect_each_once();
  worker.stop();
  EXPECT_EQ(worker.stats().lease_lost, 0);
  expect_nothing_left();
}

// Each statement is a transaction of its own: the others go on.
TEST_F(WorkerFar, RefusalsInThePipeline) {
  pile_up(4'000);
  Worker worker(far());
  count(worker);
  worker.start();
  ASSERT_TRUE(eventually([&] { return ran() > 0; }));
  int const refusals = long_run() ? 300 : 20;
  for (int i = 0; i < refusals; ++i) {
    pile_up(1'000);
    EXPECT_TRUE(eventually([&] {
      return sql.number(
                 "select count(*) from (select pg_cancel_backend(pid) from pg_stat_activity where datname = "
                 "current_database() and state = 'active' and query ~ 'claim|finish' and pid <> pg_backend_pid()) c") >
                 0 ||
             ran() == made_;
    }));
  }
  expect_each_once();
  worker.stop();
  EXPECT_EQ(worker.stats().lease_lost, 0);
  expect_nothing_left();
}

TEST_F(WorkerFar, StopsWithClaimsOnTheirWay) {
  for (int i = 0; i < (long_run() ? 100 : 6); ++i) {
    pile_up(6'000);
    auto const before = ran();
    Worker worker(far());
    count(worker);
    worker.start();
    ASSERT_TRUE(eventually([&] { return ran() > before; }));
    worker.stop();
    expect_nothing_left();
  }
  Worker last(far());
  count(last);
  last.start();
  expect_each_once();
  last.stop();
  expect_nothing_left();
}

}  // namespace
}  // namespace posthouse::test
