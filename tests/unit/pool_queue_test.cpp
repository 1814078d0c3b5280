// SPDX-License-Identifier: Apache-2.0
// The queue of a pool with connections that are none.
#include "pg/pool_queue.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <set>
#include <thread>
#include <vector>

namespace posthouse::pg {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using Clock = PoolQueue::Clock;

/// What the items of one test have in common.
struct World {
  std::atomic<int> live{0};
  std::atomic<int> most{0};
  std::atomic<int> made{0};
  std::atomic<int> pings{0};
  std::atomic<int> unlooked{0};
  std::atomic<bool> fail{false};
  std::set<int> dead{};    // answer no look
  std::set<int> silent{};  // answer no ping
  Clock::time_point now{Clock::now()};
};

class Item final : public PoolItem {
 public:
  Item(World& world, int which) : number(which), world_(world) {
    int const live = ++world_.live;
    int most = world_.most;
    while (live > most && !world_.most.compare_exchange_weak(most, live)) {
    }
  }
  ~Item() override { --world_.live; }
  bool alive() noexcept override { return !world_.dead.contains(number); }
  bool ping() noexcept override { return ++world_.pings, !world_.silent.contains(number); }
  void unlooked() noexcept override { ++world_.unlooked; }
  int const number;

 private:
  World& world_;
};

class PoolQueueTest : public ::testing::Test {
 protected:
  std::unique_ptr<PoolQueue> queue(PoolQueue::Rules rules) {
    return std::make_unique<PoolQueue>(
        std::move(rules),
        [this]() -> std::unique_ptr<PoolItem> {
          if (world.fail) throw Unavailable("no server");
          return std::make_unique<Item>(world, ++world.made);
        },
        [this] { return world.now; });
  }
  static int number_of(PoolQueue::Slot const& slot) { return static_cast<Item const&>(*slot.item).number; }
  static std::string refusal(auto call) {
    try {
      call();
    } catch (Error const& error) {
      return error.what();
    }
    return "nothing was thrown";
  }
  /// Until so many wait. They come one after another, so that their order is known.
  static void until_waiting(PoolQueue const& queue, int n) {
    while (queue.stats().waiting < n) std::this_thread::yield();
  }

