// SPDX-License-Identifier: Apache-2.0
// See lanes.hpp.
#include "claim/lanes.hpp"

#include <algorithm>
#include <array>
#include <compare>
#include <limits>
#include <utility>

namespace posthouse::claim {

namespace {

using std::chrono::milliseconds;

// Waits before an empty lane is tried again; the last one repeats.
// What a turn of weight 1 costs: 1 to 16 divide it, so their shares are exact.
constexpr std::uint64_t turn_cost = 720'720;

constexpr std::array again{milliseconds{1}, milliseconds{2}, milliseconds{5}, milliseconds{10}, milliseconds{20}};

milliseconds wait_after(int empty) {
  return again[std::min<std::size_t>(static_cast<std::size_t>(std::max(empty, 1)), again.size()) - 1];
}

}  // namespace

// Sorts lanes by whose turn it is.
struct Lanes::Place {
  std::uint64_t ahead = 0;         // of its kind
  std::uint64_t group_served = 0;  // among those that are level
  std::size_t group = unknown;
  std::uint64_t served = 0;
  std::int64_t lane = 0;
  auto operator<=>(Place const&) const = default;
};

std::size_t Lanes::know(std::int64_t lane, LaneTurn const& turn) {
  auto const [level, new_level] = level_names_.try_emplace({turn.queue_priority, turn.priority}, levels_.size());
  if (new_level) levels_.push_back(0);
  auto const [group, new_group] =
      group_names_.try_emplace({turn.queue_priority, turn.priority, turn.kind}, groups_.size());
  if (new_group) groups_.push_back({.level = level->second, .spent = levels_[level->second]});
  groups_[group->second].cost = turn_cost / static_cast<std::uint64_t>(std::clamp(turn.weight, 1, 100));
  group_of_[lane] = group->second;
  if (auto const hot = hot_.find(lane); hot != hot_.end()) hot->second.group = group->second;
  return group->second;
}

Lanes::Hot& Lanes::at(std::int64_t lane) {
  auto const [it, fresh] = hot_.try_emplace(lane);
  if (fresh) {
    if (auto const group = group_of_.find(lane); group != group_of_.end()) it->second.group = group->second;
  }
  return it->second;
}

// How much more it has spent than the kind whose turn it is: nothing to one turn.
std::uint64_t Lanes::ahead(Group const& group) const {
  auto const level = levels_[group.level];
  return group.spent <= level ? 0 : std::min(group.spent - level, group.cost);
}

Lanes::Place Lanes::place(std::int64_t lane, Hot const& hot) const {
  if (hot.group == unknown) return {.group_served = hot.served, .served = hot.served, .lane = lane};
  auto const& group = groups_[hot.group];
  return {.ahead = ahead(group), .group_served = group.served, .group = hot.group, .served = hot.served, .lane = lane};
}

LaneIds Lanes::sorted(std::vector<Place> places) {
  std::sort(places.begin(), places.end());
  LaneIds lanes;
  lanes.reserve(places.size());
  for (auto const& place : places) lanes.push_back(place.lane);
  return lanes;
}

// A kind pays once for a claim, however many of its lanes it got jobs from.
void Lanes::charge(std::span<std::int64_t const> found, Time now) {
  std::vector<std::size_t> groups;
  for (auto lane : found) {
    auto const group = group_of_.find(lane);
    if (group == group_of_.end()) continue;
    if (std::find(groups.begin(), groups.end(), group->second) == groups.end()) groups.push_back(group->second);
  }
  if (groups.empty()) return;
  // The turn was that of whoever had spent least, of those with work.
  std::vector<std::uint64_t> least(levels_.size(), std::numeric_limits<std::uint64_t>::max());
  auto const note = [&](Group const& group) {
    auto const spent = levels_[group.level] + ahead(group);
    least[group.level] = std::min(least[group.level], spent);
  };
  for (auto group : groups) note(groups_[group]);
  for (auto const& [lane, hot] : hot_) {
    if (hot.group != unknown && hot.next <= now) note(groups_[hot.group]);
  }
  for (auto index : groups) {
    auto& group = groups_[index];
    group.spent = levels_[group.level] + ahead(group) + group.cost;
    group.served = claims_;
  }
  for (auto index : groups) {
    auto& level = levels_[groups_[index].level];
    level = std::max(level, least[groups_[index].level]);
  }
}

void Lanes::heat(std::int64_t lane, Time now, int tries) {
  bool const fresh = !hot_.contains(lane);
  auto& hot = at(lane);
  hot.next = now;
  hot.empty = 0;
  hot.tries = fresh ? tries : std::max(hot.tries, tries);
}

void Lanes::rang(std::int64_t lane, Time now) {
  heat(lane, now);
  at(lane).rung = true;
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
  charge(found, now);
  for (auto lane : found) {
    bool const bell = bells_.contains(lane);
    if (bell && full) unbell_.insert(lane);
    auto& hot = at(lane);
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
  auto& hot = at(lane);
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
  std::vector<Place> ready;
  for (auto const& [lane, hot] : hot_) {
    if (hot.next <= now) ready.push_back(place(lane, hot));
  }
  auto lanes = sorted(std::move(ready));
  lanes.resize(std::min(lanes.size(), max_lanes_a_claim));
  return lanes;
}

LaneIds Lanes::after_turn(LaneIds const& lanes) const {
  std::vector<Place> places;
  places.reserve(lanes.size());
  for (auto lane : lanes) {
    auto const hot = hot_.find(lane);
    places.push_back(hot == hot_.end() ? Place{.lane = lane} : place(lane, hot->second));
  }
  if (places.empty()) return {};
  auto const served = claims_ + 1;
  auto const group = places.front().group;
  places.front().served = served;
  if (group == unknown) places.front().group_served = served;
  for (auto& place : places) {
    if (group == unknown || place.group != group) continue;
    place.ahead += groups_[group].cost;
    place.group_served = served;
  }
  return sorted(std::move(places));
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
