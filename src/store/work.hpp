// SPDX-License-Identifier: Apache-2.0
// What a worker asks of the database: one verb a SQL function, nothing else. See docs/internals/engine.md.
//
// Thread safety: as the Connection behind it, one thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/process_usage.hpp"
#include "pg/connection.hpp"

namespace posthouse::store {

/// One claimed job. The views point into the Claim that it came from.
struct ClaimedJob {
  std::int64_t token = 0;
  std::int64_t lane = 0;
  int position = 0;
  std::int64_t id = 0;
  int attempt = 0;  ///< attempts already used
  bool is_bytes = false;
  bool is_null = true;         ///< no payload at all
  std::string_view payload{};  ///< JSON text or raw bytes
  std::string_view headers{};  ///< JSON object, empty when none
  std::string_view options{};  ///< JSON object, empty when none
  std::chrono::steady_clock::time_point received{};
};

/// The rows of one claim; owns what the jobs' views point to. Jobs of one token are adjacent and in position order.
struct Claim {
  std::vector<pg::Result> results{};
  std::vector<ClaimedJob> jobs{};
  std::vector<std::int64_t> lost{};  ///< tokens of the finish part whose lease is lost
  struct Blocked {
    std::int64_t lane = 0;
    std::int64_t wait_ms = -1;  ///< until a rate lets the next job start; -1: until a job of the limit ends
  };
  std::vector<Blocked> blocked{};  ///< lanes that a limit holds back
};

struct LaneInfo {
  std::int64_t lane = 0;
  std::string queue{};
  std::string kind{};
  int priority = 0;
  int queue_priority = 0;
  int weight = 1;  ///< of the kind
};

/// A job that ended otherwise than by success.
struct Move {
  std::int64_t token = 0;
  int position = 0;
  std::int64_t id = 0;
  std::string_view outcome{};  ///< "retry", "fail", "snooze", "release", "expire" or "cancel"
  std::int64_t delay_ms = 0;
  std::string type{};
  std::string message{};
  std::string stack{};
  std::int64_t crashes = 0;  ///< child processes that it has cost, to be remembered; 0: nothing new
  std::int64_t hold_ms = 0;  ///< no job of its kind starts for so long
};

/// What a job that succeeded brought back. Goes with the first ack that has its member's bit, or never.
struct JobResult {
  std::int64_t token = 0;
  int position = 0;
  std::int64_t id = 0;
  bool has_value = false;
  bool is_bytes = false;
  std::string data{};     ///< checked JSON or any bytes
  std::string problem{};  ///< why it is missing or not whole; sanitised
};

/// How far a running job says that it is.
struct ProgressReport {
  std::int64_t token = 0;
  int position = 0;
  std::int64_t id = 0;
  double fraction = 0;  ///< 0 to 1
  std::string text{};   ///< sanitised
};

/// What to say of one open batch.
struct BatchAck {
  std::int64_t token = 0;
  std::optional<std::string> acked{};  ///< nullopt closes the batch; else cumulative '0'/'1', one a member
  int started = 0;
};

struct Registration {
  std::string name{}, host{}, version{};
  std::int64_t pid = 0;
  std::vector<std::string> queues{};  ///< empty: every queue
  std::vector<std::string> kinds{};
  std::vector<int> max_attempts{};  ///< one a kind, for the reaper; empty: 25 each
  std::int64_t lease_ms = 30000;
  int slots = 1;
};

struct Beat {
  bool alive = false;  ///< false: this incarnation was declared dead
  bool leader_vacant = false;
  std::vector<std::int64_t> open{};    ///< tokens of the incarnation's open batches at or above low_token
  std::vector<std::int64_t> cancel{};  ///< jobs that it shall stop
};

struct DutiesReport {
  bool leads = false;  ///< false: the term has ended, nothing was done
  std::int64_t promoted = 0;
  std::int64_t rescued = 0;
  std::int64_t next_due_ms = -1;  ///< until the next deferred job is due; -1: none known
};

struct ClaimRequest {
  std::int64_t token = 0;
  std::span<std::int64_t const> lanes{};  ///< empty: look first
  int jobs = 0;                           ///< most to claim
  int start = 0;                          ///< members that may start at once
  bool wake = true;  ///< another worker, when there seems to be more; only a claim of one job can leave it out
};

class Work {
 public:
  explicit Work(pg::Connection& connection) noexcept : connection_(connection) {}

