// SPDX-License-Identifier: Apache-2.0
// What a chaos test has: a database with side tables, a history, and processes of the program in programs/.
//
// Thread safety: one thread at a time, and always the same one, since the processes end with the thread that started
// them.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "concurrency/chaos_history.hpp"
#include "concurrency/chaos_judge.hpp"
#include "support/child_process.hpp"
#include "support/database.hpp"
#include "support/eventually.hpp"
#include "support/seed.hpp"
#include "support/tcp_gate.hpp"

namespace posthouse::test::chaos {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

/// A server of one's own with production's durability, for the whole program.
TestServer& durable_server();

/// How much longer than on an idle machine things may take: by the load now, and under a sanitizer.
double patience();
milliseconds patient(milliseconds time);

/// A number from the environment; `normal` without it, `extended` without it under POSTHOUSE_TEST_LONG.
int knob(char const* name, int normal, int extended);

struct WorkerSpec {
  std::string name = "w";
  std::string kinds = "plain,ledger,slow,nap";
  std::string queues{};  ///< all
  int concurrency = 3;
  int prefetch = 0;
  milliseconds lease{1500};
  milliseconds heartbeat{300};
  milliseconds grace{4000};
  milliseconds timeout{3000};
  bool duties = true;
  std::string url{};  ///< empty: the database without a gate
};

class World {
 public:
  explicit World(TestServer& server = TestServer::shared());
  ~World();

  std::unique_ptr<ChildProcess> worker(WorkerSpec const& spec);
  std::unique_ptr<ChildProcess> client(std::uint64_t seed, std::int64_t first, int threads, int pause_ms);

  [[nodiscard]] std::string const& url() const noexcept { return database_.url(); }
  /// A new connection after each restart of the server.
  Sql& sql();
  void reconnect() { sql_.reset(); }
  History& history() noexcept { return history_; }

  /// Enqueues one job with this plan, and writes it down as a client does. Returns u.
  std::int64_t enqueue(std::string const& kind, std::string const& plan = {}, std::string const& options = {});
  /// The job with that u.
  std::int64_t id(std::int64_t u);
  std::string state(std::int64_t u);

  /// Events of that name whose fields have these values.
  std::vector<Event> events(std::string const& what, std::map<std::string, std::string> const& fields = {});
  ::testing::AssertionResult happens(std::string const& what, std::map<std::string, std::string> const& fields,
                                     std::size_t times = 1, milliseconds deadline = 20s);
  bool logged(std::string const& text);

  /// A schedule that makes a job of kind ticked each second, however late.
  void start_ticking();
  /// True when all ticks up to the first of these calls are fired; then it takes the schedule away.
  bool ticked_enough();
  /// Jobs that have not ended.
  std::int64_t unfinished();
  Evidence evidence();
  /// After every worker has left: nothing held, open, locked or alive.
  void expect_nothing_left();
  /// judge() of evidence(), and a failure for each violation.
  Verdict expect_consistent();

 private:
  TestDatabase database_;
  std::filesystem::path folder_;
  History history_;
  std::unique_ptr<Sql> sql_{};
  std::int64_t next_u_ = 1;
  bool ticking_ = false;
  std::string tick_until_{};
};

/// Asks it to leave and waits; its exit status.
int leave(ChildProcess& process, milliseconds deadline = 20s);

}  // namespace posthouse::test::chaos