  World world;
};

TEST_F(PoolQueueTest, TheWarmestIsUsedAgain) {
  auto const q = queue({});
  auto& a = q->acquire("a");
  auto& b = q->acquire("b");
  EXPECT_FALSE(a.reused);
  q->give_back(a, true);
  q->give_back(b, true);
  auto& again = q->acquire("c");
  EXPECT_EQ(number_of(again), 2);
  EXPECT_TRUE(again.reused);
  q->give_back(again, true);
  auto const stats = q->stats();
  EXPECT_EQ(stats.opened, 2);
  EXPECT_EQ(stats.acquired, 3);
  EXPECT_EQ(stats.idle, 2);
  EXPECT_EQ(stats.in_use, 0);
  EXPECT_EQ(stats.waits, 0);
}

TEST_F(PoolQueueTest, OverflowIsClosedWhenItComesBack) {
  auto const q = queue({.size = 1, .overflow = 2});
  auto& a = q->acquire("a");
  auto& b = q->acquire("b");
  auto& c = q->acquire("c");
  EXPECT_EQ(q->stats().overflow, 2);
  q->give_back(a, true);
  EXPECT_EQ(world.live, 3);
  q->give_back(b, true);
  q->give_back(c, true);
  EXPECT_EQ(world.live, 1);
  auto const stats = q->stats();
  EXPECT_EQ(stats.open, 1);
  EXPECT_EQ(stats.overflow, 0);
  EXPECT_EQ(stats.closed, 2);
  EXPECT_EQ(stats.shrunk, 2);
}

TEST_F(PoolQueueTest, TheTimeoutNamesPoolSizeAndHolders) {
  auto const q = queue({.name = "web", .size = 2, .overflow = 2, .timeout = 1ms});
  std::vector<PoolQueue::Slot*> held;
  for (auto const* label : {"report", "import", "Client", "late"}) {
    held.push_back(&q->acquire(label));
    world.now += 1500ms;
  }
  auto const text = refusal([&] { q->acquire("one too many"); });
  EXPECT_EQ(
      text,
      "pool 'web': no connection came free within 1 ms; 4 of 4 are in use (pool_size 2, max_overflow 2), 0 others "
      "wait; held longest by \"report\" for 6.0 s, \"import\" for 4.5 s, \"Client\" for 3.0 s");
  auto const stats = q->stats();
  EXPECT_EQ(stats.timeouts, 1);
  EXPECT_EQ(stats.waits, 1);
  EXPECT_EQ(stats.waiting, 0);
  EXPECT_EQ(stats.longest_holder, "report");
  EXPECT_EQ(stats.longest_held, 6s);
  for (auto* slot : held) q->give_back(*slot, true);
  EXPECT_EQ(q->stats().longest_holder, "");
}

TEST_F(PoolQueueTest, FirstComeFirstServed) {
  auto const q = queue({.size = 1, .overflow = 0});
  auto* held = &q->acquire("first");
  constexpr int callers = 16;
  std::vector<int> order;  // written by who has the only connection
  std::vector<std::thread> threads;
  for (int i = 0; i < callers; ++i) {
    threads.emplace_back([&, i] {
      auto& slot = q->acquire("caller");
      order.push_back(i);
      q->give_back(slot, true);
    });
    until_waiting(*q, i + 1);
  }
  q->give_back(*held, true);
  for (auto& thread : threads) thread.join();
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  EXPECT_EQ(order.size(), callers);
  EXPECT_EQ(world.made, 1);
}

// Whoever gives back and comes again stands behind those who wait.
TEST_F(PoolQueueTest, ALateComerDoesNotOvertake) {
  auto const q = queue({.size = 1, .overflow = 0});
  auto* held = &q->acquire("greedy");
  std::atomic<bool> served{false};
  std::thread waiter([&] {
    auto& slot = q->acquire("waiter");
    served = true;
    q->give_back(slot, true);
  });
  until_waiting(*q, 1);
  q->give_back(*held, true);
  held = &q->acquire("greedy");
  EXPECT_TRUE(served);
  q->give_back(*held, true);
  waiter.join();
}

TEST_F(PoolQueueTest, ManyThreadsShareFewAndNeverMore) {
  auto const q = queue({.size = 2, .overflow = 1});
  constexpr int callers = 16, turns = 400;
  std::vector<int> done(callers, 0);
  std::vector<std::thread> threads;
  for (int i = 0; i < callers; ++i) {
    threads.emplace_back([&, i] {
      for (int turn = 0; turn < turns; ++turn) {
        auto& slot = q->acquire("caller");
        ++done[static_cast<std::size_t>(i)];
        std::this_thread::yield();
        q->give_back(slot, turn % 7 != 0);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (int const n : done) EXPECT_EQ(n, turns);
  EXPECT_LE(world.most, 3);
  auto const stats = q->stats();
  EXPECT_EQ(stats.acquired, callers * turns);
  EXPECT_EQ(stats.opened - stats.closed, stats.open);
  EXPECT_EQ(stats.open, world.live);
  EXPECT_EQ(stats.in_use, 0);
}

TEST_F(PoolQueueTest, ABrokenOneMakesRoomForWhoWaits) {
  auto const q = queue({.size = 1, .overflow = 0});
  auto* held = &q->acquire("first");
  int number = 0;
  std::thread waiter([&] {
    auto& slot = q->acquire("waiter");
    number = number_of(slot);
    q->give_back(slot, true);
  });
  until_waiting(*q, 1);
  q->give_back(*held, false);
  waiter.join();
  EXPECT_EQ(number, 2);
  EXPECT_EQ(world.most, 1) << "the broken one is closed first";
  EXPECT_EQ(q->stats().discarded, 1);
}

TEST_F(PoolQueueTest, AFailureToOpenGivesTheTurnOn) {
  auto const q = queue({.size = 1, .overflow = 0});
  world.fail = true;
  EXPECT_EQ(refusal([&] { q->acquire("a"); }), "no server");
  EXPECT_EQ(q->stats().open, 0);
  world.fail = false;
  auto* held = &q->acquire("b");
  world.fail = true;
  std::vector<std::thread> threads;
  std::atomic<int> refused{0};
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] { refused += refusal([&] { q->acquire("waiter"); }) == "no server" ? 1 : 0; });
  }
  until_waiting(*q, 3);
  q->give_back(*held, false);
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(refused, 3);
  EXPECT_EQ(q->stats().open, 0);
}

TEST_F(PoolQueueTest, DeadOnesAreReplacedUnseen) {
  auto const q = queue({});
  auto& a = q->acquire("a");
  auto& b = q->acquire("b");
  q->give_back(a, true);
  q->give_back(b, true);
  world.dead = {2};
  auto& living = q->acquire("c");
  EXPECT_EQ(number_of(living), 1);
  EXPECT_TRUE(living.reused);
  q->give_back(living, true);
  world.dead = {1, 2};
  auto& fresh = q->acquire("d");
  EXPECT_EQ(number_of(fresh), 3);
  EXPECT_FALSE(fresh.reused);
  q->give_back(fresh, true);
  EXPECT_EQ(q->stats().discarded, 2);
  EXPECT_EQ(world.live, 1);
}

TEST_F(PoolQueueTest, APingIsForThoseThatWereIdle) {
  auto const q = queue({.ping_after = 1s});
  q->give_back(q->acquire("a"), true);
  world.now += 999ms;
  q->give_back(q->acquire("b"), true);
  EXPECT_EQ(world.pings, 0);
  world.now += 1s;
  q->give_back(q->acquire("c"), true);
  EXPECT_EQ(world.pings, 1);
  world.now += 1s;
  world.silent = {1};
  q->give_back(q->acquire("d"), true);
  EXPECT_EQ(world.made, 2);
  EXPECT_EQ(q->stats().pings, 2);
}

TEST_F(PoolQueueTest, WithoutAPingADeadOneIsHandedOut) {
  auto const q = queue({.check = PoolQueue::Check::none});
  q->give_back(q->acquire("a"), true);
  world.dead = {1};
  auto& slot = q->acquire("b");
  EXPECT_EQ(number_of(slot), 1);
  EXPECT_EQ(world.unlooked, 1);
  q->give_back(slot, false);
  EXPECT_EQ(q->stats().open, 0);
}

TEST_F(PoolQueueTest, SweepClosesTheDead) {
  auto const q = queue({.check = PoolQueue::Check::none});
  std::vector<PoolQueue::Slot*> held;
  for (int i = 0; i < 4; ++i) held.push_back(&q->acquire("a"));
  for (auto* slot : held) q->give_back(*slot, true);
  world.dead = {1, 3};
  q->sweep();
  EXPECT_EQ(world.live, 2);
  EXPECT_EQ(q->stats().discarded, 2);
}

TEST_F(PoolQueueTest, OldOnesAreReplaced) {
  auto const q = queue({.recycle = 10s});
  auto* slot = &q->acquire("a");
  world.now += 9s;
  q->give_back(*slot, true);
  EXPECT_EQ(world.live, 1);
  world.now += 1s;
  slot = &q->acquire("b");
  EXPECT_EQ(number_of(*slot), 2);
  world.now += 10s;
  q->give_back(*slot, true);
  EXPECT_EQ(world.live, 0);
  EXPECT_EQ(q->stats().recycled, 2);
}

TEST_F(PoolQueueTest, IdleOnesAreClosed) {
  auto const q = queue({.recycle = 100s, .idle_time = 10s});
  auto& a = q->acquire("a");
  auto& b = q->acquire("b");
  EXPECT_EQ(q->shrink(), std::nullopt);
  q->give_back(a, true);
  auto const first = world.now;
  world.now += 4s;
  q->give_back(b, true);
  EXPECT_EQ(q->shrink(), first + 10s);
  world.now += 6s;
  EXPECT_EQ(q->shrink(), world.now + 4s);
  EXPECT_EQ(world.live, 1);
  world.now += 4s;
  EXPECT_EQ(q->shrink(), std::nullopt);
  EXPECT_EQ(world.live, 0);
  EXPECT_EQ(q->stats().shrunk, 2);
  EXPECT_EQ(q->stats().open, 0);
}

TEST_F(PoolQueueTest, ACapHoldsWhateverTheSizes) {
  std::size_t cap = 2;
  auto const q = queue({.timeout = 1ms, .cap = [&] { return cap; }});
  auto& a = q->acquire("a");
  auto& b = q->acquire("b");
  EXPECT_THAT(refusal([&] { q->acquire("c"); }), HasSubstr("2 of 2 are in use"));
  cap = 1;
  q->give_back(a, true);
  EXPECT_EQ(q->stats().open, 1);
  q->give_back(b, true);
  EXPECT_EQ(q->stats().idle, 1);
}

TEST_F(PoolQueueTest, WhatIsBorrowedGoesBackAtOnce) {
  auto const q = queue({.keep = false});
  auto& slot = q->acquire("a");
  q->give_back(slot, true);
  EXPECT_EQ(world.live, 0);
  EXPECT_EQ(q->stats().shrunk, 0);
}

TEST_F(PoolQueueTest, AClosedPoolRefusesAndOpensAgain) {
  auto const q = queue({.name = "web", .size = 1, .overflow = 0});
  auto& held = q->acquire("a");
  std::string text;
  std::thread waiter([&] { text = refusal([&] { q->acquire("waiter"); }); });
  until_waiting(*q, 1);
  q->close();
  waiter.join();
  EXPECT_EQ(text, "pool 'web' is closed");
  EXPECT_FALSE(q->is_open());
  EXPECT_EQ(refusal([&] { q->acquire("b"); }), "pool 'web' is closed");
  EXPECT_EQ(world.live, 1) << "what is leased stays until it comes back";
  q->give_back(held, true);
  EXPECT_EQ(world.live, 0);
  q->open();
  auto& again = q->acquire("c");
  q->give_back(again, true);
  EXPECT_EQ(q->stats().idle, 1);
  q->close();
  EXPECT_EQ(world.live, 0);
  EXPECT_EQ(q->stats().opened, q->stats().closed);
}

}  // namespace
}  // namespace posthouse::pg
