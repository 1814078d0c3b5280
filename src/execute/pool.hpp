// SPDX-License-Identifier: Apache-2.0
// The handler threads: take tasks in order, run them, collect how they ended.
//
// One lock, held for well under a microsecond a job, guards the queue of tasks and the list of endings; nobody is
// signalled a job. Threads are started as tasks come, up to the limit, and end with close().
// Memory: what was pushed and not harvested; the caller bounds it.
// Thread safety: all members. push(), harvest() and arm() are meant for one thread.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <posthouse/job.hpp>
#include <posthouse/transaction.hpp>
#include <posthouse/worker.hpp>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/log.hpp"
#include "execute/result.hpp"
#include "execute/run.hpp"

namespace posthouse::execute {

using Clock = std::chrono::steady_clock;

/// A kind and its handler, as registered. Outlives every task.
struct Registered {
  std::string kind{};
  HandlerOptions options{};
  Handler handler{};
};

/// One job to run. The views stay valid until its Ended was harvested, or until take_back() returned it.
struct Task {
  Registered const* kind = nullptr;
  std::int64_t worker = 0;
  std::int64_t token = 0;
  int position = 0;
  std::int64_t id = 0;
  std::int64_t lane = 0;
  std::int64_t attempt = 1;  ///< the number of this attempt
  std::int64_t max_attempts = 25;
  std::int64_t crashes = 0;                    ///< child processes that this job has cost so far
  std::chrono::milliseconds timeout{0};        ///< 0: none
  std::optional<Clock::time_point> expires{};  ///< must not start from then on
  std::string_view queue{};
  int priority = 0;
  bool is_null = true;
  bool is_bytes = false;
  std::string_view payload{};
  std::string_view headers{};
  std::vector<std::int64_t> depends_on{};
};

struct Ended {
  std::int64_t token = 0;
  int position = 0;
  std::int64_t id = 0;
  Registered const* kind = nullptr;
  std::string_view queue{};  ///< the task's own view
  Clock::duration ran{};     ///< zero: not started, or nobody asked (Options::timed)
  /// Nothing: success.
  struct Otherwise {
    Run run{};
    Registered const* kind = nullptr;
    std::int64_t attempt = 1;
    std::int64_t max_attempts = 25;
    std::int64_t crashes = 0;  ///< before this run
    bool expired = false;      ///< it was not started at all
    bool cancelled = false;    ///< it had been asked to stop by cancel()
    bool timed_out = false;    ///< it had been asked to stop because of its timeout
    bool silent = false;       ///< its retry_timer has run out; the handler still runs, and ends a second time
  };
  std::unique_ptr<Otherwise> otherwise{};
  bool late = false;               ///< it had ended before, `silent`
  std::unique_ptr<Kept> result{};  ///< of a success that has one
};

/// A job that is running now, for logs.
struct Running {
  std::int64_t token = 0;
  std::int64_t id = 0;
  std::string kind{};
  Clock::time_point since{};
  std::string progress{};
};

/// What a running job has said of its progress.
struct Reported {
  std::int64_t token = 0;
  int position = 0;
  std::int64_t id = 0;
  double fraction = 0;  ///< 0 to 1
  std::string text{};   ///< sanitised, at most 1,000 bytes
};

class Pool {
 public:
  struct Options {
    int threads = 1;
    Around around{};
    /// Instead of calling the handler here, when `isolated` says so; must not throw. Empty: it is called here.
    std::function<Run(Job const&)> run{};
    std::function<bool(HandlerOptions const&)> isolated{};  ///< not empty when `run` is not
    std::size_t max_result_bytes = 1024 * 1024;
    bool timed = false;  ///< fill Ended::ran
    /// Behind Job::complete; the result may be null.
    std::function<void(Job const&, Transaction const&, Kept const* result)> complete{};
    std::function<void()> wake{};        ///< see arm(); must not throw
    std::function<void()> progressed{};  ///< take_progress() has something, for the first time since; must not throw
  };

  Pool(Options options, base::Log const& log);
  /// Waits for the running handlers.
  ~Pool();
  Pool(Pool const&) = delete;
  Pool& operator=(Pool const&) = delete;

  /// Higher priority first; within one, in order, or `before` those that are queued already.
  void push(std::vector<Task> const& tasks, bool before = false);
  /// Appends what has ended since the last call, and what has been silent for longer than its kind's retry_timer.
  void harvest(std::vector<Ended>& into);
  /// Whether harvest() would find anything. Needs no lock.
  [[nodiscard]] bool any_ended() const noexcept { return any_ended_.load(std::memory_order_acquire); }
  /// Tasks that no thread has taken, of one batch or of all (0); they will not run.
  std::vector<Task> take_back(std::int64_t token = 0);
  /// Of those up to `most` that `which` accepts, the ones that would be taken last.
  std::vector<Task> take_last(std::size_t most, std::function<bool(Task const&)> const& which);

  /// Before the caller sleeps: wake() is called once when something has ended and, unless `any`, at most `low_water`
  /// tasks are left to take. False: something has ended already, harvest again.
  bool arm(bool any, std::size_t low_water);

  /// Asks the handlers of that batch, or all, to stop.
  void request_stop(std::int64_t token);
  void request_stop_all();
  /// Asks the handlers of these jobs to stop; `tasks` receives those of them that no thread has taken, and that will not
  /// run. `unknown`: the jobs that are neither.
  void cancel(std::vector<std::int64_t> const& jobs, std::vector<Task>& tasks, std::set<std::int64_t>& unknown);

  /// No more tasks. Threads end when their handlers return.
  void close();
  /// False: handlers were still running at the deadline.
  bool wait_quiet(Clock::time_point deadline);
  [[nodiscard]] std::vector<Running> running() const;
  /// The newest progress of each running job that has reported any since the last call.
  std::vector<Reported> take_progress();
  /// True on one of this pool's threads, inside a handler.
  [[nodiscard]] bool inside() const noexcept;

 private:
  struct Slot;

  void work(Slot& slot);
  Run run_task(Slot& slot, Task const& task, std::optional<Clock::time_point> deadline);
  Task take();  // with the lock, when there is one
  void watch(std::stop_token const& stop);
  void find_silent(Clock::time_point now);  // with the lock
  void expect(Clock::time_point deadline);  // with the lock
  void ask_to_stop(std::function<bool(Slot&)> const& matches);

  Options const options_;
  sigset_t signals_{};  // of the thread that made the pool: what handlers start inherits it
  base::Log const& log_;

  mutable std::mutex mutex_;
  std::condition_variable tasks_ready_;
  std::condition_variable quiet_;
  std::condition_variable_any deadline_changed_;
  std::map<int, std::deque<Task>, std::greater<>> tasks_;  // by priority; no queue is empty
  std::size_t queued_ = 0;                                 // tasks in all of them
  std::vector<Ended> ended_;
  std::atomic<bool> any_ended_{false};  // written with the lock
  std::vector<std::unique_ptr<Slot>> slots_;
  std::size_t idle_ = 0;
  std::size_t busy_ = 0;
  bool closed_ = false;
  enum class Armed { no, low, any } armed_ = Armed::no;
  std::size_t low_water_ = 0;
  Clock::time_point next_deadline_ = Clock::time_point::max();

  std::jthread watchdog_;  // started with the first task that has a timeout or a retry_timer
};

}  // namespace posthouse::execute
