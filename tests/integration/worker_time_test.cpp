// SPDX-License-Identifier: Apache-2.0
// Expiry, timeouts and cancels with real workers.
#include <thread>

#include "integration/cli_fixture.hpp"
#include "integration/worker_fixture.hpp"

namespace posthouse::test {
namespace {

using ::testing::HasSubstr;

class WorkerTime : public WorkerTest {
 protected:
  WorkerTime() : client({.database_url = url()}) {}

  // Runs until it is asked to stop, and then throws; or until it is let go.
  void patient(Worker& worker, HandlerOptions options = {}) {
    worker.on("k", std::move(options), [this](Job const& job) {
      ++started;
      while (!go) {
        if (job.stop_token().stop_requested()) throw Cancelled();
        std::this_thread::sleep_for(1ms);
      }
    });
  }
  bool wait_started(int n) {
    return eventually([&] { return started >= n; });
  }
  bool becomes(std::int64_t id, std::string const& wanted) {
    return eventually([&] { return state(id) == wanted; });
  }

  Client client;
  std::atomic<int> started{0};
  std::atomic<bool> go{false};
};

TEST_F(WorkerTime, AnExpiredJobIsNotStarted) {
  auto const late = client.enqueue("k", {}, {.expires_in = 1h}).id;
  auto const fine = client.enqueue("k", {}, {.expires_in = 10h}).id;
  // As if it had waited for two hours; nobody has swept it away.
  sql.exec(
      "update job set options = options || jsonb_build_object('expires_at', "
      "utc_text((options ->> 'expires_at')::timestamptz - interval '2 hours'))");
  auto options = quick();
  options.once = true;
  options.duties = false;
  Worker worker(options);
  go = true;
  patient(worker);
  auto const stats = work_once(worker);
  EXPECT_EQ(state(late), "expired");
  EXPECT_EQ(state(fine), "succeeded");
  EXPECT_EQ(attempt(late), 0);
  EXPECT_EQ(errors_of(late), 0);
  EXPECT_EQ(started, 1);
  EXPECT_EQ(stats.expired, 1);
  EXPECT_EQ(stats.succeeded, 1);
}

// It was claimed in time, and expires in the worker's buffer behind a job that runs.
TEST_F(WorkerTime, AJobExpiresInTheBuffer) {
  auto const first = enqueue();
  auto const second = client.enqueue("k", {}, {.expires_in = 300ms}).id;
  auto options = quick();
  options.concurrency = 1;
  options.duties = false;
  options.with_prefetch(10, 30s);
  Worker worker(options);
  patient(worker);
  worker.start();
  ASSERT_TRUE(wait_started(1));
  ASSERT_TRUE(eventually([&] {
    return sql.truth("select clock_timestamp() > (select expires_at from jobs where id = $1) + interval '10 ms'",
                     second);
  }));
  go = true;
  EXPECT_TRUE(becomes(second, "expired"));
  worker.stop();
  EXPECT_EQ(state(first), "succeeded");
  EXPECT_EQ(started, 1);
}

TEST_F(WorkerTime, TheLeaderEndsWhatNobodyClaims) {
  auto const id = client.enqueue("other", {}, {.expires_in = 50ms}).id;
  Worker worker(quick());
  patient(worker);
  worker.start();
  EXPECT_TRUE(becomes(id, "expired"));
  worker.stop();
  EXPECT_EQ(client.find(id).value_or(JobInfo{}).attempt, 0);
}

TEST_F(WorkerTime, AJobsOwnTimeoutWins) {
  auto const id = client.enqueue("k", {}, {.max_attempts = 1, .timeout = 20ms}).id;
  auto options = quick();
  options.once = true;
  Worker worker(options);
  HandlerOptions policy;
  policy.timeout = 1h;
  patient(worker, policy);
  work_once(worker);
  EXPECT_EQ(state(id), "failed");
  auto const errors = client.errors(id);
  ASSERT_EQ(errors.size(), 1U);
  EXPECT_EQ(errors[0].type, "Timeout");
  EXPECT_THAT(errors[0].message, HasSubstr("stopped as asked"));
}

TEST_F(WorkerTime, WhoSucceedsAfterTheTimeoutHasSucceeded) {
  auto const id = client.enqueue("k", {}, {.max_attempts = 1, .timeout = 10ms}).id;
  auto options = quick();
  options.once = true;
  Worker worker(options);
  worker.on("k", [](Job const& job) {
    while (!job.stop_token().stop_requested()) std::this_thread::sleep_for(1ms);
  });
  work_once(worker);
  EXPECT_EQ(state(id), "succeeded");
}

TEST_F(WorkerTime, EnqueueManyCarriesThem) {
  std::vector<Request> const requests{{.kind = "k", .options = {.max_attempts = 1, .timeout = 10ms}},
                                      {.kind = "k", .options = {.expires_at = std::chrono::system_clock::now() - 1h}}};
  auto const outcomes = client.enqueue_many(requests);
  ASSERT_EQ(outcomes.size(), 2U);
  auto options = quick();
  options.once = true;
  Worker worker(options);
  patient(worker);
  work_once(worker);
  EXPECT_EQ(state(outcomes[0].id), "failed");
  EXPECT_EQ(state(outcomes[1].id), "expired");
  EXPECT_EQ(started, 1);
  EXPECT_THROW(client.enqueue("k", {}, {.expires_in = 0ms}), InvalidArgument);
  EXPECT_THROW(client.enqueue("k", {}, {.timeout = 0ms}), InvalidArgument);
  EXPECT_THROW(client.enqueue("k", {}, {.expires_at = std::chrono::system_clock::now() + 1h, .expires_in = 1h}),
               InvalidArgument);
}

TEST_F(WorkerTime, ARunningJobIsCancelled) {
  auto options = quick();
  // Only the notification comes in time.
  options.heartbeat_interval = 10s;
  Worker worker(options);
  patient(worker, policy(5));
  worker.start();
  auto const id = enqueue();
  ASSERT_TRUE(wait_started(1));
  EXPECT_EQ(client.cancel(id), CancelOutcome::requested);
  EXPECT_TRUE(becomes(id, "cancelled"));
  EXPECT_TRUE(eventually([&] { return worker.stats().cancelled == 1; }));
  EXPECT_EQ(client.cancel(id), CancelOutcome::finished);
  worker.stop();
  EXPECT_EQ(started, 1);
  EXPECT_EQ(attempt(id), 1);
  EXPECT_EQ(worker.stats().failed, 0);
}

TEST_F(WorkerTime, WithoutNotificationsTheHeartbeatTells) {
  auto options = quick();
  options.database.pgbouncer_transaction_mode = true;  // and no session endpoint: no LISTEN
  Worker worker(options);
  patient(worker, policy(5));
  worker.start();
  auto const id = enqueue();
  ASSERT_TRUE(wait_started(1));
  EXPECT_EQ(client.cancel(id), CancelOutcome::requested);
  EXPECT_TRUE(becomes(id, "cancelled"));
  worker.stop();
  EXPECT_EQ(started, 1);
}

TEST_F(WorkerTime, ABufferedJobIsCancelledUnstarted) {
  auto const ids = enqueue_some(20);
  auto options = quick();
  options.concurrency = 1;
  options.with_prefetch(100, 30s);
  Worker worker(options);
  patient(worker);
  worker.start();
  ASSERT_TRUE(wait_started(1));
  ASSERT_TRUE(eventually([&] { return jobs_in("running") == 20; }));
  for (std::size_t i = 10; i < 20; ++i) EXPECT_EQ(client.cancel(ids[i]), CancelOutcome::requested);
  ASSERT_TRUE(eventually([&] { return logged("asked to cancel jobs=10"); }));
  go = true;
  EXPECT_TRUE(eventually([&] { return jobs_in("succeeded") == 10 && jobs_in("cancelled") == 10; }));
  worker.stop();
  for (std::size_t i = 10; i < 20; ++i) EXPECT_EQ(attempt(ids[i]), 0);
}

TEST_F(WorkerTime, WhoSucceedsAllTheSameHasSucceeded) {
  Worker worker(quick());
  worker.on("k", [this](Job const& job) {
    ++started;
    while (!job.stop_token().stop_requested()) std::this_thread::sleep_for(1ms);
  });
  worker.start();
  auto const id = enqueue();
  ASSERT_TRUE(wait_started(1));
  EXPECT_EQ(client.cancel(id), CancelOutcome::requested);
  EXPECT_TRUE(becomes(id, "succeeded"));
  EXPECT_TRUE(eventually([&] { return sql.number("select count(*) from cancel_request") == 0; }));
  worker.stop();
}

class CliTime : public CliDatabaseTest {
 protected:
  std::string enqueue(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "enqueue");
    return chomp(run(std::move(arguments)).out);
  }
  bool becomes(std::string const& id, std::string const& wanted) {
    return eventually([&] { return state(id) == wanted; });
  }
};

TEST_F(CliTime, EnqueueTakesThem) {
  auto const id = enqueue({"k", "--expires-in", "1h", "--timeout", "90s"});
  EXPECT_EQ(sql.one("select options ->> 'timeout_ms' from posthouse.job"), "90000");
  EXPECT_EQ(sql.one("select expires_at > now() + interval '59 min' from posthouse.jobs"), "t");
  EXPECT_THAT(run({"jobs", "show", id}).out, HasSubstr("expires at"));
  auto const past = enqueue({"k", "--expires-at", "2020-01-01T00:00:00Z"});
  EXPECT_EQ(state(past), "expired");
  EXPECT_THAT(run({"enqueue", "k", "--expires-in", "soon"}).err, HasSubstr("--expires-in"));
  EXPECT_THAT(run({"enqueue", "k", "--timeout", "x"}).err, HasSubstr("--timeout"));
}

// The program, and what it started, get SIGTERM; the statement is cancelled in the server.
TEST_F(CliTime, ProgramsAndStatementsAreStopped) {
  auto const config = folder.write("work.yaml",
                                   "kinds:\n"
                                   "  program: {exec: [/bin/sleep, '600'], max_attempts: 5}\n"
                                   "  statement: {sql: select pg_sleep(600), max_attempts: 5}\n");
  auto worker = start({"work", "--config", config, "--log-level", "info"});
  ASSERT_TRUE(worker.said("worker started")) << worker.errors();
  for (std::string const kind : {"program", "statement"}) {
    auto const id = enqueue({kind});
    ASSERT_TRUE(becomes(id, "running"));
    if (kind == "statement") {
      ASSERT_TRUE(eventually([&] {
        return sql.number(
                   "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and datname = "
                   "current_database()") > 0;
      }));
    }
    auto const cancelled = run({"jobs", "cancel", id, "--wait"});
    EXPECT_EQ(cancelled.status, 0) << cancelled.err;
    EXPECT_EQ(state(id), "cancelled");
  }
}

TEST_F(CliTime, ACancelOutlivesItsWorker) {
  auto const config = folder.write("work.yaml",
                                   "claim_lease_ms: 1s\nheartbeat_interval_ms: 300\n"
                                   "kinds: {program: {exec: [/bin/sh, -c, 'trap \"\" TERM; sleep 600']}}\n");
  auto worker = start({"work", "--config", config, "--log-level", "info"});
  ASSERT_TRUE(worker.said("worker started")) << worker.errors();
  auto const id = enqueue({"program"});
  ASSERT_TRUE(becomes(id, "running"));
  EXPECT_EQ(run({"jobs", "cancel", id}).status, 0);
  worker.kill();
  auto const other = folder.write("other.yaml", "kinds: {program: {exec: [/bin/true]}}\n");
  auto next = start({"work", "--config", other});
  EXPECT_TRUE(becomes(id, "cancelled"));
}

}  // namespace
}  // namespace posthouse::test
