// SPDX-License-Identifier: Apache-2.0
// The consumer: claims jobs and runs handlers.
//
// Memory: at most concurrency + prefetch_buffer jobs at a time, whatever the backlog; a claim brings at most 2,000 jobs
// in 16 batches of at most 16 MiB of payloads each, and is freed when its last job has ended. Results, of at most
// max_result_bytes each, wait for their acknowledgement; a statement carries at most 16 MiB of them, or one.
// Connections: two and one for LISTEN, whatever the concurrency; the leader opens one more about once a minute.
// Child processes (WorkerOptions::processes): the worker opens none for them; what their handlers open is theirs.
// Thread safety: register handlers before start(); start(), stop() and wait() may be called from any thread and are
// idempotent; stop() inside a handler only asks, since a handler cannot wait for its own end. Only run() and
// run_worker() touch signals. Handlers must not outlive stop(). Use after fork() throws.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <posthouse/client.hpp>
#include <posthouse/error.hpp>
#include <posthouse/job.hpp>
#include <posthouse/options.hpp>
#include <posthouse/outcome.hpp>

namespace posthouse {

enum class OnDecodeError { fail, retry };

/// Policies of one kind.
struct HandlerOptions {
  int max_attempts = 25;                 ///< 1 to 32,767; a job's own option wins
  Backoff backoff{};                     ///< delay between attempts
  std::chrono::milliseconds timeout{0};  ///< asks the handler to stop after this long; 0: none; a job's own option wins
  OnDecodeError on_decode_error = OnDecodeError::fail;  ///< retry keeps unreadable jobs for a rolling deployment
  int concurrency_limit = 0;       ///< jobs of this kind at once in all workers together, 1 to 1,000,000; 0: no limit
  double requests_per_second = 0;  ///< starts in all workers together, 0.0001 to 1,000,000; 0: no limit
  int burst = 0;                   ///< starts at once after a pause, to 1,000,000; 0: one second's worth, at least 1
  /// 0: off. A job whose handler has given no sign of life (Job::heartbeat(), Job::progress(), its start) for so long, 1 ms
  /// to 365 days, is taken from it: that attempt has failed, and the next one is made at once, by whoever is free. The
  /// handler is asked to stop and keeps its thread until it returns; what it then says counts for nothing.
  std::chrono::milliseconds retry_timer{0};
  int key_limit = 1;                   ///< jobs of one EnqueueOptions::key at once, 1 (in order) to 1,000,000
  double key_requests_per_second = 0;  ///< starts of one key in all workers together, 0.0001 to 1,000,000; 0: no limit
  int key_burst = 0;                   ///< as burst, for it
  bool serialized_dispatch = false;    ///< one job at once of each key, else of each dedupe_key, else of the kind
  int weight = 1;  ///< turns that the kind has where one of weight 1 and the same priority has one, 1 to 100
  /// Tenants: "key" or "header:NAME". Jobs with another key, or another value of that header, share the kind's turns, so
  /// that a million jobs of one delay another's by a turn. Of jobs that are enqueued later; empty: off.
  std::string fair_by{};
};

/// Limits of a queue, in all workers together.
struct QueueLimits {
  int max_concurrency = 0;         ///< jobs at once, 1 to 1,000,000; 0: no limit
  double requests_per_second = 0;  ///< starts, 0.0001 to 1,000,000; 0: no limit
  int burst = 0;                   ///< as in HandlerOptions
};

struct WorkerOptions {
  std::string database_url{};  ///< shorthand for database.database_url; wins when not empty
  DatabaseOptions database{};
  std::string name{};                                  ///< shown to operators; empty: host:pid
  std::vector<std::string> queues{};                   ///< empty: every queue
  std::vector<std::string> kinds{};                    ///< empty: every kind with a handler; else these of them alone
  int concurrency = 4;                                 ///< handler threads, 1 to 1,000
  int prefetch_buffer = 0;                             ///< jobs claimed ahead of a free slot, 0 to 10,000
  std::chrono::milliseconds claim_lease{30000};        ///< 1 s to 10 min; must be written out when prefetch_buffer > 0
  bool claim_lease_given = false;                      ///< set by with_prefetch() and by the configuration
  std::chrono::milliseconds heartbeat_interval{5000};  ///< at most a third of the lease
  std::chrono::milliseconds flush_interval{5};         ///< longest wait of a finished job for its group, 0 to 1 s
  std::chrono::milliseconds stop_grace{30000};         ///< how long stop() lets running handlers finish
  bool once = false;                                   ///< leave when nothing is available or running
  /// Child processes that run the handlers, 1 to 1,000, each one job at a time; `concurrency` is as many then. 0: threads
  /// of this process do. Only through run_worker(), since a child is this program started anew.
  int processes = 0;
  std::chrono::milliseconds kill_grace{5000};  ///< a child is killed so long after it was asked to stop, 0 to 1 h
  int max_jobs_per_child = 0;                  ///< then it is replaced, 1 to 1,000,000,000; 0: never
  int max_memory_per_child_mb =
      0;  ///< a child with more resident MiB after a job is replaced, 1 to 1,000,000; 0: never
  std::size_t max_result_bytes = 1024 * 1024;         ///< larger results are dropped, 0 to 64 MiB; 0: keep none
  std::map<std::string, QueueLimits> queue_limits{};  ///< declared at start(); queues not named keep what they have
  int cluster_wide_cap = 0;                           ///< jobs at once in all workers together; 0: says nothing
  bool duties = true;                                 ///< take part in the elected work (promote, reap, rotate)
  Logger logger{};                                    ///< empty: warnings and errors to standard error
  /// Called around every run: must call `next` exactly once and return its outcome.
  std::function<Outcome(Job const&, std::function<Outcome()> const& next)> around{};

