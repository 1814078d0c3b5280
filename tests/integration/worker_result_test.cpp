// SPDX-License-Identifier: Apache-2.0
// Results through workers and clients: what a handler returns is what a waiter gets.
#include <cmath>
#include <semaphore>
#include <thread>

#include "integration/worker_fixture.hpp"
#include "support/tcp_gate.hpp"

namespace posthouse::test {
namespace {

using ::testing::HasSubstr;

std::string all_bytes() {
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  return all;
}

class WorkerResult : public WorkerTest {
 protected:
  WorkerOptions once() {
    auto options = quick();
    options.once = true;
    return options;
  }
  Client client() { return Client({.database = options()}); }
};

TEST_F(WorkerResult, ComesBackAsItWasReturned) {
  Worker worker(once());
  worker.on("text", [](Job const&) { return json{R"({"n": 123456789012345678901234567890.50, "s": "☃\u00e9"})"}; });
  worker.on("bytes", [](Job const&) { return bytes{all_bytes()}; });
  worker.on("nothing", [](Job const&) {});
  worker.on("null", [](Job const&) { return json{"null"}; });
  worker.on("outcome", [](Job const&) -> Outcome { return Success{json{"[1]"}, {}}; });
  std::vector<std::int64_t> ids;
  for (auto const* kind : {"text", "bytes", "nothing", "null", "outcome"}) ids.push_back(enqueue(kind));
  work_once(worker);
  auto const got = client().wait_many(ids, 0ms);
  ASSERT_EQ(got.size(), 5U);
  for (auto const& outcome : got) {
    EXPECT_TRUE(outcome.succeeded()) << outcome.state;
    EXPECT_FALSE(outcome.result_problem);
    EXPECT_FALSE(outcome.error);
  }
  EXPECT_TRUE(got[0].result.is_json());
  EXPECT_EQ(got[0].result.data(), R"({"n": 123456789012345678901234567890.50, "s": "☃é"})");
  EXPECT_TRUE(got[1].result.is_bytes());
  EXPECT_EQ(got[1].result.data(), all_bytes());
  EXPECT_TRUE(got[2].result.is_null());
  EXPECT_TRUE(got[3].result.is_json());
  EXPECT_EQ(got[3].result.data(), "null");
  EXPECT_EQ(got[4].result.data(), "[1]");
  EXPECT_EQ(sql.number("select count(*) from result"), 4);
}

TEST_F(WorkerResult, OneThatCannotBeStoredIsToldAndTheJobHasSucceeded) {
  auto options = once();
  options.max_result_bytes = 100;
  Worker worker(std::move(options));
  worker.on("nul", [](Job const&) { return json{R"("\u0000")"}; });
  worker.on("large", [](Job const&) { return bytes{std::string(101, 'x')}; });
  worker.on("fits", [](Job const&) { return bytes{std::string(100, 'x')}; });
  worker.on("utf8", [](Job const&) { return json{"\"\xff\""}; });
  std::vector<std::int64_t> ids;
  for (auto const* kind : {"nul", "large", "utf8", "fits"}) ids.push_back(enqueue(kind));
  auto const stats = work_once(worker);
  EXPECT_EQ(stats.succeeded, 4);
  auto const got = client().wait_many(ids, 0ms);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(got[i].succeeded());
    EXPECT_TRUE(got[i].result.is_null());
    ASSERT_TRUE(got[i].result_problem);
    EXPECT_TRUE(logged("job=" + std::to_string(ids[i]) + " problem=" + *got[i].result_problem));
  }
  EXPECT_THAT(*got[1].result_problem, HasSubstr("101 bytes"));
  EXPECT_EQ(got[3].result.data().size(), 100U);
}

TEST_F(WorkerResult, IsThatOfTheLastAttempt) {
  auto const id = enqueue();
  Worker worker(once());
  worker.on("k", policy(3), [](Job const& job) {
    if (job.attempt() < 3) throw std::runtime_error("attempt " + std::to_string(job.attempt()));
    return json{std::to_string(job.attempt())};
  });
  work_once(worker);
  auto const got = client().wait(id, 0ms);
  EXPECT_TRUE(got.succeeded());
  EXPECT_EQ(got.result.data(), "3");
  EXPECT_EQ(got.error, "attempt 2");
}

TEST_F(WorkerResult, CompletionTakesItIntoTheHandlersTransaction) {
  auto const id = enqueue("given");
  auto const later = enqueue("returned");
  Worker worker(once());
  worker.on("given", policy(2), [&](Job const& job) {
    Sql own(url());
    own.exec("begin");
    job.complete(own.connection(), bytes{all_bytes()});
    if (job.attempt() == 1) throw std::runtime_error("rolled back with its result");
    own.exec("commit");
    return json{"\"not this one\""};
  });
  worker.on("returned", [&](Job const& job) {
    Sql own(url());
    own.exec("begin");
    job.complete(own.connection());
    own.exec("commit");
    return json{"5"};
  });
  work_once(worker);
  auto const got = client().wait(id, 0ms);
  EXPECT_TRUE(got.result.is_bytes());
  EXPECT_EQ(got.result.data(), all_bytes());
  EXPECT_EQ(client().wait(later, 0ms).result.data(), "5");
}

TEST_F(WorkerResult, AWaiterGetsItFromAnotherThread) {
  std::latch waiting(1);
  auto const id = enqueue();
  std::jthread waiter([&] {
    waiting.count_down();
    auto const got = client().wait(id, 30s);
    EXPECT_TRUE(got.succeeded()) << got.state;
    EXPECT_EQ(got.result.data(), "42");
  });
  waiting.wait();
  Worker worker(quick());
  worker.on("k", [](Job const&) { return json{"42"}; });
  worker.start();
  waiter.join();
}

TEST_F(WorkerResult, AWaitThatTakesTooLongSaysHowTheJobStands) {
  auto const id = enqueue();
  auto const got = client().wait(id, 20ms);
  EXPECT_EQ(got.state, "available");
  EXPECT_FALSE(got.ended());
  EXPECT_EQ(client().wait(12345, 1h).state, "not_found");
  EXPECT_THROW(client().wait(id, -1ms), InvalidArgument);
  Client nobody({.database_url = "host=/nonexistent dbname=x"});
  EXPECT_THROW(nobody.wait(id, 1h), Unavailable);
}

TEST_F(WorkerResult, ProgressIsSeenWhileTheJobRuns) {
  auto const id = enqueue();
  std::latch half(1);
  std::latch go(1);
  auto options = quick();
  options.heartbeat_interval = 10s;  // the reports do not wait for it
  Worker worker(std::move(options));
  worker.on("k", [&](Job const& job) {
    job.progress(0.25, "first");
    half.wait();
    for (int i = 0; i < 10'000; ++i) job.progress(0.25 + i / 40'000.0, "more");
    job.progress(0.5, std::string("half \0\xff", 7));
    go.wait();
  });
  worker.start();
  auto waiter = client();
  EXPECT_TRUE(eventually([&] { return waiter.wait(id, 0ms).progress_text == "first"; }));
  EXPECT_EQ(waiter.wait(id, 0ms).progress, 0.25);
  half.count_down();
  EXPECT_TRUE(eventually([&] { return waiter.wait(id, 0ms).progress == 0.5; }));
  EXPECT_EQ(waiter.wait(id, 0ms).progress_text, "half \xEF\xBF\xBD");
  EXPECT_LE(worker.stats().statements, 100) << "not one a call";
  go.count_down();
  EXPECT_TRUE(waiter.wait(id, 30s).succeeded());
  EXPECT_FALSE(waiter.wait(id, 0ms).progress);
}

TEST_F(WorkerResult, ProgressThatMakesNoSenseIsBounded) {
  auto const id = enqueue();
  std::counting_semaphore<> next(0);
  Worker worker(quick());
  worker.on("k", [&](Job const& job) {
    for (double const fraction : {-1.0, 7.0, std::nan("")}) {
      job.progress(fraction, std::string(5000, 'x') + std::to_string(fraction));
      next.acquire();
    }
  });
  worker.start();
  auto waiter = client();
  for (double const expected : {0.0, 1.0, 0.0}) {
    EXPECT_TRUE(eventually([&] { return waiter.wait(id, 0ms).progress == expected; })) << expected;
    EXPECT_EQ(waiter.wait(id, 0ms).progress_text.size(), 1000U);
    next.release();
  }
}

// More than one statement carries: every result arrives, and every job ends.
TEST_F(WorkerResult, ManyLargeOnesArriveWhole) {
  auto const ids = enqueue_some(40);
  auto options = once();
  options.concurrency = 4;
  options.max_result_bytes = 2 * 1024 * 1024;
  options.with_prefetch(60, 30s);
  Worker worker(std::move(options));
  worker.on("k", [](Job const& job) {
    return bytes{std::string(1'500'000, static_cast<char>('a' + job.id() % 26)) + std::to_string(job.id())};
  });
  EXPECT_EQ(work_once(worker).succeeded, 40);
  EXPECT_EQ(sql.number("select count(*) from result where length(value_bytes) = 1500000 + length(job::text) and "
                       "substr(value_bytes, 1500001) = convert_to(job::text, 'UTF8')"),
            40);
}

// The reply of an acknowledgement is lost: it is sent again, and the result is there once.
TEST_F(WorkerResult, SurvivesALostReply) {
  TcpGate gate(url());
  auto options = quick();
  options.database_url = gate.url();
  Worker worker(std::move(options));
  std::latch running(1);
  std::latch go(1);
  std::atomic<int> runs{0};
  worker.on("k", [&](Job const&) {
    if (++runs == 1) {
      running.count_down();
      go.wait();
    }
    return bytes{all_bytes()};
  });
  auto const id = enqueue();
  worker.start();
  running.wait();
  gate.lose_reply(R"("bytes":"{\"AAEC)");
  go.count_down();
  auto const got = client().wait(id, 30s);
  EXPECT_TRUE(got.succeeded()) << got.state;
  EXPECT_EQ(got.result.data(), all_bytes());
  EXPECT_TRUE(eventually([&] { return gate.sprung(); }));
  auto const next = enqueue();
  EXPECT_TRUE(client().wait(next, 30s).succeeded()) << "works again";
  EXPECT_EQ(sql.number("select count(*) from result"), 2);
}

TEST_F(WorkerResult, AnOldClaimOfAWorkerThatWasTakenForDeadStoresNothing) {
  auto const id = enqueue();
  Worker stale(quick());
  std::latch running(1);
  std::latch go(1);
  std::atomic<int> runs{0};
  stale.on("k", [&](Job const&) {
    if (++runs == 1) {
      running.count_down();
      go.wait();
      return json{"\"stale\""};
    }
    return json{"\"right\""};
  });
  stale.start();
  running.wait();
  expire(sql, stale.incarnation());
  EXPECT_TRUE(eventually([&] { return runs > 1 || sql.number("select reap()") > 0; }));
  EXPECT_EQ(client().wait(id, 30s).result.data(), "\"right\"");
  go.count_down();
  stale.stop();
  EXPECT_EQ(client().wait(id, 0ms).result.data(), "\"right\"");
}

}  // namespace
}  // namespace posthouse::test
