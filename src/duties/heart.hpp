// SPDX-License-Identifier: Apache-2.0
// A worker's sign of life and the elected work, on a thread and a connection of their own, so that neither handlers nor
// claims ever delay a heartbeat.
//
// Thread safety: start() and stop() from any thread; the callbacks are called on the heart's thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <posthouse/options.hpp>
#include <stop_token>
#include <vector>

#include "base/log.hpp"
#include "base/service.hpp"
#include "core/reconnect.hpp"
#include "duties/upkeep.hpp"
#include "pg/connection.hpp"
#include "store/work.hpp"

namespace posthouse::duties {

using Clock = std::chrono::steady_clock;

inline constexpr std::chrono::milliseconds round_every{500};      ///< between two rounds of the leader
inline constexpr std::chrono::milliseconds round_at_soonest{25};  ///< the same when a job is due sooner

inline constexpr std::chrono::milliseconds also_every{5'000};  ///< between two calls of Heart::Options::also

/// How long the leader waits after a round. `full`: it promoted as many as one round may, so more are due already.
std::chrono::milliseconds next_round(store::DutiesReport const& report);

/// What a heartbeat says.
struct Vitals {
  std::int64_t worker = 0;     ///< incarnation; 0: none at this moment, no heartbeat is sent
  std::int64_t low_token = 0;  ///< no batch below is open
  int free = 0;
  int running = 0;
  int fleet = 1;  ///< workers that serve the same, as far as known
};

inline constexpr int large_fleet = 16;  ///< from so many on, idle workers beat a third as often

/// How long a worker waits after a heartbeat. One of a large fleet that has nothing to do waits three times as long, within
/// half of its lease, which protects no job then: the heartbeats of idle workers are most of what they cost the server,
/// and among so many one notices soon enough that nobody leads.
std::chrono::milliseconds next_beat(std::chrono::milliseconds interval, std::chrono::milliseconds lease,
                                    Vitals const& vitals);

class Heart {
 public:
  struct Options {
    DatabaseOptions database{};
    std::chrono::milliseconds interval{5000};
    std::chrono::milliseconds lease{30000};
    bool duties = true;
    bool upkeep = true;  ///< the leader's slow work too
    std::function<Vitals()> vitals{};
    std::function<void(std::int64_t worker)> dead{};                 ///< that incarnation was declared dead
    std::function<std::vector<store::ProgressReport>()> progress{};  ///< what jobs have reported since the last call
    std::function<void()> cancel{};                                  ///< some of its jobs are to be cancelled
    std::function<void()> beaten{};                                  ///< a heartbeat has been accepted
    std::function<void(pg::Connection&)> also{};  ///< every also_every, and first on each new connection; may be empty
    std::function<void(std::exception const&)>
        trouble{};                      ///< any of it has failed and will be tried again; may be empty
    std::function<void()> statement{};  ///< called for each statement sent
  };

  Heart(Options options, base::Log const& log);
  ~Heart() { stop(); }

  void start() { service_.start(); }
  void stop() noexcept { service_.stop(); }
  /// options.progress() has something. From any thread.
  void progressed();
  /// Somebody wants a sign of life. From any thread.
  void beat_now();

 private:
  void run(std::stop_token const& stop);
  void round();
  void beat();
  void duties();
  void tell_progress(Clock::time_point now);
  void failed(std::exception const& error);

  Options const options_;
  base::Log const& log_;
  std::unique_ptr<pg::Connection> connection_;
  core::ReconnectBackoff backoff_;
  Clock::time_point next_beat_{};
  Clock::time_point next_round_{};
  Clock::time_point next_complaint_{};
  Clock::time_point next_progress_{};
  std::vector<store::ProgressReport> untold_{};  // by a statement that failed
  Clock::time_point next_also_{};
  std::int64_t term_of_ = 0;  // the incarnation that leads
  UpkeepThread upkeep_;

  std::mutex mutex_;  // of stopped_; guards progressed_ and asked_
  bool progressed_ = false;
  bool asked_ = false;
  std::condition_variable_any stopped_;

  base::Service service_;  // last: its thread uses all of the above
};

}  // namespace posthouse::duties