  std::int64_t register_worker(Registration const& registration);
  Beat beat(std::int64_t worker, std::int64_t low_token, int free, int running, base::ProcessUsage const& usage);
  std::vector<std::int64_t> look(std::int64_t worker);
  std::vector<LaneInfo> lanes(std::span<std::int64_t const> ids);
  /// Every lane that the worker may claim from, with or without work; nothing of paused queues.
  std::vector<std::int64_t> eligible(std::int64_t worker);
  Claim claim(std::int64_t worker, ClaimRequest const& request);
  /// The same in two steps: nothing else may be asked of the connection in between. False: not possible, nothing sent.
  bool send_claim(std::int64_t worker, ClaimRequest const& request);
  pg::Result receive_claim() { return connection_.receive(); }
  static Claim decode_claim(pg::Result rows);
  /// Returns the tokens whose lease is lost.
  std::vector<std::int64_t> finish(std::int64_t worker, std::span<BatchAck const> acks, std::span<Move const> moves,
                                   std::span<JobResult const> results = {});
  /// The same in two steps, as send_claim().
  bool send_finish(std::int64_t worker, std::span<BatchAck const> acks, std::span<Move const> moves,
                   std::span<JobResult const> results);
  std::vector<std::int64_t> receive_finish();
  // The same with several on their way at once; see pg::Connection::pipe(). False: not possible now, nothing sent.
  bool pipe_claim(std::int64_t worker, ClaimRequest const& request);
  bool pipe_finish(std::int64_t worker, std::span<BatchAck const> acks, std::span<Move const> moves,
                   std::span<JobResult const> results);
  bool pipe_look(std::int64_t worker);
  /// What pipe_finish() or pipe_look() was answered.
  static std::vector<std::int64_t> decode_ids(pg::Result const& rows);
  Claim finish_and_claim(std::int64_t worker, std::span<BatchAck const> acks, std::span<Move const> moves,
                         ClaimRequest const& request, std::span<JobResult const> results = {});
  /// Those of jobs that the worker does not hold (any more) are passed over.
  void report_progress(std::int64_t worker, std::span<ProgressReport const> reports);
  void give_back(std::int64_t worker, std::span<std::int64_t const> tokens);
  void leave(std::int64_t worker, bool keeper);  ///< `keeper`: its place is free; others are called to take it
  /// The jobs that this worker shall stop.
  std::vector<std::int64_t> cancels(std::int64_t worker);
  /// Wakes one other worker that has said that it has free slots.
  void wake_one(std::int64_t worker);
  /// On the channel that listen() listens to. False: as notify_self().
  bool notify(std::string const& payload);
  /// Calls this one.
  void wake(std::int64_t worker);

  // On the LISTEN connection
  void listen();
  /// Notifies itself, and whoever else listens; they all ignore it. False: the server's queue of notifications fills up.
  bool notify_self();
  /// Tries to become the keeper of this profile (session lock). 0: it is; else how many workers there are of its kind.
  int keep(std::string_view profile, std::int64_t worker);
  void let_go();  ///< of everything that this session keeps
  std::vector<std::int64_t> bell(std::span<std::int64_t const> lanes);
  /// From now on a notification says when a limit has room again; off: no more. For the LISTEN connection.
  void limit_bell(bool on);
  /// From now on a worker whose claim finds nothing says so; off: no more. For the LISTEN connection.
  void buffer_bell(std::int64_t worker, bool on);
  void unbell(std::span<std::int64_t const> lanes);
  std::string fence();                          ///< a transaction id of our own, completed
  bool fence_passed(std::string const& fence);  ///< every older transaction has ended

  // Elected work
  std::int64_t lead(std::int64_t worker);  ///< term, 0 when another leads
  DutiesReport duties(std::int64_t worker);
  /// The same work once, whoever leads. 0: nothing became available, and nothing that is due is left.
  std::int64_t promote_reap_and_fire();

 private:
  Claim claim_one(std::int64_t worker, BatchAck const* ended, ClaimRequest const& request);

  pg::Connection& connection_;
};

}  // namespace posthouse::store
