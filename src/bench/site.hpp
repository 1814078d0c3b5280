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

#include "pg/connection.hpp"

namespace posthouse::bench {

inline constexpr char const* bench_kind = "bench";
inline constexpr int claim_size = 2000;  ///< what a claim of the library takes at most

/// What the server and this process had used up at a moment.
struct Counters {
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
  Site(DatabaseOptions database, bool quiet);
  ~Site();
  Site(Site const&) = delete;
  Site& operator=(Site const&) = delete;

  [[nodiscard]] DatabaseOptions const& database() const noexcept { return database_; }
  [[nodiscard]] pg::Connection& sql() noexcept { return *sql_; }
  [[nodiscard]] std::string name(std::string const& object) const;  ///< qualified and quoted
  [[nodiscard]] Client& client() noexcept { return *client_; }

  void fill(std::string const& kind, std::int64_t jobs, int priority = 0);
  /// Empties the log, so that the next measurement starts on tables of the same size.
  void clear();
  [[nodiscard]] Counters counters();
  void progress(std::string const& what) const;

 private:
  DatabaseOptions database_;
  bool quiet_;
  std::unique_ptr<pg::Connection> sql_;
  std::unique_ptr<Client> client_;
};

/// A worker that does nothing with its jobs, set up for throughput.
WorkerOptions drain_options(DatabaseOptions const& database, int prefetch);

struct Drain {
  double seconds = 0;
  WorkerStats stats{};
};
/// Runs one worker until it has finished `jobs` jobs; then calls `before_stop`, if given.
Drain drain_with_worker(Site& site, std::int64_t jobs, int concurrency, int prefetch,
                        std::function<void()> const& before_stop = {});
/// Calls the claim and finish function in a loop that runs nothing. Returns seconds.
double drain_raw(Site& site, std::int64_t jobs, int batch);

double median(std::vector<double> values);
double now_seconds();

}  // namespace posthouse::bench
