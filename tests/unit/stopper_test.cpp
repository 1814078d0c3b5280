// SPDX-License-Identifier: Apache-2.0
// What ends the statements of jobs that are asked to stop: cancels, then worse, and nothing once the watch is over.
#include "node/stopper.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace posthouse::node {
namespace {

using namespace std::chrono_literals;

TEST(Stopper, CancelsThenKillsThenSevers) {
  Stopper stopper(20ms);
  std::stop_source source;
  std::mutex mutex;
  std::vector<std::string> order;
  auto const note = [&](std::string const& what) {
    std::lock_guard const lock(mutex);
    if (order.empty() || order.back() != what) order.push_back(what);
  };
  std::latch severed(1);
  std::atomic<bool> once = false;
  {
    Stopper::Watch const watch(stopper, source.get_token(),
                               {.cancel = [&] { note("cancel"); },
                                .kill = [&] { note("kill"); },
                                .sever =
                                    [&] {
                                      note("sever");
                                      if (!once.exchange(true)) severed.count_down();
                                    }});
    source.request_stop();
    severed.wait();
  }
  std::lock_guard const lock(mutex);
  ASSERT_FALSE(order.empty());
  EXPECT_EQ(order.back(), "sever");
  // A machine that is busy may miss a stage, but never goes back.
  EXPECT_LE(order.size(), 3U);
}

TEST(Stopper, DoesNothingUnasked) {
  Stopper stopper(1ms);
  std::stop_source source;
  int calls = 0;
  {
    auto const count = [&] { ++calls; };
    Stopper::Watch const watch(stopper, source.get_token(), {.cancel = count, .kill = count, .sever = count});
  }
  source.request_stop();
  EXPECT_EQ(calls, 0);
}

// A cancel that is on its way when the job ends would hit the next one.
TEST(Stopper, TheWatchEndsAfterWhatIsOnItsWay) {
  Stopper stopper(1h);
  std::stop_source source;
  std::latch began(1);
  std::latch go_on(1);
  std::atomic<bool> ended = false;
  std::atomic<int> calls = 0;
  auto watch = std::make_unique<Stopper::Watch>(stopper, source.get_token(), Stopper::Ways{.cancel = [&] {
                                                  if (++calls > 1) return;
                                                  began.count_down();
                                                  go_on.wait();
                                                  ended = true;
                                                }});
  source.request_stop();
  began.wait();
  std::jthread const other([&] { go_on.count_down(); });
  watch.reset();
  EXPECT_TRUE(ended);
  int const seen = calls;
  // Another round for another job: the first is not called any more.
  std::stop_source second;
  std::latch called(1);
  std::atomic<bool> once = false;
  Stopper::Watch const next(stopper, second.get_token(), {.cancel = [&] {
                              if (!once.exchange(true)) called.count_down();
                            }});
  second.request_stop();
  called.wait();
  EXPECT_EQ(calls, seen);
}

TEST(Stopper, AStopThatCameBeforeCounts) {
  Stopper stopper(1h);
  std::stop_source source;
  source.request_stop();
  std::latch called(1);
  std::atomic<bool> once = false;
  Stopper::Watch const watch(stopper, source.get_token(), {.cancel = [&] {
                               if (!once.exchange(true)) called.count_down();
                             }});
  called.wait();
}

}  // namespace
}  // namespace posthouse::node
