// SPDX-License-Identifier: Apache-2.0
// Limits with real workers: handlers count how many of them run at once; rates are replayed from the bucket's rows.
#include <atomic>
#include <latch>
#include <thread>

#include "integration/worker_fixture.hpp"

namespace posthouse::test {
namespace {

class WorkerLimits : public WorkerTest {
 protected:
  std::vector<std::unique_ptr<Worker>> fleet(int workers, HandlerOptions const& options, WorkerOptions const& base) {
    std::vector<std::unique_ptr<Worker>> all;
    for (int i = 0; i < workers; ++i) {
      all.push_back(std::make_unique<Worker>(base));
      all.back()->on("k", options, [this](Job const&) {
        int const now = ++running_;
        int seen = most_.load();
        while (seen < now && !most_.compare_exchange_weak(seen, now)) {
        }
        std::this_thread::yield();
        --running_;
      });
    }
    return all;
  }
  static void run(std::vector<std::unique_ptr<Worker>> const& all) {
    for (auto const& worker : all) worker->start();
    for (auto const& worker : all) worker->wait();
  }

  std::atomic<int> running_{0};
  std::atomic<int> most_{0};
};

TEST_F(WorkerLimits, AFleetKeepsTheLimitOfAKindAndDrains) {
  enqueue_some(200);
  auto options = quick();
  options.concurrency = 4;
  options.once = true;
  run(fleet(3, {.concurrency_limit = 2}, options));
  EXPECT_EQ(jobs_in("succeeded"), 200);
  EXPECT_LE(most_.load(), 2);
  EXPECT_GE(most_.load(), 1);
}

TEST_F(WorkerLimits, AQueueAndTheWholeWithPrefetch) {
  enqueue_some(200);
  auto options = quick().with_prefetch(50, 30s);
  options.concurrency = 4;
  options.once = true;
  options.queue_limits["default"].max_concurrency = 3;
  options.cluster_wide_cap = 2;
  run(fleet(2, {}, options));
  EXPECT_EQ(jobs_in("succeeded"), 200);
  EXPECT_LE(most_.load(), 2);
  EXPECT_EQ(sql.column("select scope || ' ' || concurrency from limits"),
            (std::vector<std::string>{"all 2", "queue 3"}));
}

// Nobody enqueues and nobody acks: the worker comes back by itself.
TEST_F(WorkerLimits, RoomThatOthersMakeIsFound) {
  enqueue_some(2);
  sql.rows("select set_limit('kind', 'k', 1)");
  Hand other(sql);
  auto const got = other.claim(1);
  ASSERT_EQ(got.size(), 1U);
  auto const all = fleet(1, {}, quick());
  all[0]->start();
  ASSERT_TRUE(eventually([&] { return all[0]->stats().empty_claims >= 2; }));
  EXPECT_EQ(all[0]->stats().claimed, 0);
  other.finish(got[0].token);
  EXPECT_TRUE(eventually([&] { return jobs_in("succeeded") == 2; }));
}

TEST_F(WorkerLimits, ARateIsKeptAndReached) {
  enqueue_some(40);
  auto options = quick();
  options.once = true;
  run(fleet(2, {.requests_per_second = 50, .burst = 2}, options));
  EXPECT_EQ(jobs_in("succeeded"), 40);
  // Between any two rows of the bucket no more jobs started than the burst and the time allow.
  EXPECT_EQ(
      sql.number("select count(*) from batch x, batch y where y.claimed_at > x.claimed_at and (select sum(z.n) from "
                 "batch z where z.claimed_at between x.claimed_at and y.claimed_at) > 2 + 1 + 50 * extract(epoch "
                 "from y.claimed_at - x.claimed_at)"),
      0);
  EXPECT_EQ(sql.number("select count(*) from limit_bucket where tokens < 0 or tokens > 2"), 0);
  std::printf("  40 jobs at 50 a second, burst 2: %s s\n",
              sql.one("select extract(epoch from max(claimed_at) - min(claimed_at)) from batch").c_str());
}

TEST_F(WorkerLimits, TheLastStartWinsAndIsLogged) {
  auto options = quick();
  options.once = true;
  run(fleet(1, {.concurrency_limit = 2}, options));
  EXPECT_TRUE(logged("limit changed before=none name=k now=2 at once scope=kind"));
  run(fleet(1, {.concurrency_limit = 3, .requests_per_second = 0.5}, options));
  EXPECT_TRUE(logged("limit changed before=2 at once name=k now=3 at once, 0.5 a second scope=kind"));
  run(fleet(1, {}, options));
  EXPECT_EQ(sql.number("select count(*) from limits"), 0);
}

TEST_F(WorkerLimits, OptionsOutOfRange) {
  Worker worker(quick());
  auto const handler = [](Job const&) {};
  EXPECT_THROW(worker.on("k", {.concurrency_limit = -1}, handler), InvalidArgument);
  EXPECT_THROW(worker.on("k", {.requests_per_second = -1}, handler), InvalidArgument);
  EXPECT_THROW(worker.on("k", {.burst = 2}, handler), InvalidArgument);
  auto options = quick();
  options.queue_limits["a b"].max_concurrency = 1;
  EXPECT_THROW(Worker{options}, InvalidArgument);
  options = quick();
  options.cluster_wide_cap = -1;
  EXPECT_THROW(Worker{options}, InvalidArgument);
}

}  // namespace
}  // namespace posthouse::test
