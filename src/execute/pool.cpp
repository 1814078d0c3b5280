// SPDX-License-Identifier: Apache-2.0
// See pool.hpp.
#include "execute/pool.hpp"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <system_error>
#include <utility>
#include <variant>

#include "core/headers_json.hpp"
#include "execute/pool_slot.hpp"

namespace posthouse::execute {

namespace {

thread_local Pool const* current_pool = nullptr;

Payload payload_of(Task const& task) {
  if (task.is_null) return {};
  if (task.is_bytes) return bytes{std::string(task.payload)};
  return json{std::string(task.payload)};
}

}  // namespace

Pool::Pool(Options options, base::Log const& log) : options_(std::move(options)), log_(log) {
  ::pthread_sigmask(SIG_SETMASK, nullptr, &signals_);
}

Pool::~Pool() {
  close();
  watchdog_ = {};
  slots_.clear();
}

void Pool::push(std::vector<Task> const& tasks, bool before) {
  if (tasks.empty()) return;
  std::size_t wake = 0;
  {
    std::lock_guard const lock(mutex_);
    if (closed_) return;
    for (auto from = tasks.begin(); from != tasks.end();) {
      auto const to =
          std::find_if(from, tasks.end(), [&](Task const& task) { return task.priority != from->priority; });
      auto& queue = tasks_[from->priority];
      queue.insert(before ? queue.begin() : queue.end(), from, to);
      from = to;
    }
    queued_ += tasks.size();
    wake = std::min(idle_, tasks.size());
    // Threads that run nothing are waiting, or on their way to look for a task.
    while (slots_.size() - busy_ < queued_ && slots_.size() < static_cast<std::size_t>(options_.threads)) {
      auto& slot = *slots_.emplace_back(std::make_unique<Slot>(*this));
      try {
        slot.thread = std::jthread([this, &slot] { work(slot); });
      } catch (std::system_error const& error) {
        slots_.pop_back();
        if (slots_.empty()) throw;
        log_.warning("no further handler thread can be started", {{"error", error.what()}});
        break;
      }
    }
    bool const timed = std::any_of(tasks.begin(), tasks.end(), [](Task const& task) {
      return task.timeout.count() > 0 || task.kind->options.retry_timer.count() > 0;
    });
    if (timed && !watchdog_.joinable()) {
      watchdog_ = std::jthread([this](std::stop_token const& stop) { watch(stop); });
    }
  }
  for (; wake > 0; --wake) tasks_ready_.notify_one();
}

void Pool::harvest(std::vector<Ended>& into) {
  std::lock_guard const lock(mutex_);
  any_ended_.store(false, std::memory_order_relaxed);
  if (into.empty()) {
    std::swap(into, ended_);
  } else {
    into.insert(into.end(), std::make_move_iterator(ended_.begin()), std::make_move_iterator(ended_.end()));
    ended_.clear();
  }
}

std::vector<Task> Pool::take_back(std::int64_t token) {
  std::lock_guard const lock(mutex_);
  std::vector<Task> taken;
  for (auto it = tasks_.begin(); it != tasks_.end();) {
    std::erase_if(it->second, [&](Task const& task) {
      if (token != 0 && task.token != token) return false;
      taken.push_back(task);
      return true;
    });
    it = it->second.empty() ? tasks_.erase(it) : std::next(it);
  }
  queued_ -= taken.size();
  return taken;
}

std::vector<Task> Pool::take_last(std::size_t most, std::function<bool(Task const&)> const& which) {
  std::lock_guard const lock(mutex_);
  std::vector<Task> taken;
  for (auto it = tasks_.end(); it != tasks_.begin() && taken.size() < most;) {
    --it;
    auto& queue = it->second;
    std::deque<Task> kept;
    for (; !queue.empty(); queue.pop_back()) {
      if (taken.size() < most && which(queue.back())) {
        taken.push_back(std::move(queue.back()));
      } else {
        kept.push_front(std::move(queue.back()));
      }
    }
    queue = std::move(kept);
    if (queue.empty()) it = tasks_.erase(it);
  }
  queued_ -= taken.size();
  return taken;
}

Task Pool::take() {
  auto const queue = tasks_.begin();
  Task const task = queue->second.front();
  queue->second.pop_front();
  --queued_;
  if (queue->second.empty()) tasks_.erase(queue);
  return task;
}

bool Pool::arm(bool any, std::size_t low_water) {
  std::lock_guard const lock(mutex_);
  if (!ended_.empty() && (any || queued_ <= low_water)) return false;
  armed_ = any ? Armed::any : Armed::low;
  low_water_ = low_water;
  return true;
}

void Pool::ask_to_stop(std::function<bool(Slot&)> const& matches) {
  // Callbacks of users run inside request_stop(), so it is called without the lock. A slot that was asked gets a fresh
  // source for its next job, which a request that comes late cannot reach.
  std::vector<std::stop_source> asked;
  {
    std::lock_guard const lock(mutex_);
    for (auto& slot : slots_) {
      if (!slot->busy || slot->stop_asked || !matches(*slot)) continue;
      slot->stop_asked = true;
      asked.push_back(slot->stop);
    }
  }
  for (auto& stop : asked) stop.request_stop();
}

void Pool::request_stop(std::int64_t token) {
  ask_to_stop([token](Slot const& slot) { return slot.token == token; });
}

void Pool::request_stop_all() {
  ask_to_stop([](Slot const&) { return true; });
}

void Pool::cancel(std::vector<std::int64_t> const& jobs, std::vector<Task>& tasks, std::set<std::int64_t>& unknown) {
  unknown.insert(jobs.begin(), jobs.end());
  {
    std::lock_guard const lock(mutex_);
    for (auto& slot : slots_) {
      if (slot->busy && unknown.erase(slot->id) > 0) slot->cancelled = true;
    }
    for (auto it = tasks_.begin(); it != tasks_.end();) {
      queued_ -= std::erase_if(it->second, [&](Task const& task) {
        if (unknown.erase(task.id) == 0) return false;
        tasks.push_back(task);
        return true;
      });
      it = it->second.empty() ? tasks_.erase(it) : std::next(it);
    }
  }
  ask_to_stop([](Slot const& slot) { return slot.cancelled; });
}

void Pool::close() {
  {
    std::lock_guard const lock(mutex_);
    closed_ = true;
    tasks_.clear();
    queued_ = 0;
  }
  tasks_ready_.notify_all();
}

bool Pool::wait_quiet(Clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  return quiet_.wait_until(lock, deadline, [this] { return busy_ == 0; });
}

std::vector<Running> Pool::running() const {
  std::vector<Running> all;
  std::lock_guard const lock(mutex_);
  for (auto const& slot : slots_) {
    if (!slot->busy) continue;
    std::lock_guard const progress(slot->progress_mutex);
    all.push_back({slot->token, slot->id, slot->kind->kind, slot->since, slot->shown_progress()});
  }
  return all;
}

std::vector<Reported> Pool::take_progress() {
  std::vector<Reported> all;
  std::lock_guard const lock(mutex_);
  for (auto const& slot : slots_) {
    std::lock_guard const progress(slot->progress_mutex);
    if (!std::exchange(slot->progress_untold, false) || !slot->busy || !slot->last_progress) continue;
    all.push_back({slot->token, slot->position, slot->id, slot->last_progress->first, slot->last_progress->second});
  }
  return all;
}

bool Pool::inside() const noexcept { return current_pool == this; }

void Pool::work(Slot& slot) {
  pthread_setname_np(pthread_self(), "posthouse-job");
  ::pthread_sigmask(SIG_SETMASK, &signals_, nullptr);
  current_pool = this;
  std::unique_lock lock(mutex_);
  for (;;) {
    if (tasks_.empty()) {
      if (closed_) return;
      ++idle_;
      tasks_ready_.wait(lock, [this] { return closed_ || !tasks_.empty(); });
      --idle_;
      continue;
    }
    Task const task = take();
    slot.busy = true;
    slot.token = task.token;
    slot.id = task.id;
    slot.position = task.position;
    if (slot.progress_made.exchange(false, std::memory_order_relaxed)) {
      std::lock_guard const progress(slot.progress_mutex);
      slot.last_progress.reset();
      slot.progress_untold = false;
    }
    slot.kind = task.kind;
    slot.queue = task.queue;
    slot.since = Clock::now();
    slot.id_for_log.store(task.id, std::memory_order_relaxed);
    slot.deadline.reset();
    slot.cancelled = false;
    slot.timed_out = false;
    slot.attempt = task.attempt;
    slot.max_attempts = task.max_attempts;
    slot.silent = false;
    slot.completing = false;
    if (slot.stop_asked) {
      slot.stop = std::stop_source{};
      slot.stop_asked = false;
    }
    if (task.timeout.count() > 0) {
      slot.deadline = slot.since + task.timeout;
      expect(*slot.deadline);
    }
    if (auto const due = slot.silent_from()) expect(*due);
    ++busy_;
    auto const deadline = slot.deadline;
    lock.unlock();

    Ended ended{.token = task.token, .position = task.position, .id = task.id, .kind = task.kind, .queue = task.queue};
    slot.result_given = false;
    if (task.expires && slot.since >= *task.expires) {
      ended.otherwise = std::make_unique<Ended::Otherwise>();
      ended.otherwise->kind = task.kind;
      ended.otherwise->expired = true;
    } else if (auto result = run_task(slot, task, deadline);
               auto const* success = std::get_if<Success>(&result.outcome)) {
      if (!slot.result_given) ended.result = kept(*success, options_.max_result_bytes);
    } else {
      ended.otherwise.reset(
          new Ended::Otherwise{std::move(result), task.kind, task.attempt, task.max_attempts, task.crashes});
    }
    if (options_.timed && !(ended.otherwise && ended.otherwise->expired)) ended.ran = Clock::now() - slot.since;

    lock.lock();
    slot.busy = false;
    ended.late = slot.silent;
    if (ended.otherwise) {
      ended.otherwise->cancelled = slot.cancelled;
      ended.otherwise->timed_out = slot.timed_out;
    }
    --busy_;
    ended_.push_back(std::move(ended));
    any_ended_.store(true, std::memory_order_release);
    if (busy_ == 0) quiet_.notify_all();
    if (armed_ == Armed::any || (armed_ == Armed::low && queued_ <= low_water_)) {
      armed_ = Armed::no;
      lock.unlock();
      options_.wake();
      lock.lock();
    }
  }
}

Run Pool::run_task(Slot& slot, Task const& task, std::optional<Clock::time_point> deadline) {
  try {
    Job::Facts facts;
    facts.id = task.id;
    facts.kind = task.kind->kind;
    facts.queue = task.queue;
    facts.priority = task.priority;
    facts.attempt = task.attempt;
    facts.max_attempts = task.max_attempts;
    facts.payload = payload_of(task);
    if (!task.headers.empty()) facts.headers = core::headers_from_json(task.headers);
    facts.depends_on = task.depends_on;
    facts.worker = task.worker;
    facts.token = task.token;
    facts.position = task.position;
    facts.deadline = deadline;
    Job const job(std::move(facts), slot.stop.get_token(), &slot);
    if (options_.run && options_.isolated(task.kind->options)) return options_.run(job);
    return run(task.kind->handler, options_.around, job);
  } catch (std::exception const&) {
    return outcome_of(std::current_exception());
  }
}

}  // namespace posthouse::execute
