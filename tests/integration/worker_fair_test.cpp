// SPDX-License-Identifier: Apache-2.0
// Kinds of one priority take turns, whatever their backlogs: the bound of docs/internals/engine.md.
#include <gmock/gmock.h>

#include "integration/worker_fixture.hpp"

namespace posthouse::test {
namespace {

class WorkerFair : public WorkerTest, public ::testing::WithParamInterface<int> {};

TEST_P(WorkerFair, ASmallBacklogStartsBetweenLargeOnes) {
  int const slots = GetParam();
  std::vector<std::string> const kinds{"a", "b", "c", "d"};
  sql.exec(
      "select enqueue('a') from generate_series(1, 400); select enqueue('b', queue => 'other') from generate_series(1, "
      "400); select enqueue('c') from generate_series(1, 400); select enqueue('d') from generate_series(1, 20);"
      "select enqueue('e', priority => -1) from generate_series(1, 20)");
  auto options = quick();
  options.once = true;
  options.concurrency = slots;
  Worker worker(options);
  std::mutex mutex;
  std::string starts;
  for (auto const* kind : {"a", "b", "c", "d", "e"}) {
    worker.on(kind, [&, kind](Job const&) {
      std::lock_guard const lock(mutex);
      starts += kind;
    });
  }
  work_once(worker);
  ASSERT_EQ(starts.size(), 1240U);
  // K - 1 lanes, a claim of `slots` jobs each, and what the worker held already.
  auto const bound = static_cast<std::size_t>((static_cast<int>(kinds.size()) - 1) * slots + slots);
  std::size_t last = 0;
  for (int i = 0; i < 20; ++i) {
    auto const next = starts.find('d', last);
    ASSERT_NE(next, std::string::npos);
    EXPECT_LE(next - last, bound) << "job " << i << " of d";
    last = next + 1;
  }
  EXPECT_GE(starts.find('e'), 1220U - bound) << "a lower priority waits";
}

INSTANTIATE_TEST_SUITE_P(Slots, WorkerFair, ::testing::Values(1, 4));

}  // namespace
}  // namespace posthouse::test
