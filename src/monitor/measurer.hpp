// SPDX-License-Identifier: Apache-2.0
// Asks databases for their gauges when somebody wants to see them, and keeps the answers for some seconds.
//
// One thread, started with the first wish, one database after the other, each on a connection opened for it with short
// time limits. One that does not answer is left alone for a while, so that it delays the others once in a while at most.
// Thread safety: all members.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/log.hpp"
#include "monitor/source.hpp"
#include "store/measure.hpp"

namespace posthouse::monitor {

struct Measurement {
  std::chrono::steady_clock::time_point at{};          ///< of the gauges
  std::chrono::steady_clock::time_point not_before{};  ///< of the next try
  std::vector<store::Gauge> gauges{};
  bool measured = false;  ///< there are gauges
  double seconds = 0;     ///< that the last one took
  std::int64_t failures = 0;
};

class Measurer {
 public:
  using Clock = std::chrono::steady_clock;

  /// `told` is called when a round is over.
  Measurer(std::shared_ptr<Sources> sources, std::chrono::milliseconds fresh_for, std::function<void()> told,
           base::Log log);

  /// False: something is older than fresh_for; it is being measured, and `told` will be called.
  bool fresh();
  /// What there is of that database.
  [[nodiscard]] std::optional<Measurement> of(std::string const& database) const;

 private:
  void run(std::stop_token const& stop);
  std::vector<std::shared_ptr<Sources::Entry>> stale() const;
  void measure(Source const& source);

  std::shared_ptr<Sources> const sources_;
  std::chrono::milliseconds const fresh_for_;
  std::function<void()> const told_;
  base::Log const log_;

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable_any wanted_;
  bool want_ = false;
  std::map<std::string, Measurement> measurements_;
  std::jthread thread_;  // last
};

/// Calls the function of a source unless that was removed.
Health health_of(Sources::Entry& entry);

}  // namespace posthouse::monitor
