// SPDX-License-Identifier: Apache-2.0
// Faults at random moments against workers, clients, connections and the server.
//
// Every kind occurs in its turn, in an order and with times that the seed chooses, and a quarter of the periods are
// calm. Each fault is written into the history before it happens (one that takes time: with its begin, when it is over).
// Thread safety: one thread, that of the World.
#pragma once

#include <deque>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "concurrency/chaos_world.hpp"

namespace posthouse::test::chaos {

class Nemesis {
 public:
  struct Options {
    milliseconds time{12'000};
    int workers = 4;
    int clients = 2;
    int threads_a_client = 2;
    int pause_ms = 100;  ///< about, between two operations of a client's thread
    milliseconds lease{1500};
    std::set<std::string> only{};  ///< kinds of fault; empty: all
  };

  Nemesis(World& world, TestServer& server, Seed& seed, Options options);

  /// Starts everybody, and troubles them until the time is up.
  void run();
  /// Ends every fault and the clients, then waits until all jobs have ended and the lost workers are known as lost.
  ::testing::AssertionResult drain(milliseconds deadline);
  /// Asks the workers to leave.
  void dismiss();

 private:
  using Clock = std::chrono::steady_clock;
  struct Slot {
    std::string name{};
    bool worker = true;
    std::unique_ptr<ChildProcess> process{};
    std::unique_ptr<TcpGate> gate{};
    bool doomed = false;   ///< killed
    bool leaving = false;  ///< asked to leave
    bool stopped = false;  ///< SIGSTOP
    Clock::time_point leaves_by{};
  };

  void start(Slot& slot);
  void look_after(Slot& slot);
  void strike();
  void restart(bool immediate);
  void disturb_backends(std::string const& function);
  void note(std::string const& kind, Slot const* slot = nullptr, milliseconds time = {});
  void later(milliseconds delay, std::function<void()> action) {
    due_.emplace_back(Clock::now() + delay, std::move(action));
  }
  void run_due(bool all);
  Slot* some_worker(bool with_gate = false);
  milliseconds part_of_lease();

  World& world_;
  TestServer& server_;
  Seed& seed_;
  Options const options_;
  std::vector<std::unique_ptr<Slot>> slots_{};
  std::vector<std::pair<Clock::time_point, std::function<void()>>> due_{};
  std::vector<std::string> deck_{};
  std::int64_t next_first_ = 1'000'000;
  bool over_ = false;
};

}  // namespace posthouse::test::chaos
