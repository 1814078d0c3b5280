// SPDX-License-Identifier: Apache-2.0
// Jobs through a worker: what handlers see, and what becomes of the job when they end this way or that.
#include <algorithm>
#include <set>

#include "integration/worker_fixture.hpp"

namespace posthouse::test {
namespace {

class WorkerRun : public WorkerTest {
 protected:
  WorkerOptions once() {
    auto options = quick();
    options.once = true;
    return options;
  }
};

TEST_F(WorkerRun, HandlersSeeTheirJob) {
  auto const id = sql.number(
      R"(select enqueue('mail', '{"to": [1, 2.50]}', queue => 'out', priority => 7, headers => '{"trace": "t1"}', max_attempts => 3))");
  Worker worker(once());
  std::optional<Job::Facts> facts;
  worker.on("mail", [&](Job const& job) { facts = job.facts(); });
  auto const stats = work_once(worker);
  ASSERT_TRUE(facts);
  EXPECT_EQ(facts->id, id);
  EXPECT_EQ(facts->kind, "mail");
  EXPECT_EQ(facts->queue, "out");
  EXPECT_EQ(facts->priority, 7);
  EXPECT_EQ(facts->attempt, 1);
  EXPECT_EQ(facts->max_attempts, 3);
  EXPECT_EQ(facts->headers.at("trace"), "t1");
  EXPECT_EQ(facts->payload.data(), R"({"to": [1, 2.50]})");
  EXPECT_EQ(facts->worker, worker.incarnation());
  EXPECT_EQ(stats.succeeded, 1);
  EXPECT_EQ(state(id), "succeeded");
}

TEST_F(WorkerRun, HandlersSeeWhatTheirJobHasWaitedFor) {
  auto const early = enqueue("parent");
  auto const late = enqueue("parent");
  sql.rows("select enqueue('child', depends_on => array[$1::bigint, $2::bigint])", late, early);
  enqueue("child");
  Worker worker(quick());
  std::mutex mutex;
  std::vector<std::vector<std::int64_t>> seen;
  worker.on("parent", [](Job const&) {});
  worker.on("child", [&](Job const& job) -> Outcome {
    std::lock_guard const lock(mutex);
    seen.push_back(job.depends_on());
    if (!job.depends_on().empty() && seen.size() < 3) return Snooze{0ms};
    return Success{};
  });
  worker.start();
  EXPECT_TRUE(eventually([&] { return sql.number("select count(*) from jobs where state = 'succeeded'") == 4; }));
  worker.stop();
  std::lock_guard const lock(mutex);
  EXPECT_EQ(std::count(seen.begin(), seen.end(), (std::vector<std::int64_t>{late, early})),
            static_cast<std::ptrdiff_t>(seen.size()) - 1)
      << "also when it runs again";
  EXPECT_EQ(std::count(seen.begin(), seen.end(), std::vector<std::int64_t>{}), 1);
  EXPECT_GE(seen.size(), 3U);
}

TEST_F(WorkerRun, PayloadsArriveExactly) {
  sql.exec(R"(select enqueue_bytes('raw', '\x00ff0a'); select enqueue('raw'); select enqueue('raw', '"text"'))");
  Worker worker(once());
  std::mutex mutex;
  std::multiset<std::string> seen;
  worker.on("raw", [&](Job const& job) {
    std::lock_guard const lock(mutex);
    auto const& payload = job.payload();
    seen.insert((payload.is_null() ? "null " : payload.is_bytes() ? "bytes " : "json ") + std::string(payload.data()));
  });
  work_once(worker);
  EXPECT_EQ(seen, (std::multiset<std::string>{"null ", std::string("bytes \0\xff\n", 9), "json \"text\""}));
}

TEST_F(WorkerRun, EveryJobRunsOnceWhateverThePrefetch) {
  for (int const prefetch : {0, 7, 500}) {
    SCOPED_TRACE(prefetch);
    auto const ids = enqueue_some(1000);
    auto options = once();
    options.concurrency = 4;
    if (prefetch > 0) options.with_prefetch(prefetch, 30s);
    Worker worker(options);
    std::mutex mutex;
    std::multiset<std::int64_t> seen;
    worker.on("k", [&](Job const& job) {
      std::lock_guard const lock(mutex);
      seen.insert(job.id());
    });
    auto const stats = work_once(worker);
    EXPECT_EQ(seen, std::multiset<std::int64_t>(ids.begin(), ids.end()));
    EXPECT_EQ(stats.succeeded, 1000);
    EXPECT_EQ(stats.released, 0);
    EXPECT_EQ(sql.number("select count(*) from batch where closed_at is null"), 0);
    if (prefetch == 500) {
      EXPECT_LT(stats.statements, 100);
    }
  }
}

TEST_F(WorkerRun, FailureIsTriedAgainUntilAttemptsAreUsedUp) {
  auto const id = enqueue();
  auto options = once();
  Worker worker(options);
  std::vector<std::int64_t> attempts;
  worker.on("k", policy(3), [&](Job const& job) {
    attempts.push_back(job.attempt());
    throw std::runtime_error("broken " + std::to_string(job.attempt()));
  });
  auto const stats = work_once(worker);
  EXPECT_EQ(attempts, (std::vector<std::int64_t>{1, 2, 3}));
  EXPECT_EQ(stats.failed, 3);
  EXPECT_EQ(state(id), "failed");
  EXPECT_EQ(attempt(id), 3);
  auto const errors = sql.rows("select attempt, type, message from attempt_error where job = $1 order by attempt", id);
  ASSERT_EQ(errors.size(), 3u);
  EXPECT_EQ(*errors[2][0], "3");
  EXPECT_EQ(*errors[2][1], "std::runtime_error");
  EXPECT_EQ(*errors[2][2], "broken 3");
  EXPECT_TRUE(logged("job failed for good"));
}

TEST_F(WorkerRun, JobsOwnMaxAttemptsWin) {
  auto const id = sql.number("select enqueue('k', max_attempts => 2)");
  Worker worker(once());
  std::atomic<int> runs{0};
  worker.on("k", policy(10), [&](Job const&) {
    ++runs;
    throw 1;
  });
  work_once(worker);
  EXPECT_EQ(runs, 2);
  EXPECT_EQ(state(id), "failed");
}

TEST_F(WorkerRun, RetryWaitsAsThePolicySays) {
  auto const id = enqueue();
  Worker worker(once());
  worker.on("k", policy(5, {10min}), [](Job const&) { throw std::runtime_error("x"); });
  work_once(worker);
  EXPECT_EQ(state(id), "retryable");
  EXPECT_EQ(attempt(id), 1);
  EXPECT_TRUE(sql.truth("select due_at between now() + '9 min' and now() + '11 min' from deferred where id = $1", id));
}

TEST_F(WorkerRun, SnoozeCountsNoAttempt) {
  auto const id = enqueue();
  Worker worker(once());
  int runs = 0;
  std::int64_t last = 0;
  worker.on("k", policy(2), [&](Job const& job) -> Outcome {
    last = job.attempt();
    if (++runs < 4) return Snooze{0ms};
    return Success{};
  });
  auto const stats = work_once(worker);
  EXPECT_EQ(runs, 4);
  EXPECT_EQ(last, 1);
  EXPECT_EQ(stats.snoozed, 3);
  EXPECT_EQ(state(id), "succeeded");
  EXPECT_EQ(errors_of(id), 0);
}

TEST_F(WorkerRun, RetryAfterAndDiscard) {
  auto const later = enqueue("later");
  auto const never = enqueue("never");
  Worker worker(once());
  worker.on("later", [](Job const&) -> Outcome { return RetryAfter{.delay = 1h, .reason = "limit"}; });
  worker.on("never", [](Job const&) { throw Discard{.reason = "no such user"}; });
  work_once(worker);
  EXPECT_EQ(state(later), "retryable");
  EXPECT_TRUE(sql.truth("select due_at > now() + '50 min' from deferred where id = $1", later));
  EXPECT_EQ(state(never), "failed");
  EXPECT_EQ(sql.one("select reason from dead where id = $1", never), "no such user");
}

TEST_F(WorkerRun, UnreadablePayloadGoesToTheDeadLettersOrStays) {
  auto const dead = enqueue("strict");
  auto const kept = enqueue("rolling");
  Worker worker(once());
  HandlerOptions keep = policy(25, {1h});
  keep.on_decode_error = OnDecodeError::retry;
  auto const unreadable = [](Job const&) { throw DecodeError("$.user", "expected a number"); };
  worker.on("strict", unreadable);
  worker.on("rolling", keep, unreadable);
  work_once(worker);
  EXPECT_EQ(state(dead), "failed");
  EXPECT_EQ(sql.one("select message from attempt_error where job = $1", dead), "$.user: expected a number");
  EXPECT_EQ(state(kept), "retryable");
}

TEST_F(WorkerRun, AnyTextOfAnErrorCanBeStored) {
  auto const id = enqueue();
  Worker worker(once());
  worker.on("k", policy(1), [](Job const&) -> Outcome {
    using namespace std::string_literals;
    return Failure{.type = "t\0t"s, .message = "nul \0 bad \xff\xfe quote \" back \\ "s + std::string(200'000, 'x')};
  });
  work_once(worker);
  EXPECT_EQ(state(id), "failed");
  EXPECT_TRUE(sql.truth("select octet_length(message) between 60000 and 65536 from attempt_error where job = $1", id));
}

TEST_F(WorkerRun, MixedEndingsInOneBatch) {
  auto const ids = enqueue_some(300);
  auto options = once();
  options.concurrency = 4;
  options.with_prefetch(1000, 30s);
  Worker worker(options);
  worker.on("k", policy(1), [](Job const& job) -> Outcome {
    switch (job.id() % 4) {
      case 0:
        return Discard{.reason = "d"};
      case 1:
        return Snooze{1h};
      case 2:
        throw std::runtime_error("x");
      default:
        return Success{};
    }
  });
  auto const stats = work_once(worker);
  EXPECT_EQ(stats.succeeded, 75);
  EXPECT_EQ(stats.snoozed, 75);
  EXPECT_EQ(stats.failed, 150);
  EXPECT_EQ(jobs_in("succeeded"), 75);
  EXPECT_EQ(jobs_in("scheduled"), 75);
  EXPECT_EQ(jobs_in("failed"), 150);
}

TEST_F(WorkerRun, OnlyQueuesAndKindsThatWereAskedFor) {
  auto const mine = sql.number("select enqueue('a', queue => 'q1')");
  auto const queue = sql.number("select enqueue('a', queue => 'q2')");
  auto const kind = sql.number("select enqueue('b', queue => 'q1')");
  auto const unknown = sql.number("select enqueue('c', queue => 'q1')");
  auto options = once();
  options.queues = {"q1"};
  options.kinds = {"a"};
  Worker worker(options);
  auto const handler = [](Job const&) {};
  worker.on("a", handler).on("b", handler);
  work_once(worker);
  EXPECT_EQ(state(mine), "succeeded");
  EXPECT_EQ(state(queue), "available");
  EXPECT_EQ(state(kind), "available");
  EXPECT_EQ(state(unknown), "available");
}

TEST_F(WorkerRun, HigherPriorityFirst) {
  for (int const priority : {0, 5, -3, 5, 9}) sql.rows("select enqueue('k', priority => $1)", priority);
  auto options = once();
  options.concurrency = 1;
  Worker worker(options);
  std::vector<int> order;
  worker.on("k", [&](Job const& job) { order.push_back(job.priority()); });
  work_once(worker);
  EXPECT_EQ(order, (std::vector<int>{9, 5, 5, 0, -3}));
}

TEST_F(WorkerRun, TimeoutAsksTheHandlerToStop) {
  auto const id = enqueue();
  Worker worker(once());
  HandlerOptions options = policy(1);
  options.timeout = 30ms;
  worker.on("k", options, [](Job const& job) {
    std::mutex mutex;
    std::condition_variable_any stopped;
    std::unique_lock lock(mutex);
    stopped.wait(lock, job.stop_token(), [] { return false; });
    throw std::runtime_error("gave up");
  });
  work_once(worker);
  EXPECT_EQ(state(id), "failed");
}

TEST_F(WorkerRun, HookIsCalledAroundEachRun) {
  enqueue_some(5);
  auto options = once();
  std::atomic<int> before{0};
  std::atomic<int> after{0};
  options.around = [&](Job const&, std::function<Outcome()> const& next) {
    ++before;
    auto outcome = next();
    if (std::holds_alternative<Failure>(outcome)) ++after;
    return outcome;
  };
  Worker worker(options);
  worker.on("k", policy(1), [](Job const&) { throw 3; });
  work_once(worker);
  EXPECT_EQ(before, 5);
  EXPECT_EQ(after, 5);
}

TEST_F(WorkerRun, JobsThatAreDueAreWorkedByOnce) {
  auto const due = sql.number("select enqueue('k', delay => '1 ms')");
  auto const future = sql.number("select enqueue('k', delay => '1 hour')");
  sql.exec("select pg_sleep(0.01)");
  auto options = once();
  options.duties = false;
  Worker worker(options);
  worker.on("k", [](Job const&) {});
  work_once(worker);
  EXPECT_EQ(state(due), "succeeded");
  EXPECT_EQ(state(future), "scheduled");
}

TEST_F(WorkerRun, OnceLeavesWhatAnotherWorkerHolds) {
  auto const id = enqueue();
  Hand hand(sql);
  hand.claim(1);
  Worker worker(once());
  worker.on("k", [](Job const&) {});
  auto const stats = work_once(worker);
  EXPECT_EQ(stats.claimed, 0);
  EXPECT_EQ(state(id), "running");
}

TEST_F(WorkerRun, DelayedJobStartsSoonAfterItsTime) {
  Worker worker(quick());
  std::atomic<std::int64_t> started{0};
  worker.on("k", [&](Job const&) { started = 1; });
  worker.start();
  ASSERT_TRUE(eventually([&] { return sql.number("select count(*) from leader") > 0; }));
  sql.rows("select enqueue('k', delay => '700 ms')");
  auto const before = std::chrono::steady_clock::now();
  ASSERT_TRUE(eventually([&] { return started == 1; }));
  auto const took = std::chrono::steady_clock::now() - before;
  EXPECT_GE(took, 600ms);
  EXPECT_LE(took, 5s);
}

TEST_F(WorkerRun, HostileSchemaName) {
  TestDatabase other(R"(we"ird schema)");
  Client client({.database = other.options()});
  client.enqueue("k");
  auto options = once();
  options.database_url.clear();
  options.database = other.options();
  Worker worker(options);
  worker.on("k", [](Job const&) {});
  EXPECT_EQ(work_once(worker).succeeded, 1);
}

}  // namespace
}  // namespace posthouse::test
