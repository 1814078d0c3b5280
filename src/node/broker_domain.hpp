// SPDX-License-Identifier: Apache-2.0
// One database of a broker: tried until it can be served, served until the broker stops or another one has it.
//
// Whatever may take long (connecting, installing, draining) is done by a thread that lives only so long, one at a time
// for each domain; the broker's own thread never waits for a database.
// Thread safety: tick() and due() from the broker's thread; everything else from any.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <posthouse/broker.hpp>
#include <string>
#include <thread>

#include "base/log.hpp"
#include "core/reconnect.hpp"
#include "monitor/job_metrics.hpp"
#include "node/config.hpp"
#include "node/sql_runner.hpp"

namespace posthouse::node {

/// What the domains of a broker share.
struct BrokerShared {
  BrokerOptions options{};
  std::shared_ptr<BrokerClock> clock{};
  base::Log log{};
  std::function<void()> changed{};  ///< a domain wants to be looked at
};

class Domain {
 public:
  using Time = BrokerClock::Time;

  Domain(Config config, BrokerShared& shared);
  /// After request_stop() and stopped().
  ~Domain();
  Domain(Domain const&) = delete;
  Domain& operator=(Domain const&) = delete;

  void tick(Time now);
  /// When tick() has something to do, if nothing changes before.
  [[nodiscard]] Time due() const;

  /// From now on with this configuration, of the same database: what runs finishes under the old one.
  void reconfigure(Config config);
  void request_stop();
  /// Asks running jobs to stop, too; returns when they have.
  void stop_now();
  [[nodiscard]] bool stopped() const;
  [[nodiscard]] bool tried() const;
  [[nodiscard]] DatabaseStatus status() const;
  [[nodiscard]] std::string const& name() const noexcept { return name_; }
  [[nodiscard]] Config config() const;
  /// That this process has open to it.
  [[nodiscard]] std::int64_t connections() const;
  [[nodiscard]] std::shared_ptr<monitor::JobMetrics> const& jobs() const noexcept { return jobs_; }

 private:
  struct Crew;  // the workers of one configuration

  void run_task(std::function<void()> task);
  void attempt();
  void serve(Config config);
  void swap_crew(Config const& config);
  void give_up();
  void drain(std::shared_ptr<Crew> const& crew) const;
  void shut_down(std::int64_t instance, DatabaseOptions const& options) const;
  std::shared_ptr<Crew> hire(Config const& config, std::int64_t instance);
  DatabaseOptions reach(Config const& config) const;
  void become(DatabaseState state, std::string problem);  // takes the lock
  void failed(DatabaseState state, std::string const& problem);

  std::string const name_;
  BrokerShared& shared_;
  std::shared_ptr<monitor::JobMetrics> const jobs_ = std::make_shared<monitor::JobMetrics>();

  mutable std::mutex mutex_;  // guards what follows; never held while waiting
  Config config_;
  std::unique_ptr<Config> wanted_{};  // of reconfigure()
  DatabaseState state_ = DatabaseState::starting;
  std::string problem_{};
  Time since_{};
  std::shared_ptr<Crew> crew_{};
  std::int64_t instance_ = 0;
  int queue_count_ = 0;
  DatabaseOptions options_{};  // how it was reached last
  bool lost_ = false;          // another broker has taken over
  bool tried_ = false;
  bool stopping_ = false;
  bool stopped_ = false;
  bool busy_ = false;  // the task runs
  Time next_try_{};
  core::ReconnectBackoff backoff_{std::chrono::milliseconds{200}, std::chrono::milliseconds{5'000}};

  std::jthread task_;  // of the broker's thread; last
};

/// What a broker cannot do, of what a worker can. Throws InvalidArgument.
void check_for_broker(Config const& config);

}  // namespace posthouse::node
