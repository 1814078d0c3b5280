// SPDX-License-Identifier: Apache-2.0
// What the monitor is told of each database that this process serves: its name, how it is, and what there is to count.
//
//   auto sources = std::make_shared<monitor::Sources>();
//   sources->add({.name = "default", .database = options, .health = [&] { … }, .jobs = jobs, .worker = [&] { … }});
//   monitor::Server server(listen, sources, log);
//
// Thread safety: Sources: all members. The functions of a Source are called from the threads of the monitor, also for a
// short while after remove() unless that has returned; they must be quick (no database, no file) and must not throw.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <posthouse/options.hpp>
#include <posthouse/worker.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "monitor/job_metrics.hpp"

namespace posthouse::monitor {

/// Only `serving` counts as ready.
enum class State { starting, serving, down, not_installed, refused, stopping };
std::string_view name_of(State state) noexcept;  ///< "starting", …

struct Health {
  State state = State::starting;
  std::string problem{};  ///< in words for people, without secrets; empty: none
};

/// One database.
struct Source {
  std::string name{};                        ///< label `database`; unique
  DatabaseOptions database{};                ///< where backlog and ages are asked, on a connection opened for it
  std::function<Health()> health{};          ///< required
  std::shared_ptr<JobMetrics const> jobs{};  ///< what this process ran; null: nothing
  std::function<WorkerStats()>
      worker{};  ///< counters, summed over this process's workers of the database; may be empty
  std::function<std::int64_t()> connections{};  ///< that this process has open to it; may be empty
};

class Sources {
 public:
  /// Replaces the one of that name.
  void add(Source source);
  /// When it has returned, none of that source's functions is running or will be called again.
  void remove(std::string_view name);

  /// The sources, by name. Whoever holds one while calling its functions locks its `gate` (shared_ptr keeps it alive).
  struct Entry {
    explicit Entry(Source what) : source(std::move(what)) {}
    Source const source;
    std::mutex gate{};     ///< held while a function of the source runs
    bool removed = false;  ///< guarded by gate: do not call
  };
  [[nodiscard]] std::vector<std::shared_ptr<Entry>> all() const;

 private:
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<Entry>> entries_;
};

}  // namespace posthouse::monitor
