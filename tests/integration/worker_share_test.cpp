// SPDX-License-Identifier: Apache-2.0
// Weights of kinds and fair_by as a worker keeps them: the bounds of docs/guides/limits.md, counted in jobs.
#include <gmock/gmock.h>

#include <algorithm>

#include "integration/worker_fixture.hpp"

namespace posthouse::test {
namespace {

class WorkerShare : public WorkerTest {
 protected:
  std::string starts() {
    std::lock_guard const lock(mutex_);
    return starts_;
  }
  void noted(char const* what) {
    std::lock_guard const lock(mutex_);
    starts_ += what;
  }
  std::size_t count(std::string const& text, char what) {
    return static_cast<std::size_t>(std::count(text.begin(), text.end(), what));
  }

 private:
  std::mutex mutex_;
  std::string starts_;
};

// With one slot each claim is a turn of one job: of ten turns six, three and one.
TEST_F(WorkerShare, WeightsAreKeptExactlyInEachRound) {
  sql.exec(
      "select enqueue('a') from generate_series(1, 300); select enqueue('b', queue => 'q') from generate_series(1, "
      "150);"
      "select enqueue('c') from generate_series(1, 50)");
  auto options = quick();
  options.once = true;
  options.concurrency = 1;
  Worker worker(options);
  worker.on("a", {.weight = 6}, [&](Job const&) { noted("a"); });
  worker.on("b", {.weight = 3}, [&](Job const&) { noted("b"); });
  worker.on("c", [&](Job const&) { noted("c"); });
  work_once(worker);
  auto const all = starts();
  ASSERT_EQ(all.size(), 500U);
  // The first claims are made before the worker knows the lanes; the last when one kind has none left.
  for (std::size_t from = 20; from + 10 <= 450; ++from) {
    auto const round = all.substr(from, 10);
    ASSERT_EQ(count(round, 'a'), 6U) << from << ": " << round;
    ASSERT_EQ(count(round, 'b'), 3U) << from << ": " << round;
  }
}

TEST_F(WorkerShare, AnOperatorsWeightCountsAtOnceAndTheDeclarationAfterReset) {
  sql.exec("select enqueue('a') from generate_series(1, 500); select enqueue('b') from generate_series(1, 500)");
  auto options = quick();
  options.concurrency = 1;
  Worker worker(options);
  worker.on("a", {.weight = 2}, [&](Job const&) { noted("a"); });
  worker.on("b", [&](Job const&) { noted("b"); });
  worker.start();
  // Of the last twelve starts: 8 and 4 as declared, 3 and 9 as set.
  auto const share_of_a = [&] {
    auto const all = starts();
    return all.size() < 12 ? 0 : count(all.substr(all.size() - 12), 'a');
  };
  auto const more = [&] { sql.exec("select enqueue(k) from unnest('{a,b}'::text[]) k, generate_series(1, 100)"); };
  EXPECT_TRUE(eventually([&] {
    more();
    return share_of_a() == 8;
  }));
  sql.exec(R"(select set_kind('a', '{"weight": 1}'); select set_kind('b', '{"weight": 3}'))");
  EXPECT_TRUE(eventually([&] {
    more();
    return share_of_a() == 3;
  }));
  sql.exec("select reset_kind('a'), reset_kind('b')");
  EXPECT_TRUE(eventually([&] {
    more();
    return share_of_a() == 8;
  }));
  worker.stop();
  EXPECT_EQ(sql.number("select count(*) from kind_settings where origin = 'declared'"), 1);
}

class WorkerShareSlots : public WorkerShare, public ::testing::WithParamInterface<int> {};

// M tenants and another kind: between a tenant's job and its turn lie at most a turn of each other tenant, and a turn of
// the other kind before each of these.
TEST_P(WorkerShareSlots, ThousandsOfJobsOfOneTenantDelayAnothersByATurn) {
  int const slots = GetParam();
  sql.exec(
      "select set_kind('k', '{\"fair_by\": \"header:tenant\"}');"
      "select enqueue('k', headers => '{\"tenant\": \"large\"}');"
      "insert into job (lane, headers) select j.lane, j.headers from job j, generate_series(1, 20000);"
      "select enqueue('other') from generate_series(1, 3000);"
      "select enqueue('k', headers => '{\"tenant\": \"middle\"}') from generate_series(1, 200);"
      "select enqueue('k', headers => '{\"tenant\": \"small\"}') from generate_series(1, 10)");
  auto options = quick();
  options.concurrency = slots;
  Worker worker(options);
  worker.on("k", {.fair_by = "header:tenant"}, [&](Job const& job) {
    auto const& tenant = job.headers().at("tenant");
    noted(tenant == "large" ? "l" : tenant == "middle" ? "m" : "s");
  });
  worker.on("other", [&](Job const&) { noted("o"); });
  worker.start();
  EXPECT_TRUE(eventually([&] { return count(starts(), 's') == 10; }));
  worker.stop();
  auto const all = starts();
  // Turns of others: large and middle, and other before each of them and before its own; each of `slots` jobs; and what
  // the worker held already.
  auto const bound = static_cast<std::size_t>(5 * slots + slots);
  std::size_t last = 0;
  for (int i = 0; i < 10; ++i) {
    auto const next = all.find('s', last);
    ASSERT_NE(next, std::string::npos);
    EXPECT_LE(next - last, bound) << "job " << i << " of the small tenant";
    last = next + 1;
  }
  EXPECT_GE(count(all.substr(0, last), 'o') + slots, count(all.substr(0, last), 'l'))
      << "tenants do not take turns from other kinds";
}

INSTANTIATE_TEST_SUITE_P(Slots, WorkerShareSlots, ::testing::Values(1, 4));

}  // namespace
}  // namespace posthouse::test
