// SPDX-License-Identifier: Apache-2.0
// The benchmark's own schema, how it is filled, and the server's counters around a measurement.
//
// Thread safety: one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <posthouse/client.hpp>
#include <posthouse/worker.hpp>

#include "bench/home.hpp"
#include "bench/interrupt.hpp"
#include "pg/bare.hpp"
#include "pg/connection.hpp"

namespace posthouse::bench {

inline constexpr char const* bench_kind = "bench";
inline constexpr int claim_size = 2000;  ///< what a claim of the library takes at most

inline constexpr double stalled_after_s = 60;

double now_seconds();

/// What the server and this process had used up at a moment.
struct Counters {
  double at = 0;  ///< now_seconds()
  std::int64_t wal_bytes = 0;
  std::int64_t commits = 0;
  std::int64_t xids = 0;
  double client_cpu_us = 0;
  double client_peak_mib = 0;
  std::map<std::int64_t, double> server_cpu_us{};  ///< by process; empty when the server runs elsewhere
};

/// Processor time of the server's processes that were there at both moments; nullopt when it runs elsewhere.
std::optional<double> server_cpu_us(Counters const& before, Counters const& after);

class Site {
 public:
  Site(DatabaseOptions database, bool quiet, Interrupt& interrupt);
  ~Site();
  Site(Site const&) = delete;
  Site& operator=(Site const&) = delete;

  [[nodiscard]] DatabaseOptions const& database() const noexcept { return home_.database(); }
  [[nodiscard]] pg::Connection& sql() noexcept { return *sql_; }
  [[nodiscard]] std::string name(std::string const& object) const;  ///< qualified and quoted
  [[nodiscard]] Client& client() noexcept { return *client_; }
  [[nodiscard]] Interrupt const& interrupt() const noexcept { return interrupt_; }

  void fill(std::string const& kind, std::int64_t jobs, int priority = 0);
  /// Empties the log, so that the next measurement starts on tables of the same size.
  void clear();
  /// A new schema and new connections, after something went wrong.
  void renew();
  [[nodiscard]] Counters counters();
  void progress(std::string const& what) const;

  /// Waits until `count()` is at least `goal`, looking every so often. Throws Interrupted, and Timeout when it has not
  /// changed for a minute: `what` says what was waited for.
  template <class Count>
  void await(std::string const& what, std::int64_t goal, Count count,
             std::chrono::microseconds every = std::chrono::milliseconds(1)) {
    std::int64_t last = count();
    for (double since = now_seconds(); last < goal;) {
      interrupt_.sleep(every);
      auto const now = static_cast<std::int64_t>(count());
      if (now != last) since = now_seconds();
      last = now;
      if (now_seconds() - since > stalled_after_s) stalled(what, last, goal);
    }
  }

 private:
  void connect();
  [[noreturn]] static void stalled(std::string const& what, std::int64_t reached, std::int64_t goal);

  Interrupt& interrupt_;
  bool quiet_;
  Home home_;
  std::unique_ptr<pg::Connection> sql_{};
  std::unique_ptr<Client> client_{};
};

/// A worker that does nothing with its jobs, set up for throughput.
WorkerOptions drain_options(DatabaseOptions const& database, int prefetch);

struct Drain {
  double seconds = 0;
  WorkerStats stats{};
};
/// Runs one worker until it has finished `jobs` jobs; then calls `before_stop`, if given. Throws Timeout when it makes no
/// progress.
Drain drain_with_worker(Site& site, std::int64_t jobs, int concurrency, int prefetch,
                        std::function<void()> const& before_stop = {});
/// Calls the claim and finish function in a loop of plain libpq that runs nothing. Returns seconds.
double drain_raw(Site& site, std::int64_t jobs, int batch);

}  // namespace posthouse::bench
