// SPDX-License-Identifier: Apache-2.0
#include "base/service.hpp"

#include <gtest/gtest.h>
#include <pthread.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <latch>
#include <vector>

namespace posthouse::base {
namespace {

/// A body that waits until it is asked to stop.
struct Waiter {
  std::mutex mutex;
  std::condition_variable_any changed;
  std::atomic<int> begun{0};
  std::atomic<int> ended{0};

  void operator()(std::stop_token const& stop) {
    std::unique_lock lock(mutex);
    ++begun;
    begun.notify_all();
    changed.wait(lock, stop, [] { return false; });
    ++ended;
  }
};

TEST(Service, StartAndStopAreIdempotentAndRepeatable) {
  Waiter waiter;
  Service service("waiter", [&](std::stop_token stop) { waiter(stop); });
  service.stop();
  for (int round = 1; round <= 3; ++round) {
    service.start();
    service.start();
    EXPECT_TRUE(service.running());
    waiter.begun.wait(round - 1);
    service.stop();
    EXPECT_EQ(waiter.ended, round);
    EXPECT_FALSE(service.running());
    service.stop();
  }
  EXPECT_EQ(waiter.begun, 3);
}

TEST(Service, DestructorStops) {
  Waiter waiter;
  {
    Service service("waiter", [&](std::stop_token stop) { waiter(stop); });
    service.start();
    waiter.begun.wait(0);
  }
  EXPECT_EQ(waiter.ended, 1);
}

TEST(Service, WakeIsCalledOnceARequest) {
  Waiter waiter;
  std::atomic<int> wakes{0};
  Service service(
      "waiter", [&](std::stop_token stop) { waiter(stop); }, [&] { ++wakes; });
  service.request_stop();
  EXPECT_EQ(wakes, 0);
  service.start();
  service.request_stop();
  service.request_stop();
  service.stop();
  EXPECT_EQ(wakes, 1);
}

TEST(Service, ManyStopsAtOnceAllReturnWhenStopped) {
  Waiter waiter;
  Service service("waiter", [&](std::stop_token stop) { waiter(stop); });
  for (int round = 1; round <= 20; ++round) {
    service.start();
    waiter.begun.wait(round - 1);
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, round] {
        service.stop();
        EXPECT_EQ(waiter.ended, round);
      });
    }
  }
}

TEST(Service, StopFromItsOwnThreadDoesNotDeadlock) {
  std::latch ready(1);
  Service* self = nullptr;
  Service service("self", [&](std::stop_token stop) {
    ready.wait();
    self->stop();
    EXPECT_TRUE(stop.stop_requested());
  });
  self = &service;
  service.start();
  ready.count_down();
  service.stop();
  EXPECT_FALSE(service.running());
}

TEST(Service, ABodyThatEndedIsStartedAgain) {
  std::atomic<int> runs{0};
  Service service("short", [&](std::stop_token) { ++runs; });
  service.start();
  while (service.running()) std::this_thread::yield();
  service.start();
  service.stop();
  EXPECT_EQ(runs, 2);
}

TEST(Service, NamesItsThread) {
  std::array<char, 16> name{};
  Service service("a-name-that-is-too-long",
                  [&](std::stop_token) { ::pthread_getname_np(::pthread_self(), name.data(), name.size()); });
  service.start();
  service.stop();
  EXPECT_STREQ(name.data(), "a-name-that-is-");
}

}  // namespace
}  // namespace posthouse::base