  WorkerOptions& with_prefetch(int jobs, std::chrono::milliseconds lease) {
    prefetch_buffer = jobs;
    claim_lease = lease;
    claim_lease_given = true;
    return *this;
  }
};

/// Counters since start(); cheap to read.
struct WorkerStats {
  std::int64_t claimed = 0;
  std::int64_t succeeded = 0;
  std::int64_t failed = 0;  ///< attempts that ended in an error, retried or not
  std::int64_t snoozed = 0;
  std::int64_t released = 0;   ///< given back unstarted
  std::int64_t expired = 0;    ///< not started because their expires_at had passed
  std::int64_t cancelled = 0;  ///< stopped by a cancel
  std::int64_t lease_lost = 0;
  std::int64_t statements = 0;
  std::int64_t claims = 0;
  std::int64_t empty_claims = 0;
};

class Worker {
 public:
  using Handler = std::function<Outcome(Job const&)>;

  /// Opens no connection yet. Throws InvalidArgument when an option is out of range.
  explicit Worker(WorkerOptions options);
  /// Stops first when still running.
  ~Worker();
  Worker(Worker const&) = delete;
  Worker& operator=(Worker const&) = delete;

  /// The untyped form. A kind registered twice is an error.
  Worker& on(std::string_view kind, HandlerOptions options, Handler handler);

  /// Typed: `function` is called with (Job const&, T const&) and returns void, Outcome, one of its alternatives, or a
  /// value with a codec, which becomes the result.
  template <class T, class F>
  requires std::is_invocable_v<F&, Job const&, T const&> Worker& on(Kind<T> kind, HandlerOptions options, F function) {
    return on(kind.name, std::move(options),
              Handler([function = std::move(function)](Job const& job) mutable -> Outcome {
                T const value = codec<T>::decode(job.payload());
                return finish([&]() -> decltype(auto) { return function(job, value); });
              }));
  }
  template <class T, class F>
  requires std::is_invocable_v<F&, Job const&, T const&> Worker& on(Kind<T> kind, F function) {
    return on(kind, HandlerOptions{}, std::move(function));
  }

  /// Raw: `function` is called with (Job const&).
  template <class F>
  requires(std::is_invocable_v<F&, Job const&> &&
           !std::is_same_v<std::decay_t<F>, Handler>) Worker& on(std::string_view kind, HandlerOptions options,
                                                                 F function) {
    return on(kind, std::move(options), Handler([function = std::move(function)](Job const& job) mutable -> Outcome {
                return finish([&]() -> decltype(auto) { return function(job); });
              }));
  }
  template <class F>
  requires std::is_invocable_v<F&, Job const&> Worker& on(std::string_view kind, F function) {
    return on(kind, HandlerOptions{}, std::move(function));
  }

  /// Called in each child process before its first job, for what handlers need there; what it throws keeps the child, and
  /// a worker that starts, from becoming ready. Never called without `processes`. Before start(); the last one counts.
  Worker& on_child_start(std::function<void()> function);

  /// Connects, registers and begins to claim; returns when the worker is registered. Throws SchemaMissing,
  /// Unavailable or InvalidArgument (nothing registered, prefetch without lease).
  void start();
  /// Stops claiming, gives unstarted jobs back, waits for running ones up to stop_grace, then leaves. Returns when
  /// stopped.
  void stop();
  /// As stop(), but asks running handlers to stop at once and gives their jobs back without counting the attempt.
  void stop_now();
  /// Blocks until the worker has stopped (with `once`: until the queue is drained).
  void wait();
  /// start(), then until SIGTERM or SIGINT, then stop(); a second signal is stop_now(). Restores the signal handlers.
  /// Throws what start() throws, but returns when a signal came while the database was out of reach.
  void run();

  [[nodiscard]] WorkerStats stats() const;
  [[nodiscard]] std::int64_t incarnation() const;  ///< 0 before start()

 private:
  template <class Call>
  static Outcome finish(Call call) {
    using Result = std::decay_t<decltype(call())>;
    if constexpr (std::is_void_v<Result>) {
      call();
      return Success{};
    } else if constexpr (std::is_constructible_v<Outcome, Result>) {
      return Outcome{call()};
    } else {
      return success_of(call());
    }
  }

  friend struct WorkerDoor;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// `int main(int c, char** v) { return posthouse::run_worker(c, v, [](posthouse::Worker& w) { w.on(…); }); }` gives a
/// program the flags of `posthouse work`. Returns the exit status: 0 done, 1 failed, 2 usage, 4 database out of reach.
int run_worker(int argc, char** argv, std::function<void(Worker&)> const& register_handlers);

}  // namespace posthouse
