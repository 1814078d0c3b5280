// SPDX-License-Identifier: Apache-2.0
// What operators and producers ask about jobs, lanes and workers, and what they do to single jobs.
//
// Thread safety: as the Connection behind it, one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <posthouse/client.hpp>

#include "pg/connection.hpp"
#include "store/work.hpp"

namespace posthouse::store {

struct JobFilter {
  std::optional<std::string> state{};  ///< one of the view's states
  std::optional<std::string> kind{};
  std::optional<std::string> queue{};
  std::optional<std::int64_t> before{};  ///< ids below this one only: the last id of the page before
  int limit = 50;                        ///< 1 to 10,000
};

struct Count {
  std::string queue{};
  std::string kind{};
  std::string state{};
  std::int64_t jobs = 0;
};

struct WorkerInfo {
  std::int64_t id = 0;
  std::string name{};
  std::string host{};
  std::int64_t pid = 0;
  std::string version{};
  std::string queues{};  ///< comma-separated; empty: every queue
  std::string kinds{};
  int slots = 0;
  int running = 0;  ///< as of the last sign of life
  int free = 0;
  std::int64_t lease_ms = 0;
  std::string started_at{};
  std::string last_seen_at{};
  std::int64_t silent_ms = 0;  ///< since the last sign of life
  bool leader = false;
  std::optional<std::string> ended_at{};
  std::optional<std::string> end_reason{};
};

struct QueueInfo {
  std::string queue{};
  int priority = 0;
  bool paused = false;
};

class Admin {
 public:
  explicit Admin(pg::Connection& connection) noexcept : connection_(connection) {}

  std::optional<JobInfo> find(std::int64_t id);
  std::vector<AttemptError> errors(std::int64_t id);
  /// Newest first. By state it may read the log as far back as it must, about a second a million jobs.
  std::vector<JobInfo> list(JobFilter const& filter);
  std::vector<Count> counts();
  std::vector<LaneInfo> lanes();
  std::vector<QueueInfo> queues();  ///< those with settings
  /// Live ones; all that are still kept with `ended`.
  std::vector<WorkerInfo> workers(bool ended = false);

  /// "cancelled", "running", "finished" or "not_found".
  std::string cancel(std::int64_t id);
  bool retry(std::int64_t id);
  bool remove(std::int64_t id);
  void pause_queue(std::string const& queue);
  void resume_queue(std::string const& queue);

 private:
  std::string schema() const { return connection_.quoted_schema() + "."; }
  pg::Connection& connection_;
};

}  // namespace posthouse::store
