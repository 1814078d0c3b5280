// SPDX-License-Identifier: Apache-2.0
#include "execute/pool.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <semaphore>
#include <set>
#include <stdexcept>

namespace posthouse {

struct NoDatabase {};
template <>
struct executor_for<NoDatabase> {
  static std::unique_ptr<Executor> make(NoDatabase& /*unused*/) { return nullptr; }
};

}  // namespace posthouse

namespace posthouse::execute {
namespace {

using namespace std::chrono_literals;

class PoolTest : public testing::Test {
 protected:
  std::unique_ptr<Pool> pool(int threads, Around around = {}) {
    Pool::Options options;
    options.threads = threads;
    options.around = std::move(around);
    options.complete = [](Job const&, Transaction const&, Kept const*) {};
    options.wake = [this] { wakes_.release(); };
    return std::make_unique<Pool>(std::move(options), log_);
  }
  Registered kind(Handler handler) { return {.kind = "k", .options = {}, .handler = std::move(handler)}; }
  static Task task(Registered const& kind, int position, std::int64_t token = 1) {
    Task task;
    task.kind = &kind;
    task.token = token;
    task.position = position;
    task.id = 100 + position;
    task.queue = "q";
    return task;
  }
  // Everything that ends until `count` have.
  std::vector<Ended> all(Pool& pool, std::size_t count) {
    std::vector<Ended> ended;
    auto const until = Clock::now() + 30s;
    while (ended.size() < count && Clock::now() < until) {
      pool.harvest(ended);
      if (ended.size() < count && pool.arm(true, 0)) {
        EXPECT_TRUE(wakes_.try_acquire_for(30s));
      }
    }
    return ended;
  }

