// SPDX-License-Identifier: Apache-2.0
// Starting and stopping: in any order, from any thread, by signals; what becomes of the jobs that a worker holds.
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <semaphore>
#include <thread>

#include "integration/worker_fixture.hpp"
#include "support/tcp_gate.hpp"

namespace posthouse::test {
namespace {

class WorkerStop : public WorkerTest {
 protected:
  // A handler that runs until it is let go or asked to stop; then it throws.
  void blocking(Worker& worker, HandlerOptions options = {}) {
    worker.on("k", std::move(options), [this](Job const& job) {
      ++started;
      while (!go.try_acquire_for(5ms)) {
        if (job.stop_token().stop_requested()) throw std::runtime_error("asked to stop");
      }
      ++finished;
    });
  }
  bool wait_started(int n) {
    return eventually([&] { return started >= n; });
  }

  std::atomic<int> started{0};
  std::atomic<int> finished{0};
  std::counting_semaphore<> go{0};
};

TEST_F(WorkerStop, UnstartedJobsAreGivenBackUncounted) {
  auto const ids = enqueue_some(50);
  auto options = quick();
  options.with_prefetch(100, 30s);
  Worker worker(options);
  blocking(worker);
  worker.start();
  ASSERT_TRUE(wait_started(2));
  std::thread stopper([&] { worker.stop(); });
  // While the two still run, the others are free for other workers.
  EXPECT_TRUE(eventually([&] { return jobs_in("available") == 48; }));
  EXPECT_EQ(finished, 0);
  go.release(2);
  stopper.join();
  EXPECT_EQ(finished, 2);
  EXPECT_EQ(jobs_in("succeeded"), 2);
  EXPECT_EQ(jobs_in("available"), 48);
  EXPECT_EQ(sql.number("select coalesce(max(attempt), 0) from jobs where state = 'available'"), 0);
  EXPECT_EQ(worker.stats().released, 48);
  EXPECT_EQ(worker.stats().succeeded, 2);
  EXPECT_EQ(started, 2);
}

TEST_F(WorkerStop, HandlersThatIgnoreTheGraceLoseNoAttempt) {
  auto const id = enqueue();
  auto options = quick();
  options.stop_grace = 50ms;
  Worker worker(options);
  blocking(worker);
  worker.start();
  ASSERT_TRUE(wait_started(1));
  worker.stop();
  EXPECT_EQ(state(id), "available");
  EXPECT_EQ(errors_of(id), 0);
  EXPECT_EQ(sql.number("select attempt from jobs where id = $1", id), 0);
}

TEST_F(WorkerStop, StopNowAsksAtOnce) {
  auto const ids = enqueue_some(10);
  auto options = quick();
  options.stop_grace = 10min;
  Worker worker(options);
  blocking(worker);
  worker.start();
  ASSERT_TRUE(wait_started(2));
  auto const before = std::chrono::steady_clock::now();
  worker.stop_now();
  EXPECT_LT(std::chrono::steady_clock::now() - before, 5s);
  EXPECT_EQ(jobs_in("available"), 10);
  EXPECT_EQ(finished, 0);
}

TEST_F(WorkerStop, StopNowCutsAGracefulStopShort) {
  enqueue_some(2);
  auto options = quick();
  options.stop_grace = 10min;
  Worker worker(options);
  blocking(worker);
  worker.start();
  ASSERT_TRUE(wait_started(2));
  std::thread first([&] { worker.stop(); });
  std::thread second([&] { worker.wait(); });
  std::this_thread::sleep_for(20ms);
  worker.stop_now();
  first.join();
  second.join();
  EXPECT_EQ(jobs_in("available"), 2);
}

TEST_F(WorkerStop, JobThatSucceedsAfterItWasAskedToStopHasSucceeded) {
  auto const id = enqueue();
  Worker worker(quick());
  worker.on("k", [&](Job const& job) {
    ++started;
    while (!job.stop_token().stop_requested()) std::this_thread::sleep_for(1ms);
  });
  worker.start();
  ASSERT_TRUE(wait_started(1));
  worker.stop_now();
  EXPECT_EQ(state(id), "succeeded");
}

TEST_F(WorkerStop, HandlerThatDoesNotStopGivesItsJobBackBeforeItEnds) {
  auto const id = enqueue();
  auto options = quick();
  options.stop_grace = 0ms;
  Worker worker(options);
  worker.on("k", [&](Job const&) {
    ++started;
    go.acquire();
  });
  worker.start();
  ASSERT_TRUE(wait_started(1));
  std::thread stopper([&] { worker.stop(); });
  EXPECT_TRUE(eventually([&] { return state(id) == "available"; }));
  EXPECT_TRUE(eventually([&] { return logged("waiting for a handler that does not stop"); }));
  go.release();
  stopper.join();
  EXPECT_EQ(state(id), "available");
}

TEST_F(WorkerStop, AnyOrderOfStartAndStop) {
  Worker worker(quick());
  worker.on("k", [&](Job const&) { ++finished; });
  worker.stop();
  worker.wait();
  worker.stop_now();
  worker.start();
  auto const first = worker.incarnation();
  worker.start();
  EXPECT_EQ(worker.incarnation(), first);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back([&] { worker.stop(); });
  for (auto& thread : threads) thread.join();
  worker.stop();
  EXPECT_EQ(sql.number("select count(*) from worker where ended_at is null"), 0);
  // And again: a new incarnation.
  worker.start();
  EXPECT_GT(worker.incarnation(), first);
  enqueue();
  EXPECT_TRUE(eventually([&] { return finished == 1; }));
  worker.stop();
  EXPECT_EQ(worker.stats().succeeded, 1);
}

TEST_F(WorkerStop, DestructorStops) {
  auto const id = enqueue();
  {
    Worker worker(quick());
    worker.on("k", [&](Job const&) {
      ++started;
      std::this_thread::sleep_for(30ms);
    });
    worker.start();
    ASSERT_TRUE(wait_started(1));
  }
  EXPECT_EQ(state(id), "succeeded");
  EXPECT_EQ(sql.number("select count(*) from worker where ended_at is null"), 0);
}

TEST_F(WorkerStop, HandlerMayStopItsOwnWorker) {
  enqueue();
  Worker worker(quick());
  worker.on("k", [&](Job const&) {
    worker.stop();
    ++finished;
  });
  worker.start();
  worker.wait();
  EXPECT_EQ(finished, 1);
  EXPECT_EQ(jobs_in("succeeded"), 1);
}

TEST_F(WorkerStop, RunEndsOnSigterm) {
  enqueue();
  struct sigaction before {};
  ::sigaction(SIGTERM, nullptr, &before);
  Worker worker(quick());
  worker.on("k", [&](Job const&) { ++finished; });
  std::thread killer([&] {
    EXPECT_TRUE(eventually([&] { return finished == 1; }));
    ::kill(::getpid(), SIGTERM);
  });
  worker.run();
  killer.join();
  struct sigaction after {};
  ::sigaction(SIGTERM, nullptr, &after);
  EXPECT_EQ(before.sa_handler, after.sa_handler);
  EXPECT_EQ(jobs_in("succeeded"), 1);
}

// What a handler starts can be ended by SIGTERM; the threads that run no handler leave signals to the one that waits.
TEST_F(WorkerStop, OnlyHandlersAndTheProgramsOwnThreadsTakeSignals) {
  enqueue();
  Worker worker(quick());
  blocking(worker);
  worker.start();
  ASSERT_TRUE(wait_started(1));
  std::map<std::string, bool> blocked;  // by the thread's name
  for (auto const& thread : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    std::getline(std::ifstream(thread.path() / "comm"), name);
    std::ifstream status(thread.path() / "status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("SigBlk:"))
        blocked[name] = (std::stoull(line.substr(7), nullptr, 16) >> (SIGTERM - 1) & 1) != 0;
    }
  }
  go.release();
  worker.stop();
  ASSERT_TRUE(blocked.contains("posthouse-job"));
  ASSERT_TRUE(blocked.contains("posthouse-beat"));
  EXPECT_FALSE(blocked["posthouse-job"]);
  EXPECT_TRUE(blocked["posthouse-beat"]);
}

// A service that calls run() until the database is there leaves when it is asked to.
TEST_F(WorkerStop, RunReturnsWhenTheSignalCameBeforeTheDatabaseDid) {
  TcpGate gate(url());
  gate.hang();
  auto options = quick();
  options.database_url = gate.url();
  options.database.connect_timeout = 2s;
  Worker worker(options);
  worker.on("k", [](Job const&) {});
  std::thread killer([&] {
    EXPECT_TRUE(eventually([&] { return gate.accepted() > 0; }));
    ::kill(::getpid(), SIGTERM);
  });
  EXPECT_NO_THROW(worker.run());
  killer.join();
  EXPECT_THROW(worker.run(), Unavailable) << "without a signal it says why";
}

TEST_F(WorkerStop, SecondSignalStopsNow) {
  enqueue();
  auto options = quick();
  options.stop_grace = 10min;
  Worker worker(options);
  blocking(worker);
  std::thread killer([&] {
    EXPECT_TRUE(wait_started(1));
    ::kill(::getpid(), SIGINT);
    std::this_thread::sleep_for(50ms);
    ::kill(::getpid(), SIGTERM);
  });
  worker.run();
  killer.join();
  EXPECT_EQ(jobs_in("available"), 1);
}

TEST_F(WorkerStop, RunWithOnceEndsByItself) {
  enqueue_some(3);
  auto options = quick();
  options.once = true;
  Worker worker(options);
  worker.on("k", [&](Job const&) { ++finished; });
  worker.run();
  EXPECT_EQ(finished, 3);
}

TEST_F(WorkerStop, StopIsQuickWhenTheDatabaseIsGone) {
  enqueue();
  Sql admin(TestServer::shared().url());
  Worker worker(quick());
  blocking(worker);
  worker.start();
  ASSERT_TRUE(wait_started(1));
  // Nobody gets in any more, and whoever is in is thrown out.
  admin.exec("alter database \"" + database.name() + "\" allow_connections false");
  admin.rows("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", database.name());
  go.release();
  auto const before = std::chrono::steady_clock::now();
  worker.stop();
  EXPECT_LT(std::chrono::steady_clock::now() - before, 15s);
  admin.exec("alter database \"" + database.name() + "\" allow_connections true");
  sql = Sql(url());
}

TEST_F(WorkerStop, OptionsAreChecked) {
  auto const refused = [&](auto change) {
    auto options = quick();
    change(options);
    EXPECT_THROW(Worker{options}, InvalidArgument);
  };
  refused([](auto& o) { o.concurrency = 0; });
  refused([](auto& o) { o.concurrency = 1001; });
  refused([](auto& o) { o.prefetch_buffer = -1; });
  refused([](auto& o) { o.claim_lease = 999ms; });
  refused([](auto& o) { o.heartbeat_interval = 11s; });
  refused([](auto& o) { o.queues = {"no spaces"}; });
  refused([](auto& o) { o.flush_interval = 2s; });

  Worker worker(quick());
  EXPECT_THROW(worker.start(), InvalidArgument);  // no handlers
  worker.on("k", [](Job const&) {});
  EXPECT_THROW(worker.on("k", [](Job const&) {}), InvalidArgument);
  EXPECT_THROW(worker.on("bad kind", [](Job const&) {}), InvalidArgument);
  EXPECT_THROW(worker.on("x", {.max_attempts = 0}, [](Job const&) {}), InvalidArgument);

  auto prefetch = quick();
  prefetch.prefetch_buffer = 10;
  Worker hidden(prefetch);
  hidden.on("k", [](Job const&) {});
  EXPECT_THROW(hidden.start(), InvalidArgument);  // no lease written out

  auto nowhere = quick();
  nowhere.kinds = {"other"};
  Worker none(nowhere);
  none.on("k", [](Job const&) {});
  EXPECT_THROW(none.start(), InvalidArgument);
}

TEST_F(WorkerStop, StartSaysWhatIsWrong) {
  TestDatabase bare(TestDatabase::empty);
  auto options = quick();
  options.database_url = bare.url();
  Worker worker(options);
  worker.on("k", [](Job const&) {});
  EXPECT_THROW(worker.start(), SchemaMissing);
  options.database_url = "postgresql://127.0.0.1:1/x";
  Worker lost(options);
  lost.on("k", [](Job const&) {});
  EXPECT_THROW(lost.start(), Unavailable);
}

}  // namespace
}  // namespace posthouse::test
