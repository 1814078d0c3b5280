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
  std::optional<std::string> state{};  ///< one of the view's states, or "dead": failed, cancelled or expired
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
  std::optional<std::int64_t> rss_bytes{};  ///< of its process and child processes, as of the last sign of life
  std::optional<std::int64_t> cpu_ms{};     ///< that they have used since it started
  std::optional<std::int64_t> children{};   ///< processes below its own
  std::optional<std::string> ended_at{};
  std::optional<std::string> end_reason{};
};

/// A count with its age and its rates: a row of stats().
struct Stat {
  std::string queue{};
  std::string kind{};
  std::string state{};
  std::int64_t jobs = 0;
  std::optional<std::string> oldest_at{};     ///< RFC 3339
  std::optional<std::int64_t> oldest_ms{};    ///< its age
  std::optional<std::int64_t> last_minute{};  ///< that came to this end; of ends only
  std::optional<std::int64_t> last_hour{};
};

/// Dead letters that a batch of retry_dead or purge_dead is to take.
struct DeadFilter {
  std::optional<std::string> state{};
  std::optional<std::string> kind{};
  std::optional<std::string> queue{};
  std::optional<std::string> before{};  ///< that ended before this time, RFC 3339
};

struct DeadBatch {
  std::int64_t done = 0;
  std::optional<std::int64_t> last{};  ///< go on behind this id; none: there are no more
};

/// One who keeps PostgreSQL from removing dead rows.
struct XminHolder {
  std::string what{};
  std::optional<std::string> name{};
  std::optional<std::int64_t> pid{};
  std::optional<std::string> role{};
  std::optional<std::string> application{};
  std::optional<std::string> state{};
  std::optional<std::string> since{};
  std::optional<std::int64_t> open_ms{};
  std::optional<std::int64_t> xmin_age{};  ///< in transactions
};

struct Status {
  std::string schema_version{};
  std::string program_version{};
  std::optional<std::int64_t> leader{};
  std::optional<std::string> leader_name{};
  std::optional<std::string> leader_since{};
  std::optional<std::int64_t> leader_ms{};
  std::optional<std::int64_t> leader_silent_ms{};
  std::int64_t workers = 0;
  std::int64_t slots = 0;
  std::int64_t running = 0;
  std::int64_t available = 0;
  std::vector<std::string> queues_paused{};
  std::vector<std::string> kinds_paused{};
  std::optional<std::string> oldest_available_at{};
  std::optional<std::int64_t> oldest_available_ms{};
  std::optional<std::int64_t> next_due_ms{};  ///< negative: overdue
  std::int64_t dead_last_hour = 0;
};

struct QueueInfo {
  std::string queue{};
  int priority = 0;
  bool paused = false;
  std::optional<std::string> paused_at{};  ///< since when, if that is known
};

struct KindInfo {
  std::string kind{};
  bool paused = false;
  std::optional<std::string> paused_at{};
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
  std::vector<KindInfo> kinds();    ///< those with settings
  /// Every queue and kind that jobs were enqueued to, in pairs.
  std::vector<std::pair<std::string, std::string>> names();
  /// Every count with age and rates; available and running ones alone are cheaper.
  std::vector<Stat> stats();
  std::vector<Stat> backlog();
  Status status();
  std::vector<XminHolder> xmin_holders();
  /// Available jobs of the same lane that are claimed first, up to `most`.
  std::int64_t ahead(std::int64_t id, int most);
  /// Live ones; all that are still kept with `ended`.
  std::vector<WorkerInfo> workers(bool ended = false);
  /// Asks each of them for a heartbeat at once.
  void ping(std::vector<std::int64_t> const& workers);

  /// "cancelled", "running", "finished" or "not_found".
  std::string cancel(std::int64_t id);
  bool retry(std::int64_t id);
  bool remove(std::int64_t id);
  void pause_queue(std::string const& queue);
  void resume_queue(std::string const& queue);
  void set_queue_priority(std::string const& queue, int priority);
  void pause_kind(std::string const& kind);
  void resume_kind(std::string const& kind);
  /// The server's time, for a `before` that stays the same over all batches.
  std::string now();
  DeadBatch retry_dead(DeadFilter const& filter, std::optional<std::int64_t> after, int most);
  DeadBatch purge_dead(DeadFilter const& filter, std::optional<std::int64_t> after, int most);

 private:
  std::string schema() const { return connection_.quoted_schema() + "."; }
  pg::Connection& connection_;
};

}  // namespace posthouse::store
