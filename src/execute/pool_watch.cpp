// SPDX-License-Identifier: Apache-2.0
// The pool's watchdog: time limits, and handlers that give no sign of life. See pool.hpp.
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>

#include "execute/pool_slot.hpp"

namespace posthouse::execute {

void Pool::expect(Clock::time_point deadline) {
  if (deadline >= next_deadline_) return;
  next_deadline_ = deadline;
  deadline_changed_.notify_one();
}

void Pool::watch(std::stop_token const& stop) {
  pthread_setname_np(pthread_self(), "posthouse-time");
  while (!stop.stop_requested()) {
    {
      std::unique_lock lock(mutex_);
      auto const seen = next_deadline_;
      auto const changed = [this, seen] { return next_deadline_ < seen; };
      if (seen == Clock::time_point::max()) {
        deadline_changed_.wait(lock, stop, changed);
      } else {
        deadline_changed_.wait_until(lock, stop, seen, changed);
      }
    }
    if (stop.stop_requested()) return;
    auto const now = Clock::now();
    {
      std::lock_guard const lock(mutex_);
      find_silent(now);
    }
    ask_to_stop([now](Slot& slot) {
      if (slot.silent) return true;
      if (!slot.deadline || *slot.deadline > now) return false;
      slot.timed_out = true;
      return true;
    });
    std::lock_guard const lock(mutex_);
    next_deadline_ = Clock::time_point::max();
    for (auto const& slot : slots_) {
      if (slot->busy && !slot->stop_asked && slot->deadline) next_deadline_ = std::min(next_deadline_, *slot->deadline);
      if (auto const due = slot->silent_from()) next_deadline_ = std::min(next_deadline_, *due);
    }
  }
}

// The job ends here, in the order of all endings, and its handler's own end comes later and counts for nothing.
void Pool::find_silent(Clock::time_point now) {
  bool any = false;
  for (auto& slot : slots_) {
    auto const due = slot->silent_from();
    if (!due || *due > now) continue;
    slot->silent = true;
    any = true;
    Ended ended{
        .token = slot->token, .position = slot->position, .id = slot->id, .kind = slot->kind, .queue = slot->queue};
    if (options_.timed) ended.ran = now - slot->since;
    ended.otherwise = std::make_unique<Ended::Otherwise>();
    ended.otherwise->run.outcome =
        Failure{.type = "NoSignOfLife",
                .message = "no heartbeat and no progress for " +
                           std::to_string(slot->kind->options.retry_timer.count()) + " ms (retry_timer)",
                .stack = {}};
    ended.otherwise->kind = slot->kind;
    ended.otherwise->attempt = slot->attempt;
    ended.otherwise->max_attempts = slot->max_attempts;
    ended.otherwise->cancelled = slot->cancelled;
    ended.otherwise->silent = true;
    ended_.push_back(std::move(ended));
  }
  if (any) any_ended_.store(true, std::memory_order_release);
  if (any && armed_ != Armed::no) {
    armed_ = Armed::no;
    options_.wake();
  }
}

}  // namespace posthouse::execute
