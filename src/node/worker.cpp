// SPDX-License-Identifier: Apache-2.0
// posthouse::Worker: checks its options, and starts and stops the threads of each run.
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <posthouse/worker.hpp>
#include <thread>
#include <utility>

#include "base/fork_guard.hpp"
#include "base/leave_signals.hpp"
#include "core/backoff.hpp"
#include "core/names.hpp"
#include "core/refuse.hpp"
#include "core/text.hpp"
#include "duties/heart.hpp"
#include "isolate/serve.hpp"
#include "node/completion.hpp"
#include "node/pump.hpp"
#include "node/registration.hpp"
#include "node/signals.hpp"
#include "node/worker_core.hpp"
#include "node/worker_door.hpp"
#include "store/migrate.hpp"

namespace posthouse {

namespace {

using core::check_range;

void check_rate(double per_second, int burst, char const* rate_name = "requests_per_second",
                char const* burst_name = "burst") {
  if (!(per_second == 0 || (per_second >= 0.0001 && per_second <= 1'000'000))) {
    core::refuse(rate_name, std::to_string(per_second), "0 for no limit, else 0.0001 to 1000000", "");
  }
  check_range(burst_name, burst, 0, per_second > 0 ? 1'000'000 : 0);
}

void check(WorkerOptions& options) {
  if (!options.database_url.empty()) options.database.database_url = options.database_url;
  core::check_schema(options.database.schema);
  core::check_text("name", options.name);
  for (auto const& queue : options.queues) core::check_queue(queue);
  for (auto const& kind : options.kinds) core::check_kind(kind);
  check_range("processes", options.processes, 0, 1'000);
  check_range("kill_grace", options.kill_grace.count(), 0, 3'600'000, "ms");
  check_range("max_jobs_per_child", options.max_jobs_per_child, 0, 1'000'000'000);
  check_range("max_memory_per_child_mb", options.max_memory_per_child_mb, 0, 1'000'000);
  if (options.processes > 0) options.concurrency = options.processes;
  check_range("concurrency", options.concurrency, 1, 1'000);
  check_range("prefetch_buffer", options.prefetch_buffer, 0, 10'000);
  check_range("claim_lease", options.claim_lease.count(), 1'000, 600'000, "ms");
  check_range("heartbeat_interval", options.heartbeat_interval.count(), 1, options.claim_lease.count() / 3, "ms");
  check_range("flush_interval", options.flush_interval.count(), 0, 1'000, "ms");
  check_range("max_result_bytes", static_cast<std::int64_t>(std::min<std::size_t>(options.max_result_bytes, INT64_MAX)),
              0, 64LL * 1024 * 1024, "bytes");
  for (auto const& [queue, limits] : options.queue_limits) {
    core::check_queue(queue);
    check_range("max_concurrency", limits.max_concurrency, 0, 1'000'000);
    check_rate(limits.requests_per_second, limits.burst);
  }
  check_range("cluster_wide_cap", options.cluster_wide_cap, 0, 1'000'000);
  check_range("stop_grace", options.stop_grace.count(), 0, 7LL * 24 * 3600 * 1000, "ms");
}

void check(HandlerOptions const& options) {
  check_range("max_attempts", options.max_attempts, 1, 32'767);
  check_range("timeout", options.timeout.count(), 0, 365LL * 24 * 3600 * 1000, "ms");
  check_range("retry_timer", options.retry_timer.count(), 0, 365LL * 24 * 3600 * 1000, "ms");
  core::validate(options.backoff);
  check_range("concurrency_limit", options.concurrency_limit, 0, 1'000'000);
  check_range("key_limit", options.key_limit, 1, 1'000'000);
  check_rate(options.requests_per_second, options.burst);
  check_range("weight", options.weight, 1, 100);
  if (!options.fair_by.empty()) core::check_fair_by("fair_by", options.fair_by);
  check_rate(options.key_requests_per_second, options.key_burst, "key_requests_per_second", "key_burst");
}

// Those of the handlers that this worker was restricted to.
node::Handlers wanted(WorkerOptions const& options, node::Handlers const& handlers) {
  if (options.kinds.empty()) return handlers;
  node::Handlers some;
  for (auto const& kind : options.kinds) {
    auto const it = handlers.find(kind);
    if (it == handlers.end()) {
      core::refuse("kinds", kind, "kinds with a handler", "call on() for it before start(), or leave it out");
    }
    some.insert(*it);
  }
  return some;
}

// One run, from start() to stop().
class Session {
 public:
  Session(WorkerOptions const& options, node::Handlers const& handlers, WorkerWatch watch,
          std::shared_ptr<monitor::JobMetrics> jobs)
      : core_(options, wanted(options, handlers)), watch_(std::move(watch)) {
    core_.listen_retry = watch_.listen_retry;
    core_.claim_most = watch_.claim_most;
    core_.jobs = std::move(jobs);
    start_children();
    auto connection = pg::Connection::open(core_.options.database);
    for (auto const& warning : store::check_version(*connection)) core_.log.warning(warning);
    store::Work work(*connection);
    core_.statement();
    node::declare_limits(core_, *connection);
    node::declare_kinds(core_, *connection);
    core_.incarnation = node::register_incarnation(core_, work);
    pump_ = std::make_unique<node::Pump>(core_, std::move(connection));
    heart_ = std::make_unique<duties::Heart>(heart_options(), core_.log);
    core_.progressed = [this] { heart_->progressed(); };
    core_.pinged = [this] { heart_->beat_now(); };
    heart_->start();
    thread_ = std::jthread([this] { run(); });
    core_.log.info("worker started", {{"worker", std::to_string(core_.incarnation.load())},
                                      {"concurrency", std::to_string(core_.options.concurrency)},
                                      {"prefetch", std::to_string(core_.options.prefetch_buffer)}});
  }
  ~Session() {
    core_.request(node::Stop::now);
    finish();
  }

  void request(node::Stop how) { core_.request(how); }

  void wait_ended() {
    std::unique_lock lock(mutex_);
    ended_changed_.wait(lock, [this] { return ended_; });
  }
  [[nodiscard]] bool ended() {
    std::lock_guard const lock(mutex_);
    return ended_;
  }
  /// Calls `callback` when the loop has ended; at once when it has already.
  void when_ended(std::function<void()> callback) {
    {
      std::lock_guard const lock(mutex_);
      if (!ended_) {
        callback_ = std::move(callback);
        return;
      }
    }
    callback();
  }
  void forget_callback() {
    std::lock_guard const lock(mutex_);
    callback_ = {};
  }

  /// After wait_ended(): joins everything.
  void finish() {
    std::lock_guard const lock(finish_mutex_);
    if (thread_.joinable()) thread_.join();
    heart_->stop();
  }

  [[nodiscard]] bool inside_handler() const noexcept { return pump_->inside_handler(); }
  [[nodiscard]] WorkerStats stats() const { return core_.counters.read(); }
  [[nodiscard]] std::int64_t incarnation() const { return core_.incarnation; }
  [[nodiscard]] monitor::Health health() const { return node::health_of(core_); }

 private:
  // Before the worker is registered: one whose children do not start shall not hold jobs.
  void start_children() {
    auto const& options = core_.options;
    if (options.processes == 0) return;
    isolate::Children::Options wanted;
    wanted.processes = options.processes;
    wanted.argv = isolate::own_arguments();
    for (auto const& [kind, registered] : core_.handlers) wanted.kinds.push_back(kind);
    wanted.kill_grace = options.kill_grace;
    wanted.max_jobs = options.max_jobs_per_child;
    wanted.max_memory_mb = options.max_memory_per_child_mb;
    core_.children = std::make_unique<isolate::Children>(std::move(wanted), core_.log);
    core_.children->start();
  }

  duties::Heart::Options heart_options() {
    return {.database = core_.options.database,
            .interval = core_.options.heartbeat_interval,
            .lease = core_.options.claim_lease,
            .duties = core_.options.duties,
            .vitals = [this]() -> duties::Vitals {
              return {.worker = core_.incarnation,
                      .low_token = core_.low_token,
                      .free = core_.free,
                      .running = core_.running,
                      .fleet = core_.fleet};
            },
            .dead =
                [this](std::int64_t worker) {
                  core_.dead_incarnation = worker;
                  core_.wake.signal();
                },
            .progress =
                [this] {
                  std::vector<store::ProgressReport> reports;
                  for (auto& one : pump_->take_progress()) {
                    reports.push_back({one.token, one.position, one.id, one.fraction, std::move(one.text)});
                  }
                  return reports;
                },
            .cancel =
                [this] {
                  core_.cancel_asked = true;
                  core_.wake.signal();
                },
            .beaten = [this] { core_.beaten = std::chrono::steady_clock::now(); },
            .also = watch_.with_heart,
            .trouble = watch_.trouble,
            .statement = [this] { core_.statement(); }};
  }

  void run() {
    base::leave_signals_to_others();
    try {
      pump_->run();
    } catch (std::exception const& error) {
      core_.log.error("worker ended by an error", {{"error", error.what()}});
    }
    // Also after an error: without heartbeats the lease lapses, and others take what this worker held.
    heart_->stop();
    // Under the lock, so that whoever waits cannot take the callback's objects away meanwhile.
    std::lock_guard const lock(mutex_);
    ended_ = true;
    ended_changed_.notify_all();
    if (callback_) callback_();
  }

  node::WorkerCore core_;
  WorkerWatch const watch_;
  std::unique_ptr<node::Pump> pump_;
  std::unique_ptr<duties::Heart> heart_;

  std::mutex mutex_;  // guards ended_ and callback_
  std::condition_variable ended_changed_;
  bool ended_ = false;
  std::function<void()> callback_;

  std::mutex finish_mutex_;
  std::jthread thread_;
};

}  // namespace

struct Worker::Impl {
  WorkerOptions options;
  node::Handlers handlers{};
  std::function<void()> on_child_start{};
  bool may_have_processes = false;
  WorkerWatch watch{};
  std::shared_ptr<monitor::JobMetrics> jobs{};
  base::ForkGuard guard{"Worker"};
  pid_t const owner = ::getpid();

  mutable std::mutex shown_mutex;    // guards shown; never held while anything is opened
  std::shared_ptr<Session> shown{};  // session, once it is there
  mutable std::mutex mutex;          // guards session; never held while waiting
  std::shared_ptr<Session> session{};
  WorkerStats last{};
  std::int64_t last_incarnation = 0;

  std::shared_ptr<Session> current() const {
    std::lock_guard const lock(mutex);
    return session;
  }

  void stop(node::Stop how) {
    guard.check();
    auto const running = current();
    if (!running) return;
    running->request(how);
    // A handler that stops its own worker cannot wait for itself.
    if (running->inside_handler()) return;
    settle(running);
  }

  // Waits for the end of that run and puts it away.
  void settle(std::shared_ptr<Session> const& running) {
    running->wait_ended();
    running->finish();
    std::lock_guard const lock(mutex);
    if (session != running) return;
    last = running->stats();
    last_incarnation = running->incarnation();
    session.reset();
    std::lock_guard const shown_lock(shown_mutex);
    shown.reset();
  }
};

Worker::Worker(WorkerOptions options) : impl_(std::make_unique<Impl>()) {
  check(options);
  impl_->options = std::move(options);
}

Worker::~Worker() {
  if (!impl_ || impl_->owner != ::getpid()) {
    // The threads belong to the parent: there is nothing to stop, and nothing that may be torn down.
    (void)impl_.release();
    return;
  }
  impl_->stop(node::Stop::graceful);
}

Worker& Worker::on(std::string_view kind, HandlerOptions options, Handler handler) {
  core::check_kind(kind);
  check(options);
  if (!handler) core::refuse_because("handler of kind " + core::shown(kind), "it is empty", "a callable", "pass one");
  if (impl_->current()) {
    core::refuse_because("on()", "the worker is running", "registering before start()", "stop the worker first");
  }
  std::string name(kind);
  auto const [it, fresh] = impl_->handlers.try_emplace(
      name, execute::Registered{.kind = name, .options = std::move(options), .handler = std::move(handler)});
  if (!fresh) {
    core::refuse("kind", kind, "each kind once a worker", "remove one of the two on() calls, or rename the kind");
  }
  return *this;
}

Worker& Worker::on_child_start(std::function<void()> function) {
  if (impl_->current()) {
    core::refuse_because("on_child_start()", "the worker is running", "calling it before start()",
                         "stop the worker first");
  }
  impl_->on_child_start = std::move(function);
  return *this;
}

void WorkerDoor::allow_processes(Worker& worker) { worker.impl_->may_have_processes = true; }

void WorkerDoor::watch(Worker& worker, WorkerWatch watch) { worker.impl_->watch = std::move(watch); }

bool WorkerDoor::ended(Worker const& worker) {
  auto const running = worker.impl_->current();
  return !running || running->ended();
}

void WorkerDoor::observe(Worker& worker, std::shared_ptr<monitor::JobMetrics> jobs) {
  worker.impl_->jobs = std::move(jobs);
}

monitor::Health WorkerDoor::health(Worker const& worker) {
  std::lock_guard const lock(worker.impl_->shown_mutex);
  return worker.impl_->shown ? worker.impl_->shown->health() : monitor::Health{};
}

WorkerStats WorkerDoor::stats(Worker const& worker) {
  std::lock_guard const lock(worker.impl_->shown_mutex);
  return worker.impl_->shown ? worker.impl_->shown->stats() : WorkerStats{};
}

int WorkerDoor::serve(Worker& worker, base::UniqueFd socket, base::Log const& log) {
  auto const& impl = *worker.impl_;
  isolate::Service const service{.handlers = impl.handlers,
                                 .around = impl.options.around,
                                 .on_start = impl.on_child_start,
                                 .max_result_bytes = impl.options.max_result_bytes,
                                 .complete = node::completion(log, impl.options.database.schema)};
  return isolate::serve(std::move(socket), service, log);
}

void Worker::start() {
  impl_->guard.check();
  std::lock_guard const lock(impl_->mutex);
  if (impl_->session && !impl_->session->ended()) return;
  if (impl_->session) impl_->session->finish();
  if (impl_->handlers.empty()) {
    core::refuse_because("worker", "it has no handlers", "at least one kind", "call on(kind, handler) before start()");
  }
  if (impl_->options.processes > 0 && !impl_->may_have_processes) {
    core::refuse("processes", std::to_string(impl_->options.processes), "0 in a Worker that a program makes by itself",
                 "A child process is this program started anew, so it has to know what to do then: let "
                 "posthouse::run_worker(argc, argv, …) make the Worker, or run `posthouse work`.");
  }
  if (impl_->options.prefetch_buffer > 0 && !impl_->options.claim_lease_given) {
    core::refuse("prefetch_buffer", std::to_string(impl_->options.prefetch_buffer),
                 "0, or with a lease that is written out",
                 "jobs that wait in the buffer are hidden from other workers until the lease lapses: say how long with "
                 "with_prefetch(jobs, lease), or claim_lease_ms in the configuration");
  }
  impl_->session = std::make_shared<Session>(impl_->options, impl_->handlers, impl_->watch, impl_->jobs);
  std::lock_guard const shown_lock(impl_->shown_mutex);
  impl_->shown = impl_->session;
}

void Worker::stop() { impl_->stop(node::Stop::graceful); }

void Worker::stop_now() { impl_->stop(node::Stop::now); }

void Worker::wait() {
  impl_->guard.check();
  if (auto const running = impl_->current()) impl_->settle(running);
}

void Worker::run() {
  node::SignalWatch const signals;
  try {
    start();
  } catch (Unavailable const&) {
    // Whoever runs this in a loop until the database is there must not lose the signal that asks it to leave.
    if (signals.count() > 0) return;
    throw;
  }
  auto const running = impl_->current();
  if (!running) return;
  running->when_ended([&signals] { signals.interrupt(); });
  while (!running->ended()) {
    signals.wait();
    if (signals.count() >= 2) {
      running->request(node::Stop::now);
    } else if (signals.count() == 1) {
      running->request(node::Stop::graceful);
    }
  }
  running->forget_callback();
  impl_->settle(running);
}

WorkerStats Worker::stats() const {
  std::lock_guard const lock(impl_->mutex);
  return impl_->session ? impl_->session->stats() : impl_->last;
}

std::int64_t Worker::incarnation() const {
  std::lock_guard const lock(impl_->mutex);
  return impl_->session ? impl_->session->incarnation() : impl_->last_incarnation;
}

}  // namespace posthouse