  base::Log log_{[](LogRecord const&) {}};
  std::counting_semaphore<> wakes_{0};
};

TEST_F(PoolTest, RunsEachTaskOnceAndReportsIt) {
  std::atomic<int> runs{0};
  auto const k = kind([&](Job const&) -> Outcome { return ++runs, Success{}; });
  auto const p = pool(4);
  std::vector<Task> tasks;
  for (int i = 0; i < 1000; ++i) tasks.push_back(task(k, i));
  p->push(tasks);
  auto const ended = all(*p, 1000);
  std::set<int> positions;
  for (auto const& end : ended) {
    positions.insert(end.position);
    EXPECT_EQ(end.otherwise, nullptr);
    EXPECT_EQ(end.id, 100 + end.position);
  }
  EXPECT_EQ(positions.size(), 1000u);
  EXPECT_EQ(runs, 1000);
}

TEST_F(PoolTest, OneThreadKeepsTheOrder) {
  std::vector<std::int64_t> order;
  auto const k = kind([&](Job const& job) -> Outcome { return order.push_back(job.id()), Success{}; });
  auto const p = pool(1);
  p->push({task(k, 2), task(k, 0), task(k, 1)});
  all(*p, 3);
  EXPECT_EQ(order, (std::vector<std::int64_t>{102, 100, 101}));
}

TEST_F(PoolTest, HigherPriorityFirstAndUrgentTasksBeforeTheirEquals) {
  std::vector<std::int64_t> order;
  std::latch started{1};
  std::binary_semaphore go{0};
  auto const first = kind([&](Job const&) -> Outcome {
    started.count_down();
    go.acquire();
    return Success{};
  });
  auto const k = kind([&](Job const& job) -> Outcome { return order.push_back(job.id()), Success{}; });
  auto const with = [&](int position, int priority) {
    auto t = task(k, position);
    t.priority = priority;
    return t;
  };
  auto const p = pool(1);
  p->push({task(first, 0)});
  started.wait();
  p->push({with(1, 0), with(2, 0), with(3, 5), with(4, -1)});
  p->push({with(5, 5), with(6, 0)});
  p->push({with(7, 0), with(8, 0)}, true);
  go.release();
  all(*p, 9);
  EXPECT_EQ(order, (std::vector<std::int64_t>{103, 105, 107, 108, 101, 102, 106, 104}));
}

TEST_F(PoolTest, JobHasItsFacts) {
  std::optional<Job::Facts> facts;
  auto const k = kind([&](Job const& job) -> Outcome { return facts = job.facts(), Success{}; });
  auto const p = pool(1);
  auto t = task(k, 5, 9);
  t.worker = 3;
  t.attempt = 2;
  t.max_attempts = 7;
  t.priority = -4;
  t.is_null = false;
  t.payload = R"({"n": 1})";
  t.headers = R"({"trace": "x", "n": 7})";
  t.timeout = 1h;
  p->push({t});
  all(*p, 1);
  ASSERT_TRUE(facts);
  EXPECT_EQ(facts->id, 105);
  EXPECT_EQ(facts->kind, "k");
  EXPECT_EQ(facts->queue, "q");
  EXPECT_EQ(facts->attempt, 2);
  EXPECT_EQ(facts->max_attempts, 7);
  EXPECT_EQ(facts->priority, -4);
  EXPECT_TRUE(facts->payload.is_json());
  EXPECT_EQ(facts->payload.data(), R"({"n": 1})");
  EXPECT_EQ(facts->headers.at("trace"), "x");
  EXPECT_EQ(facts->headers.at("n"), "7");
  EXPECT_EQ(facts->worker, 3);
  EXPECT_EQ(facts->token, 9);
  EXPECT_TRUE(facts->deadline.has_value());
}

TEST_F(PoolTest, FailureKeepsWhatTheVerdictNeeds) {
  auto const k = kind([](Job const&) -> Outcome { throw std::runtime_error("boom"); });
  auto const p = pool(1);
  auto t = task(k, 0);
  t.attempt = 4;
  t.max_attempts = 5;
  p->push({t});
  auto const ended = all(*p, 1);
  ASSERT_NE(ended.at(0).otherwise, nullptr);
  auto const& other = *ended[0].otherwise;
  EXPECT_EQ(other.kind, &k);
  EXPECT_EQ(other.attempt, 4);
  EXPECT_EQ(other.max_attempts, 5);
  auto const& failure = std::get<Failure>(other.run.outcome);
  EXPECT_EQ(failure.type, "std::runtime_error");
  EXPECT_EQ(failure.message, "boom");
}

TEST_F(PoolTest, TakenBackTasksDoNotRun) {
  std::latch started{1};
  std::binary_semaphore go{0};
  std::atomic<int> runs{0};
  auto const k = kind([&](Job const&) -> Outcome {
    if (++runs == 1) started.count_down();
    go.acquire();
    return Success{};
  });
  auto const p = pool(1);
  p->push({task(k, 0, 1), task(k, 1, 1), task(k, 0, 2), task(k, 1, 2)});
  started.wait();
  auto const second = p->take_back(2);
  ASSERT_EQ(second.size(), 2u);
  EXPECT_EQ(second[0].token, 2);
  auto const rest = p->take_back();
  ASSERT_EQ(rest.size(), 1u);
  EXPECT_EQ(rest[0].position, 1);
  go.release();
  EXPECT_EQ(all(*p, 1).size(), 1u);
  EXPECT_EQ(runs, 1);
}

TEST_F(PoolTest, TheLastOnesAreTakenBackLowestPriorityFirst) {
  std::latch started{1};
  std::binary_semaphore go{0};
  auto const k = kind([&](Job const&) -> Outcome {
    started.count_down();
    go.acquire();
    return Success{};
  });
  auto const p = pool(1);
  p->push({task(k, 0, 1)});
  started.wait();
  auto tasks = std::vector{task(k, 1, 1), task(k, 2, 1), task(k, 3, 1), task(k, 4, 1)};
  tasks[0].priority = tasks[1].priority = 7;
  tasks[2].lane = 9;
  p->push(tasks);
  auto const last = p->take_last(1, [](Task const&) { return true; });
  ASSERT_EQ(last.size(), 1u);
  EXPECT_EQ(last[0].position, 4);
  EXPECT_TRUE(p->take_last(5, [](Task const& one) { return one.lane == 8; }).empty());
  auto const low = p->take_last(5, [](Task const& one) { return one.priority < 7; });
  ASSERT_EQ(low.size(), 1u);
  EXPECT_EQ(low[0].lane, 9);
  auto const rest = p->take_last(5, [](Task const&) { return true; });
  ASSERT_EQ(rest.size(), 2u);
  EXPECT_EQ(rest[0].position, 2);
  go.release();
  EXPECT_EQ(all(*p, 1).size(), 1u);
}

TEST_F(PoolTest, StopReachesTheRunningJobOnlyAndNotTheNext) {
  std::latch started{1};
  auto const stubborn = kind([&](Job const& job) -> Outcome {
    started.count_down();
    while (!job.stop_token().stop_requested()) std::this_thread::yield();
    return Success{};
  });
  bool asked = true;
  auto const next =
      kind([&](Job const& job) -> Outcome { return asked = job.stop_token().stop_requested(), Success{}; });
  auto const p = pool(1);
  p->push({task(stubborn, 0, 1), task(next, 0, 2)});
  started.wait();
  p->request_stop(2);  // not running: no effect
  p->request_stop(1);
  all(*p, 2);
  EXPECT_FALSE(asked);
}

TEST_F(PoolTest, TimeoutAsksToStop) {
  auto const k = kind([](Job const& job) -> Outcome {
    while (!job.stop_token().stop_requested()) std::this_thread::yield();
    return Discard{.reason = Clock::now() >= *job.deadline() ? "late" : "early"};
  });
  auto const p = pool(2);
  auto first = task(k, 0);
  first.timeout = 40ms;
  auto second = task(k, 1);
  second.timeout = 10ms;
  p->push({first});
  p->push({second});
  auto const ended = all(*p, 2);
  ASSERT_EQ(ended.size(), 2u);
  EXPECT_EQ(ended[0].position, 1);
  for (auto const& end : ended) EXPECT_EQ(std::get<Discard>(end.otherwise->run.outcome).reason, "late");
}

TEST_F(PoolTest, CancelStopsWhatRunsAndTakesWhatWaits) {
  std::binary_semaphore running{0};
  auto const k = kind([&](Job const& job) -> Outcome {
    running.release();
    while (!job.stop_token().stop_requested()) std::this_thread::yield();
    throw Cancelled();
  });
  auto const p = pool(1);
  p->push({task(k, 0), task(k, 1), task(k, 2)});
  ASSERT_TRUE(running.try_acquire_for(30s));
  std::vector<Task> taken;
  std::set<std::int64_t> unknown;
  p->cancel({100, 101, 7}, taken, unknown);
  ASSERT_EQ(taken.size(), 1u);
  EXPECT_EQ(taken[0].id, 101);
  EXPECT_EQ(unknown, (std::set<std::int64_t>{7}));
  auto ended = all(*p, 1);
  ASSERT_EQ(ended.size(), 1u);
  ASSERT_NE(ended[0].otherwise, nullptr);
  EXPECT_EQ(ended[0].id, 100);
  EXPECT_TRUE(ended[0].otherwise->cancelled);
  EXPECT_FALSE(ended[0].otherwise->timed_out);
  // The next one on the same thread knows nothing of it.
  ASSERT_TRUE(running.try_acquire_for(30s));
  p->request_stop_all();
  ended = all(*p, 1);
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended[0].id, 102);
  EXPECT_FALSE(ended[0].otherwise->cancelled);
}

TEST_F(PoolTest, AnExpiredTaskIsNotStarted) {
  std::atomic<int> runs{0};
  auto const k = kind([&](Job const&) -> Outcome { return ++runs, Success{}; });
  auto const p = pool(1);
  auto late = task(k, 0);
  late.expires = Clock::now();
  auto fine = task(k, 1);
  fine.expires = Clock::now() + 1h;
  p->push({late, fine});
  auto const ended = all(*p, 2);
  ASSERT_EQ(ended.size(), 2u);
  ASSERT_NE(ended[0].otherwise, nullptr);
  EXPECT_TRUE(ended[0].otherwise->expired);
  EXPECT_EQ(ended[1].otherwise, nullptr);
  EXPECT_EQ(runs, 1);
}

TEST_F(PoolTest, ArmIsRefusedWhileSomethingWaitsToBeHarvested) {
  std::latch ran{1};
  auto const k = kind([&](Job const&) -> Outcome { return ran.count_down(), Success{}; });
  auto const p = pool(1);
  p->push({task(k, 0)});
  ran.wait();
  EXPECT_TRUE(p->wait_quiet(Clock::now() + 30s));
  EXPECT_FALSE(p->arm(true, 0));
  std::vector<Ended> ended;
  p->harvest(ended);
  EXPECT_EQ(ended.size(), 1u);
  EXPECT_TRUE(p->arm(true, 0));
}

TEST_F(PoolTest, LowWaterWakesWhenTheQueueIsDown) {
  std::counting_semaphore<> go{0};
  auto const k = kind([&](Job const&) -> Outcome { return go.acquire(), Success{}; });
  auto const p = pool(1);
  p->push({task(k, 0), task(k, 1), task(k, 2), task(k, 3)});
  ASSERT_TRUE(p->arm(false, 1));
  go.release();  // three left to take, then two
  EXPECT_FALSE(wakes_.try_acquire_for(20ms));
  go.release();
  go.release();
  EXPECT_TRUE(wakes_.try_acquire_for(30s));
  go.release();
  EXPECT_EQ(all(*p, 4).size(), 4u);
}

TEST_F(PoolTest, AroundSeesEveryRun) {
  std::atomic<int> around{0};
  auto const k = kind([](Job const& job) -> Outcome {
    if (job.id() == 101) throw 17;
    return Success{};
  });
  auto const p = pool(2, [&](Job const&, std::function<Outcome()> const& next) {
    auto outcome = next();  // does not throw
    ++around;
    return outcome;
  });
  p->push({task(k, 0), task(k, 1)});
  auto const ended = all(*p, 2);
  EXPECT_EQ(around, 2);
  for (auto const& end : ended) EXPECT_EQ(end.otherwise != nullptr, end.id == 101);
}

TEST_F(PoolTest, CloseWaitsForHandlers) {
  std::latch started{1};
  std::atomic<bool> ended{false};
  auto const k = kind([&](Job const&) -> Outcome {
    started.count_down();
    std::this_thread::sleep_for(30ms);
    ended = true;
    return Success{};
  });
  auto p = pool(1);
  p->push({task(k, 0)});
  started.wait();
  EXPECT_EQ(p->running().size(), 1u);
  EXPECT_FALSE(p->inside());
  p.reset();
  EXPECT_TRUE(ended);
}

TEST(Run, EverythingThrownIsAnOutcome) {
  auto const outcome = [](auto thrown) {
    return run([&](Job const&) -> Outcome { throw thrown; }, {}, Job({}, {}, nullptr));
  };
  EXPECT_EQ(std::get<Discard>(outcome(Discard{"x"}).outcome).reason, "x");
  EXPECT_EQ(std::get<Snooze>(outcome(Snooze{milliseconds{3}}).outcome).delay.count(), 3);
  EXPECT_EQ(std::get<RetryAfter>(outcome(RetryAfter{milliseconds{4}, "r"}).outcome).delay.count(), 4);
  EXPECT_EQ(std::get<Failure>(outcome(Failure{.type = "t"}).outcome).type, "t");
  EXPECT_TRUE(std::holds_alternative<Success>(outcome(Outcome{Success{}}).outcome));
  EXPECT_EQ(std::get<Failure>(outcome(42).outcome).type, "int");
  EXPECT_EQ(std::get<Failure>(outcome("text").outcome).message, "text");
  EXPECT_EQ(std::get<Failure>(outcome(std::string("text")).outcome).message, "text");
  EXPECT_FALSE(outcome(std::runtime_error("e")).decode_error);
  auto const decode = outcome(DecodeError("$.a", "no number"));
  EXPECT_TRUE(decode.decode_error);
  EXPECT_EQ(std::get<Failure>(decode.outcome).type, "posthouse::DecodeError");
  EXPECT_EQ(std::get<Failure>(decode.outcome).message, "$.a: no number");
}

TEST(Run, HookMayReplaceTheOutcome) {
  Job const job({}, {}, nullptr);
  Handler const unreadable = [](Job const&) -> Outcome { throw DecodeError("$", "bad"); };
  auto const kept = run(
      unreadable, [](Job const&, auto const& next) { return next(); }, job);
  EXPECT_TRUE(kept.decode_error);
  auto const replaced = run(
      unreadable, [](Job const&, auto const& next) -> Outcome { return next(), Snooze{milliseconds{1}}; }, job);
  EXPECT_FALSE(replaced.decode_error);
  EXPECT_TRUE(std::holds_alternative<Snooze>(replaced.outcome));
  auto const thrown = run(
      unreadable, [](Job const&, auto const&) -> Outcome { throw std::logic_error("hook"); }, job);
  EXPECT_EQ(std::get<Failure>(thrown.outcome).message, "hook");
}

// The end that the watchdog makes comes first, whatever the handler says afterwards; it can complete nothing any more.
TEST_F(PoolTest, ASilentJobEndsTwiceAndCannotBeCompleted) {
  auto silent = kind([](Job const& job) -> Outcome {
    while (!job.stop_token().stop_requested()) std::this_thread::yield();
    NoDatabase none;
    EXPECT_THROW(job.complete(Transaction(none)), LeaseLost);
    return Success{json{"1"}, {}};
  });
  silent.options.retry_timer = 1ms;
  auto const p = pool(1);
  p->push({task(silent, 0)});
  auto const ended = all(*p, 2);
  ASSERT_TRUE(ended[0].otherwise);
  EXPECT_TRUE(ended[0].otherwise->silent);
  EXPECT_FALSE(ended[0].late);
  EXPECT_EQ(std::get<Failure>(ended[0].otherwise->run.outcome).type, "NoSignOfLife");
  EXPECT_TRUE(ended[1].late);
  EXPECT_EQ(ended[1].id, ended[0].id);
}

// Nobody else sees a completion in an open transaction: the watchdog looks at the other job, which began later, and not
// at this one.
TEST_F(PoolTest, WhoCompletesIsNotSilent) {
  std::latch completed(1);
  std::latch other(1);
  auto completes = kind([&](Job const& job) -> Outcome {
    NoDatabase none;
    job.complete(Transaction(none));
    completed.count_down();
    other.wait();
    return Success{};
  });
  auto silent = kind([&](Job const& job) -> Outcome {
    while (!job.stop_token().stop_requested()) std::this_thread::yield();
    other.count_down();
    return Success{};
  });
  completes.options.retry_timer = 20ms;
  silent.options.retry_timer = 20ms;
  auto const p = pool(2);
  p->push({task(completes, 0)});
  completed.wait();
  p->push({task(silent, 1)});
  for (auto const& ended : all(*p, 3)) {
    if (ended.position != 0) continue;
    EXPECT_FALSE(ended.otherwise);
    EXPECT_FALSE(ended.late);
  }
}

}  // namespace
}  // namespace posthouse::execute
