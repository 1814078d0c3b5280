// SPDX-License-Identifier: Apache-2.0
// The leader's slow work: one round about once a minute, on a connection and a thread of its own, so that a vacuum or a
// busy lock never delays a heartbeat.
//
// Thread safety: start_round() and stop() from one thread.
#pragma once

#include <atomic>
#include <chrono>
#include <stop_token>
#include <thread>

#include <posthouse/options.hpp>

#include "base/log.hpp"
#include "store/upkeep.hpp"

namespace posthouse::duties {

/// What one round did.
struct UpkeepReport {
  int partitions_made = 0;  ///< -1: a lock was busy
  int partitions_dropped = 0;
  int partitions_frozen = 0;
  std::int64_t rows_pruned = 0;
};

/// One round; safe to be run by several at once. Throws posthouse::Error.
/// Ends early, in the middle of a statement if need be, when asked to stop.
UpkeepReport upkeep_round(DatabaseOptions const& database, store::Retention const& retention,
                          std::stop_token const& stop = {});

class UpkeepThread {
 public:
  UpkeepThread(DatabaseOptions database, store::Retention retention, base::Log const& log)
      : database_(std::move(database)), retention_(retention), log_(log) {}
  ~UpkeepThread() { stop(); }
  UpkeepThread(UpkeepThread const&) = delete;
  UpkeepThread& operator=(UpkeepThread const&) = delete;

  /// Starts a round when the last one is at least a minute old (ten seconds when a lock was busy) and none runs.
  void start_round();
  /// Ends a running round.
  void stop();

 private:
  DatabaseOptions database_;
  store::Retention retention_;
  base::Log const& log_;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now() - std::chrono::hours(1);
  std::atomic<bool> running_{false};
  std::atomic<bool> busy_{false};  ///< the last round met a busy lock
  std::jthread thread_;
};

}  // namespace posthouse::duties
