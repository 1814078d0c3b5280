// SPDX-License-Identifier: Apache-2.0
// Jobs that are claimed ahead and not started: given back when others could start them. See pump.hpp.
//
// A peer idles: whoever has had unstarted jobs for a moment has a bell on his LISTEN connection (sql/functions/27_buffer.sql)
// and calls a peer now and then; a peer that finds nothing says so; it gets half of what is unstarted and his to claim.
// A higher priority arrives: in a lane that was quiet it is claimed even before a full buffer, and as many unstarted jobs
// of lower priority as come with it are given back, last first.
#include <algorithm>
#include <limits>
#include <unordered_set>

#include "node/pump.hpp"

namespace posthouse::node {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds held_for{250};       // before others are asked for
constexpr milliseconds offer_every{1'000};  // to a peer that has said that it has free slots
constexpr milliseconds answer_every{100};   // so long nothing is claimed either

}  // namespace

int Pump::unstarted() const noexcept {
  return book_.waiting() + std::max(0, book_.handed() - core_.options.concurrency);
}

int Pump::priority_of(std::int64_t lane) const {
  auto const it = lanes_.find(lane);
  return it == lanes_.end() ? std::numeric_limits<int>::min() : it->second.priority;
}

std::optional<Pump::Clock::time_point> Pump::buffer_due() const {
  if (core_.options.prefetch_buffer == 0 || listener_.connection() == nullptr) return std::nullopt;
  if (idle_peer_ != 0 && unstarted() > 0) return next_answer_;
  if (buffer_bell_) return empty_since_ ? *empty_since_ + held_for : next_offer_;
  if (held_since_) return *held_since_ + held_for;
  return std::nullopt;
}

void Pump::mind_buffer(Clock::time_point now) {
  if (urgent_jobs_ > 0 && lanes_.contains(urgent_lane_)) displace();
  yield_to_higher(now);
  if (unstarted() > 0) {
    empty_since_.reset();
    if (!held_since_) held_since_ = now;
  } else {
    held_since_.reset();
    if (!empty_since_) empty_since_ = now;
  }
  if (listener_.connection() == nullptr) return;
  try {
    store::Work session(*listener_.connection());
    if (!buffer_bell_ && held_since_ && now - *held_since_ >= held_for) {
      core_.statement();
      session.buffer_bell(core_.incarnation, true);
      buffer_bell_ = true;
      next_offer_ = now;
    } else if (buffer_bell_ && empty_since_ && now - *empty_since_ >= held_for) {
      core_.statement();
      session.buffer_bell(core_.incarnation, false);
      buffer_bell_ = false;
    }
    if (buffer_bell_ && held_since_ && now >= next_offer_) {
      next_offer_ = now + offer_every;
      core_.statement();
      session.wake_one(core_.incarnation);
    }
  } catch (Error const& error) {
    return deaf(error);
  }
  if (idle_peer_ != 0 && now >= next_answer_) answer_idle(now);
}

void Pump::answer_idle(Clock::time_point now) {
  auto const peer = std::exchange(idle_peer_, 0);
  int const held = unstarted();
  if (held == 0) return;
  next_answer_ = now + answer_every;
  receive(false);
  core_.statement();
  auto const lanes = work().eligible(peer);
  std::unordered_set<std::int64_t> const theirs(lanes.begin(), lanes.end());
  if (give_back((held + 1) / 2, [&](std::int64_t lane, int) { return theirs.contains(lane); }) == 0) return;
  pacing_.leave_to_others(now + answer_every);
  finish(0);
  core_.statement();
  work().wake(peer);
}

int Pump::give_back(int most, std::function<bool(std::int64_t lane, int priority)> const& which) {
  if (most <= 0) return 0;
  auto const wanted = static_cast<std::size_t>(most);
  auto released = book_.release_last(wanted, [&](std::int64_t lane) { return which(lane, priority_of(lane)); });
  auto const accepts = [&](execute::Task const& task) { return which(task.lane, task.priority); };
  for (auto const& task : pool_->take_last(wanted - released, accepts)) {
    release(task.token, task.position, task.id);
    ++released;
  }
  core_.counters.released += static_cast<std::int64_t>(released);
  return static_cast<int>(released);
}

// Before a full buffer: makes room for the claim of a lane that was quiet, when its priority is higher than what waits.
void Pump::yield_to_higher(Clock::time_point now) {
  auto const held = load();
  int const slots = core_.options.concurrency;
  if (displaced_ > 0 || unstarted() == 0) return;
  if (held.handed + held.waiting + held.claiming < slots + core_.options.prefetch_buffer) return;
  for (auto const lane : pacing_.lanes().fresh(now)) {
    if (!lanes_.contains(lane)) {
      // Who it is must be known first; the next turn goes on.
      unresolved_.push_back(lane);
      return;
    }
    int const higher = priority_of(lane);
    displaced_ = give_back(slots, [&](std::int64_t, int priority) { return priority < higher; });
    if (displaced_ > 0) return;
  }
}

// A claim of a lane that was quiet has come, and its jobs have been handed out as far as they may start.
void Pump::displace() {
  int const jobs = std::exchange(urgent_jobs_, 0) - std::exchange(displaced_, 0);
  int const higher = priority_of(urgent_lane_);
  give_back(std::min(jobs, unstarted()), [&](std::int64_t, int priority) { return priority < higher; });
}

}  // namespace posthouse::node
