// SPDX-License-Identifier: Apache-2.0
// Workers and a producer under load while something breaks, and a record of their own of what was promised and what ran.
//
// The producer writes down each number whose enqueue was confirmed, the handlers each number that they were given; what
// the database says is compared with that at the end. The time to recover is printed, never asserted:
//   [   OUTAGE ] the server is frozen: first claim after 12 ms, whole fleet after 340 ms
// Thread safety: one thread at a time, that of the test.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <posthouse/client.hpp>
#include <posthouse/worker.hpp>

#include "support/database.hpp"
#include "support/eventually.hpp"
#include "support/sql.hpp"

namespace posthouse::test {

/// True under scripts/test --long.
bool long_run();

/// Deadlines of seconds, so that a test sees the end of them.
DatabaseOptions hurried(std::string const& url);

/// A server with a database of its own for each test, to be stopped and frozen; the tests of a program share the server,
/// and each leaves it as it was.
class OutageTest : public ::testing::Test {
 protected:
  void TearDown() override;
  [[nodiscard]] static TestServer& shared_server();
  [[nodiscard]] Sql sql() const { return Sql(database.url(), std::chrono::seconds(60)); }
  /// ALTER SYSTEM, until the end of the test.
  void set(std::string const& setting);

  TestServer& server{shared_server()};
  TestDatabase database{"posthouse", server};

 private:
  bool reset_ = false;
};

class Load {
 public:
  using Clock = std::chrono::steady_clock;
  using milliseconds = std::chrono::milliseconds;

  struct Options {
    DatabaseOptions database{};  ///< of workers and producer
    int workers = 3;             ///< of two handlers each
    int backlog = 600;           ///< jobs that are there before anybody works
    milliseconds pause{5};       ///< how long a handler takes
    milliseconds between{10};    ///< two enqueues of the producer; 0: it enqueues nothing but the backlog
    milliseconds claim_lease{60'000};
  };

  struct Verdict {
    std::vector<std::int64_t> lost{};       ///< confirmed, and never ran
    std::vector<std::int64_t> doubled{};    ///< ran more than once
    std::vector<std::int64_t> uninvited{};  ///< ran, though the producer was told that nothing was enqueued
    std::int64_t confirmed = 0;
    std::int64_t lease_lost = 0;  ///< ends that the workers were told count for nothing
  };

  explicit Load(Options options);
  ~Load();

  /// Enqueues the backlog and starts everybody.
  void start();
  /// Waits until `more` jobs have been run from now on.
  ::testing::AssertionResult runs(int more);
  /// No enqueue from now on; returns when none is under way.
  void hush();
  /// Puts so many jobs more there, so that every worker will find some.
  void pile_up(int jobs);
  /// Waits until every worker has claimed again, and prints how long after `from` that was.
  ::testing::AssertionResult recovers(std::string const& what, Clock::time_point from);
  /// Waits until every job that the database knows has ended, stops everybody, and judges. `sql`: the database as it is
  /// by then.
  Verdict finish(Sql& sql);

  [[nodiscard]] std::int64_t started() const noexcept { return runs_; }
  [[nodiscard]] std::int64_t highest() const;  ///< the last number whose enqueue was confirmed
  [[nodiscard]] bool logged(std::string const& text);
  [[nodiscard]] std::string log();
  [[nodiscard]] int refused() const noexcept { return refused_; }            ///< enqueues that threw
  [[nodiscard]] int storage_full() const noexcept { return storage_full_; }  ///< those of them with StorageFull

 private:
  struct Entry {
    bool confirmed = false;
    bool doubtful = false;
    int runs = 0;
  };
  void produce();

  Options const options_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<Client> filler_;  ///< with more patience, for pile_up()
  std::vector<std::unique_ptr<Worker>> workers_;
  std::thread producer_;
  std::atomic<bool> quiet_{false};
  std::atomic<std::int64_t> runs_{0};
  std::atomic<int> refused_{0};
  std::atomic<int> storage_full_{0};
  mutable std::mutex mutex_;
  std::map<std::int64_t, Entry> record_;
  std::vector<std::string> log_;
  std::int64_t next_ = 1;
};

/// No job was lost, none ran twice without its worker being told so, none appeared from nowhere.
void expect_kept(Load::Verdict const& verdict);
/// The same, and none ran twice at all: for outages in which the server loses nothing.
void expect_once(Load::Verdict const& verdict);

}  // namespace posthouse::test
