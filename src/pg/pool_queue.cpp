// SPDX-License-Identifier: Apache-2.0
// See pool_queue.hpp.
#include "pg/pool_queue.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "core/refuse.hpp"

namespace posthouse::pg {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t holders_shown = 3;

std::string seconds_text(PoolQueue::Clock::duration time) {
  auto const ms = std::max<std::int64_t>(0, std::chrono::duration_cast<milliseconds>(time).count());
  return std::to_string(ms / 1000) + "." + std::to_string(ms % 1000 / 100) + " s";
}

}  // namespace

PoolQueue::PoolQueue(Rules rules, Open open, std::function<Clock::time_point()> now)
    : rules_(std::move(rules)), open_(std::move(open)), now_(std::move(now)) {}

std::size_t PoolQueue::limit() const {
  auto const most = rules_.size + rules_.overflow;
  return rules_.cap ? std::min(most, std::max<std::size_t>(1, rules_.cap())) : most;
}

/// An idle one, or the right to open one. Under the lock.
bool PoolQueue::grab(Slots& mine) {
  if (!idle_.empty()) {
    mine.splice(mine.end(), idle_, std::prev(idle_.end()));
    return true;
  }
  if (count_ >= limit()) return false;
  mine.emplace_back();
  mine.back().self = mine.begin();
  ++count_;
  return true;
}

/// Gives what is in `mine` to who waits longest; else it becomes idle, or what is left of it goes. Under the lock; a
/// connection that is in `mine` afterwards is the caller's to destroy.
void PoolQueue::pass_on(Slots& mine) noexcept {
  if (!waiters_.empty() && count_ <= limit()) {
    Waiter& next = *waiters_.front();
    waiters_.pop_front();
    next.grant.splice(next.grant.end(), mine);
    next.over = true;
    next.ready.notify_one();  // under the lock: the waiter goes as soon as it sees `over`
    return;
  }
  Slot& slot = mine.front();
  if (slot.item && is_open_ && rules_.keep && idle_.size() < rules_.size && count_ <= limit()) {
    slot.since = now_();
    idle_.splice(idle_.end(), mine);
    return;
  }
  --count_;
  if (!slot.item) return;
  ++counted_.closed;
  if (rules_.keep && is_open_) ++counted_.shrunk;
}

void PoolQueue::close_item(Slot& slot, std::int64_t PoolStats::*reason) noexcept {
  slot.item.reset();
  std::lock_guard const lock(mutex_);
  ++counted_.closed;
  ++(counted_.*reason);
}

/// Whether the connection in the slot may be handed out; otherwise it is gone.
bool PoolQueue::fit(Slot& slot) {
  auto const now = now_();
  if (rules_.recycle.count() > 0 && now - slot.opened >= rules_.recycle) {
    close_item(slot, &PoolStats::recycled);
    return false;
  }
  if (rules_.check == Check::none) {
    slot.item->unlooked();
    return true;
  }
  bool good = slot.item->alive();
  if (good && rules_.check == Check::ping && now - slot.since >= rules_.ping_after) {
    good = slot.item->ping();
    std::lock_guard const lock(mutex_);
    ++counted_.pings;
  }
  if (!good) close_item(slot, &PoolStats::discarded);
  return good;
}

PoolQueue::Slot& PoolQueue::acquire(std::string_view label) {
  Slots mine;
  {
    std::unique_lock lock(mutex_);
    if (!is_open_) refuse_closed();
    if (!waiters_.empty() || !grab(mine)) {
      Waiter me;
      waiters_.push_back(&me);
      ++counted_.waits;
      auto const until = Clock::now() + rules_.timeout;
      while (!me.over && me.ready.wait_until(lock, until) != std::cv_status::timeout) {
      }
      if (!me.over) {
        waiters_.remove(&me);
        give_up(lock);
      }
      if (me.grant.empty()) refuse_closed();
      mine.splice(mine.end(), me.grant);
    }
  }
  Slot& slot = mine.front();
  try {
    while (slot.item && !fit(slot)) {
      // Another idle one instead, before a new one is opened.
      std::lock_guard const lock(mutex_);
      if (idle_.empty()) break;
      std::swap(slot.item, idle_.back().item);
      std::swap(slot.opened, idle_.back().opened);
      std::swap(slot.since, idle_.back().since);
      idle_.pop_back();
      --count_;
    }
    if (!slot.item) {
      slot.item = open_();
      slot.reused = !rules_.keep;  // what is borrowed has served the application
      slot.opened = now_();
      std::lock_guard const lock(mutex_);
      ++counted_.opened;
    }
    slot.label.assign(label);
  } catch (...) {
    std::lock_guard const lock(mutex_);
    pass_on(mine);
    throw;
  }
  std::lock_guard const lock(mutex_);
  slot.since = now_();
  ++counted_.acquired;
  held_.splice(held_.end(), mine);
  return slot;
}

