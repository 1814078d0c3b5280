// SPDX-License-Identifier: Apache-2.0
// See lanes.hpp.
#include "claim/lanes.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace posthouse::claim {

namespace {

using std::chrono::milliseconds;

// Waits before an empty lane is tried again; the last one repeats.
constexpr std::array again{milliseconds{1}, milliseconds{2}, milliseconds{5}, milliseconds{10}, milliseconds{20}};

milliseconds wait_after(int empty) {
  return again[std::min<std::size_t>(static_cast<std::size_t>(std::max(empty, 1)), again.size()) - 1];
}

}  // namespace

void Lanes::heat(std::int64_t lane, Time now, int tries) {
  auto [it, fresh] = hot_.try_emplace(lane);
  it->second.next = now;
  it->second.empty = 0;
  it->second.tries = fresh ? tries : std::max(it->second.tries, tries);
}

void Lanes::rang(std::int64_t lane, Time now) {
  heat(lane, now);
  hot_[lane].rung = true;
  auto const bell = bells_.find(lane);
  if (bell == bells_.end()) return;
  if (now - bell->second.since > ring_window) bell->second = {now, 0};
  if (++bell->second.rings >= rings_to_unbell) unbell_.insert(lane);
}

bool Lanes::rung(std::int64_t lane) const {
  auto const hot = hot_.find(lane);
  return hot != hot_.end() && hot->second.rung;
}

void Lanes::claimed(std::span<std::int64_t const> asked, std::span<std::int64_t const> found, bool full, Time now) {
  ++claims_;
  for (auto lane : asked) {
    if (auto const hot = hot_.find(lane); hot != hot_.end()) hot->second.rung = false;
  }
  for (auto lane : found) {
    bool const bell = bells_.contains(lane);
    if (bell && full) unbell_.insert(lane);
    auto& hot = hot_[lane];
    // A claim also ends early at its limit of bytes, so only an empty one says that a lane is empty.
    hot.served = claims_;
    hot.empty = 0;
    hot.tries = 1;
    hot.next = full ? now : now + wait_after(1);
    hot.blocked_since.reset();
  }
  if (full) return;
  for (auto lane : asked) {
    if (std::find(found.begin(), found.end(), lane) != found.end()) continue;
    auto const it = hot_.find(lane);
    if (it == hot_.end()) continue;
    auto& hot = it->second;
    if (hot.empty == 0) hot.empty_since = now;
    ++hot.empty;
    hot.blocked_since.reset();
    hot.next = now + wait_after(hot.empty);
    bool const bell = bells_.contains(lane);
    bool const cold =
        bell ? hot.empty >= hot.tries : hot.empty >= cold_after_claims && now - hot.empty_since >= cold_after;
    if (!cold) continue;
    hot_.erase(it);
    if (!bell) cold_.push_back(lane);
  }
}

void Lanes::blocked(std::int64_t lane, std::optional<milliseconds> wait, Time now) {
  auto& hot = hot_[lane];
  hot.empty = 1;
  hot.empty_since = now;
  hot.held_back = now;
  if (wait) {
    hot.blocked_since.reset();
    hot.next = now + std::clamp(*wait, milliseconds{1}, blocked_longest);
  } else {
    hot.blocked_since = now;
    hot.next = now + blocked_retry;
  }
}

std::optional<Time> Lanes::held_back(std::int64_t lane) const {
  auto const hot = hot_.find(lane);
  return hot == hot_.end() ? std::nullopt : hot->second.held_back;
}

void Lanes::freed(Time now) {
  for (auto& [lane, hot] : hot_) {
    if (hot.blocked_since) hot.next = std::min(hot.next, std::max(now, *hot.blocked_since + blocked_rest));
  }
}

bool Lanes::any_blocked() const {
  return std::any_of(hot_.begin(), hot_.end(), [](auto const& lane) { return lane.second.blocked_since.has_value(); });
}

void Lanes::cool_but(std::span<std::int64_t const> lanes) {
  std::unordered_set<std::int64_t> const keep(lanes.begin(), lanes.end());
  for (auto it = hot_.begin(); it != hot_.end();) {
    if (keep.contains(it->first)) {
      ++it;
      continue;
    }
    if (!bells_.contains(it->first)) cold_.push_back(it->first);
    it = hot_.erase(it);
  }
}

LaneIds Lanes::due(Time now) const {
  std::vector<std::pair<std::uint64_t, std::int64_t>> ready;
  for (auto const& [lane, hot] : hot_) {
    if (hot.next <= now) ready.emplace_back(hot.served, lane);
  }
  std::sort(ready.begin(), ready.end());
  ready.resize(std::min(ready.size(), max_lanes_a_claim));
  LaneIds lanes;
  lanes.reserve(ready.size());
  for (auto const& [served, lane] : ready) lanes.push_back(lane);
  return lanes;
}

LaneIds Lanes::fresh(Time now) const {
  LaneIds lanes;
  for (auto const& [lane, hot] : hot_) {
    // One that rings has been quiet too, however long ago it was served.
    bool const quiet = (hot.served == 0 || hot.rung) && hot.empty == 0;
    if (quiet && hot.next <= now && lanes.size() < max_lanes_a_claim) lanes.push_back(lane);
  }
  return lanes;
}

std::optional<Time> Lanes::next() const {
  std::optional<Time> first;
  for (auto const& [lane, hot] : hot_) {
    if (!first || hot.next < *first) first = hot.next;
  }
  return first;
}

LaneIds Lanes::take_cold() { return std::exchange(cold_, {}); }

LaneIds Lanes::take_unbell() {
  LaneIds lanes(unbell_.begin(), unbell_.end());
  unbell_.clear();
  return lanes;
}

void Lanes::belled(std::span<std::int64_t const> lanes) {
  for (auto lane : lanes) bells_.try_emplace(lane);
}

void Lanes::unbelled(std::span<std::int64_t const> lanes) {
  for (auto lane : lanes) bells_.erase(lane);
}

void Lanes::bells_gone() {
  bells_.clear();
  unbell_.clear();
}

}  // namespace posthouse::claim
