// SPDX-License-Identifier: Apache-2.0
// retry_timer: a job whose handler gives no sign of life goes to others, and the handler's own end counts for nothing.
#include <future>
#include <semaphore>
#include <thread>

#include "integration/worker_fixture.hpp"

namespace posthouse::test {
namespace {

using ::testing::HasSubstr;

class WorkerSilent : public WorkerTest {
 protected:
  static HandlerOptions timer(milliseconds time, int max_attempts = 3) {
    auto options = policy(max_attempts, {1h});
    options.retry_timer = time;
    return options;
  }
  std::string error_type(std::int64_t id) { return sql.one("select type from attempt_error where job = $1", id); }
};

TEST_F(WorkerSilent, GoesToAnotherWorkerAndItsCompletionIsRefused) {
  sql.exec("create table effect (attempt int)");
  auto const id = enqueue();
  std::promise<void> taken;
  std::promise<std::string> answer;
  std::binary_semaphore go_on(0);
  auto const handler = [&](Job const& job) {
    Sql own = open();
    own.exec("begin; insert into effect values (" + std::to_string(job.attempt()) + ")");
    if (job.attempt() == 1) {
      taken.set_value();
      go_on.acquire();
      EXPECT_TRUE(job.stop_token().stop_requested());
      try {
        job.complete(own.connection());
        answer.set_value("accepted");
      } catch (LeaseLost const& error) {
        answer.set_value(error.what());
        throw;
      }
    } else {
      job.complete(own.connection());
    }
    own.exec("commit");
  };
  auto options = quick();
  options.concurrency = 1;
  Worker stuck(options);
  stuck.on("k", timer(50ms), handler);
  stuck.start();
  taken.get_future().get();
  // One handler thread, and that is taken: nobody but the second worker can run the next attempt.
  Worker second(options);
  second.on("k", timer(10min), handler);
  second.start();
  EXPECT_TRUE(eventually([&] { return state(id) == "succeeded"; }));
  go_on.release();
  EXPECT_THAT(answer.get_future().get(), HasSubstr("another worker's"));
  EXPECT_TRUE(eventually([&] { return stuck.stats().lease_lost == 1; }));
  stuck.stop();
  second.stop();
  EXPECT_EQ(sql.one("select string_agg(attempt::text, ',') from effect"), "2");
  EXPECT_EQ(error_type(id), "NoSignOfLife");
  EXPECT_EQ(attempt(id), 2);
  EXPECT_EQ(stuck.stats().succeeded, 0);
  EXPECT_EQ(stuck.stats().failed, 1);
  EXPECT_EQ(second.stats().succeeded, 1);
  EXPECT_TRUE(logged("counts for nothing job=" + std::to_string(id)));
}

// What the late handler returns or throws is not reported, and its thread is free again afterwards.
TEST_F(WorkerSilent, ALateEndCountsForNothing) {
  for (bool const throws : {false, true}) {
    auto const id = enqueue();
    auto options = quick();
    options.concurrency = 1;
    Worker worker(options);
    worker.on("k", timer(50ms), [&](Job const& job) -> Outcome {
      if (job.attempt() > 1) return Success{json{"2"}, {}};
      std::promise<void> asked;
      std::stop_callback const callback(job.stop_token(), [&] { asked.set_value(); });
      asked.get_future().get();
      if (throws) throw std::runtime_error("late");
      return Success{json{"1"}, {}};
    });
    worker.start();
    EXPECT_TRUE(eventually([&] { return state(id) == "succeeded"; }));
    worker.stop();
    EXPECT_EQ(Client({.database = WorkerTest::options()}).wait(id, 0ms).result.data(), "2");
    EXPECT_EQ(errors_of(id), 1);
    EXPECT_EQ(worker.stats().lease_lost, 1);
  }
}

TEST_F(WorkerSilent, TheLastAttemptFails) {
  auto const id = enqueue();
  Worker worker(quick());
  worker.on("k", timer(50ms, 1), [&](Job const& job) {
    std::promise<void> asked;
    std::stop_callback const callback(job.stop_token(), [&] { asked.set_value(); });
    asked.get_future().get();
  });
  worker.start();
  EXPECT_TRUE(eventually([&] { return state(id) == "failed"; }));
  worker.stop();
  EXPECT_THAT(sql.one("select reason from dead"), HasSubstr("retry_timer"));
}

TEST_F(WorkerSilent, SignsOfLifeKeepAJob) {
  auto const beating = enqueue("beating");
  auto const telling = enqueue("telling");
  auto const work = [](auto const& sign) {
    auto const until = std::chrono::steady_clock::now() + 4s;
    while (std::chrono::steady_clock::now() < until) {
      sign();
      std::this_thread::sleep_for(1ms);
    }
  };
  auto options = quick();
  options.once = true;
  Worker worker(options);
  worker.on("beating", timer(2s), [&](Job const& job) { work([&] { job.heartbeat(); }); });
  worker.on("telling", timer(2s), [&](Job const& job) { work([&] { job.progress(0.5); }); });
  EXPECT_EQ(work_once(worker).succeeded, 2);
  for (auto const id : {beating, telling}) {
    EXPECT_EQ(state(id), "succeeded");
    EXPECT_EQ(errors_of(id), 0);
  }
}

// A completion may sit in an open transaction, where nobody sees it: such a job is never given away.
TEST_F(WorkerSilent, OneThatIsBeingCompletedStays) {
  auto const id = enqueue("completes");
  std::promise<void> completed;
  std::promise<void> other_taken;
  Worker worker(quick());
  worker.on("completes", timer(50ms), [&](Job const& job) {
    Sql own(url());
    own.exec("begin");
    job.complete(own.connection());
    completed.set_value();
    // The timer of this one has run out as well when that of the other, which began later, has.
    other_taken.get_future().get();
    own.exec("commit");
  });
  worker.on("silent", timer(50ms), [&](Job const& job) {
    if (job.attempt() > 1) return;
    std::promise<void> asked;
    std::stop_callback const callback(job.stop_token(), [&] { asked.set_value(); });
    asked.get_future().get();
    other_taken.set_value();
  });
  worker.start();
  completed.get_future().get();
  enqueue("silent");
  EXPECT_TRUE(eventually([&] { return state(id) == "succeeded"; }));
  worker.stop();
  EXPECT_EQ(errors_of(id), 0);
  EXPECT_EQ(worker.stats().lease_lost, 1) << "the other one's";
}

}  // namespace
}  // namespace posthouse::test