void PoolQueue::give_back(Slot& slot, bool usable) noexcept {
  Slots mine;
  std::unique_ptr<PoolItem> closing;
  {
    std::lock_guard const lock(mutex_);
    mine.splice(mine.end(), held_, slot.self);
    slot.reused = true;
    bool const old = rules_.recycle.count() > 0 && now_() - slot.opened >= rules_.recycle;
    if (!usable || old || !is_open_ || !rules_.keep) {
      closing = std::move(slot.item);
      ++counted_.closed;
      if (!usable) {
        ++counted_.discarded;
      } else if (old) {
        ++counted_.recycled;
      }
    }
  }
  // Closed before its place is given on, so that the server never has more of ours than the pool says.
  closing.reset();
  std::lock_guard const lock(mutex_);
  pass_on(mine);
  if (!mine.empty() && mine.front().item) closing = std::move(mine.front().item);
}

std::optional<PoolQueue::Clock::time_point> PoolQueue::shrink() noexcept {
  Slots gone;
  std::lock_guard const lock(mutex_);
  auto const now = now_();
  std::optional<Clock::time_point> next;
  for (auto it = idle_.begin(); it != idle_.end();) {
    auto const at = it++;
    auto until = Clock::time_point::max();
    if (rules_.idle_time.count() > 0) until = at->since + rules_.idle_time;
    bool const recycled = rules_.recycle.count() > 0 && at->opened + rules_.recycle <= std::min(now, until);
    if (rules_.recycle.count() > 0) until = std::min(until, at->opened + rules_.recycle);
    if (until > now) {
      if (until != Clock::time_point::max()) next = std::min(next.value_or(until), until);
      continue;
    }
    ++counted_.closed;
    ++(recycled ? counted_.recycled : counted_.shrunk);
    --count_;
    gone.splice(gone.end(), idle_, at);
  }
  return next;
}

void PoolQueue::sweep() noexcept {
  Slots gone;
  std::lock_guard const lock(mutex_);
  for (auto it = idle_.begin(); it != idle_.end();) {
    auto const at = it++;
    if (at->item->alive()) continue;
    ++counted_.closed;
    ++counted_.discarded;
    --count_;
    gone.splice(gone.end(), idle_, at);
  }
}

void PoolQueue::open() noexcept {
  std::lock_guard const lock(mutex_);
  is_open_ = true;
}

void PoolQueue::close() noexcept {
  Slots gone;
  std::lock_guard const lock(mutex_);
  is_open_ = false;
  count_ -= idle_.size();
  counted_.closed += static_cast<std::int64_t>(idle_.size());
  gone.swap(idle_);
  for (auto* const waiter : waiters_) {
    waiter->over = true;
    waiter->ready.notify_one();
  }
  waiters_.clear();
}

bool PoolQueue::is_open() const noexcept {
  std::lock_guard const lock(mutex_);
  return is_open_;
}

PoolStats PoolQueue::stats() const {
  std::lock_guard const lock(mutex_);
  PoolStats stats = counted_;
  stats.open = static_cast<int>(count_);
  stats.idle = static_cast<int>(idle_.size());
  stats.in_use = stats.open - stats.idle;
  stats.overflow = static_cast<int>(count_ - std::min(count_, rules_.size));
  stats.waiting = static_cast<int>(waiters_.size());
  auto const longest =
      std::min_element(held_.begin(), held_.end(), [](Slot const& a, Slot const& b) { return a.since < b.since; });
  if (longest != held_.end()) {
    stats.longest_held = std::chrono::duration_cast<milliseconds>(now_() - longest->since);
    stats.longest_holder = longest->label;
  }
  return stats;
}

void PoolQueue::give_up(std::unique_lock<std::mutex> const& /*held*/) {
  ++counted_.timeouts;
  auto text = "pool '" + rules_.name + "': no connection came free within " + std::to_string(rules_.timeout.count()) +
              " ms; " + std::to_string(count_ - idle_.size()) + " of " + std::to_string(limit()) +
              " are in use (pool_size " + std::to_string(rules_.size) + ", max_overflow " +
              std::to_string(rules_.overflow) + "), " + std::to_string(waiters_.size()) + " others wait";
  std::vector<Slot const*> oldest;
  for (auto const& slot : held_) oldest.push_back(&slot);
  std::sort(oldest.begin(), oldest.end(), [](auto const* a, auto const* b) { return a->since < b->since; });
  oldest.resize(std::min(oldest.size(), holders_shown));
  for (auto const* slot : oldest) {
    text += (slot == oldest.front() ? "; held longest by " : ", ") + core::shown(slot->label) + " for " +
            seconds_text(now_() - slot->since);
  }
  throw Timeout(text, {.sqlstate = {},
                       .in_doubt = false,
                       .hint = "hold connections for less long, or raise max_overflow, pool_size or pool_timeout"});
}

void PoolQueue::refuse_closed() const {
  throw InvalidArgument("pool '" + rules_.name + "' is closed",
                        {.sqlstate = {}, .in_doubt = false, .hint = "call open() before it is used again"});
}

}  // namespace posthouse::pg
