// SPDX-License-Identifier: Apache-2.0
// The broker: serves the databases of a configuration, each with its own queues, connections and troubles. What
// `posthouse start` runs, for programs that embed it.
//
//   auto const config = posthouse::load_config("broker.yaml");
//   posthouse::Broker broker{config, {.logger = log}};
//   broker.start();
//   …
//   broker.stop();
//
// A database that is down, slow or not installed delays no other: it is tried again, with growing waits of up to 5 s.
// Threads: one, and at rest two a database (four where `kinds` are configured); one more while a database is tried or
// stopped; handlers' threads as jobs come. Connections: three a database (six), and what SQL jobs use.
// Thread safety: all members, from any thread; start(), stop() and stop_now() are idempotent. Never touches signals.
// Use after fork() throws.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include <posthouse/error.hpp>
#include <posthouse/options.hpp>
#include <posthouse/pool.hpp>
#include <posthouse/worker.hpp>

namespace posthouse {

/// A configuration that was read and found right. Cheap to copy.
class BrokerConfig {
 public:
  /// Names of its databases, in order; "default" when the configuration has no list of them.
  [[nodiscard]] std::vector<std::string> databases() const;
  /// What was read; empty when everything comes from the environment.
  [[nodiscard]] std::string file() const;
  /// What it says of producers' connections to that database (empty: the first), for a Pool: pool_size, max_overflow,
  /// pool_timeout, pool_pre_ping, pool_recycle, pool_idle_timeout, echo. Throws InvalidArgument for an unknown name.
  [[nodiscard]] PoolOptions pool(std::string_view database = {}) const;
  /// What is odd but no error, as unknown POSTHOUSE_… variables.
  [[nodiscard]] std::vector<std::string> warnings() const;

 private:
  friend struct BrokerDoor;
  struct Impl;
  std::shared_ptr<Impl const> impl_;
};

/// Reads a YAML or JSON file, with POSTHOUSE_… variables of the environment over it; an empty path: the usual places.
/// Throws InvalidArgument with all problems, one a line.
BrokerConfig load_config(std::string const& path);

/// How time passes for the broker's own waits: between tries to reach a database, and between looks at those it serves.
/// Leases and schedules go by the clock of each server. Override both to drive a broker from a test.
class BrokerClock {
 public:
  using Time = std::chrono::steady_clock::time_point;
  BrokerClock() = default;
  BrokerClock(BrokerClock const&) = delete;
  BrokerClock& operator=(BrokerClock const&) = delete;
  virtual ~BrokerClock() = default;
  virtual Time now() { return std::chrono::steady_clock::now(); }
  /// Blocks until `changed` is notified or `until` has come; may return earlier. `lock` is held before and after.
  virtual void wait(std::unique_lock<std::mutex>& lock, std::condition_variable& changed, Time until) {
    changed.wait_until(lock, until);
  }
};

enum class DatabaseState {
  starting,       ///< not tried yet
  serving,        ///< claims and runs jobs
  down,           ///< cannot be reached, or does not answer; tried again
  not_installed,  ///< without the schema, or with one of another version; tried again
  refused,        ///< another broker serves it; this one takes over when that ends
  stopping
};
std::string_view to_string(DatabaseState state) noexcept;

struct DatabaseStatus {
  std::string name{};
  DatabaseState state = DatabaseState::starting;
  std::string problem{};               ///< for people, without secrets; empty: none
  std::chrono::milliseconds since{0};  ///< how long it has been in this state
  std::int64_t instance = 0;           ///< id in broker_queueinstance; 0: none
  int queue_count = 0;                 ///< numbered queues
  WorkerStats stats{};                 ///< since it was last begun to be served
};

struct BrokerOptions {
  Logger logger{};                       ///< empty: warnings and errors to standard error
  std::shared_ptr<BrokerClock> clock{};  ///< empty: the machine's
  /// Called before each try to serve a database, with its name and what the configuration says; what it returns is used
  /// instead. For credentials that change, or servers that are looked up. What it throws counts as a failed try.
  std::function<DatabaseOptions(std::string_view name, DatabaseOptions configured)> database{};
  bool standby = false;                          ///< start() waits where every database has another broker
  bool install = false;                          ///< as auto_install: true for each database
  std::chrono::milliseconds stop_grace{30'000};  ///< how long stop() lets running jobs finish
};

/// What a reload did.
struct ReloadReport {
  std::vector<std::string> added{}, removed{}, changed{};  ///< databases
  std::vector<std::string> ignored{};                      ///< keys that changed and need a restart
};

class Broker {
 public:
  /// Opens no connection yet. Throws InvalidArgument when the configuration names no database, or says what a broker
  /// cannot do.
  explicit Broker(BrokerConfig config, BrokerOptions options = {});
  /// Stops first when still running.
  ~Broker();
  Broker(Broker const&) = delete;
  Broker& operator=(Broker const&) = delete;

  /// Returns when a database is served, or when all have been tried once. Throws Error that names the holders when all of
  /// them have another broker and `standby` is not set; nothing runs then.
  void start();
  /// Claims no more, lets running jobs finish up to stop_grace, takes leave. Returns when stopped.
  void stop();
  /// As stop(), but asks running jobs to stop at once; may be called while stop() waits.
  void stop_now();
  /// Databases that came, went or changed; the others go on untouched. Running jobs finish under what was before.
  ReloadReport reload(BrokerConfig config);

  [[nodiscard]] std::vector<DatabaseStatus> status() const;

 private:
  friend struct BrokerDoor;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace posthouse
