// SPDX-License-Identifier: Apache-2.0
// See pacing.hpp.
#include "claim/pacing.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "base/random.hpp"

namespace posthouse::claim {

namespace {

using std::chrono::milliseconds;

constexpr std::array fence_waits{milliseconds{1},   milliseconds{2},   milliseconds{5},   milliseconds{10},
                                 milliseconds{20},  milliseconds{50},  milliseconds{100}, milliseconds{200},
                                 milliseconds{500}, milliseconds{1000}};
constexpr std::size_t fence_by_lane = 64;  // more lanes than this are looked at together
constexpr milliseconds longest_sleep{1'000};
constexpr milliseconds full_look{100};  // from when a keeper has no room to its look for lanes that need bells
constexpr milliseconds first_failure_wait{10};
constexpr int failure_doublings = 7;

}  // namespace

Pacing::Pacing(Limits limits, Time now) : limits_(limits) { next_look_ = now; }

int Pacing::ahead(Time now) const {
  auto const window = std::max<Clock::duration>(rate_window, 3 * round_trip_);
  std::int64_t recent = 0;
  for (auto it = ends_.rbegin(); it != ends_.rend() && now - it->first <= window; ++it) recent += it->second;
  // Far away it must grow in few steps, since each takes a round trip.
  auto const more = (far() ? 8 : 2) * (recent - limits_.slots);
  // A crash charges nobody as soon as more may have started than there are slots, so far away there may be any number.
  auto const most = far() ? std::max(2 * max_jobs_a_claim, limits_.prefetch) : 2 * max_jobs_a_claim;
  return static_cast<int>(std::clamp<std::int64_t>(more, limits_.slots, limits_.slots + most));
}

int Pacing::wanted(Load const& load) const noexcept {
  if (stopping_) return 0;
  int const held = load.handed + load.waiting + load.claiming;
  int const room = limits_.slots + limits_.prefetch - held;
  int const buffered = std::max(0, held - limits_.slots);
  if (room <= 0) return 0;
  // Far away several claims are on their way, and the next one is sent as soon as there is room for a whole one.
  bool const full = far() ? room < std::min(most_, limits_.prefetch / 2) : buffered > limits_.prefetch / 2;
  if (limits_.prefetch > 0 && full) return 0;
  return std::min(room, most_);
}

Step Pacing::step(Time now, Load const& load) {
  working_ = load.handed + load.waiting;
  if (!load.unreported) oldest_.reset();
  if (load.unreported && !oldest_) oldest_ = now;
  if (now < not_before_) return {.until = not_before_, .any_end = false, .low_water = 0};

  for (auto const& lanes = lanes_.take_cold(); auto lane : lanes) {
    if (keeper_) bell_wanted_.insert(lane);
  }
  int const room = std::max(0, ahead(now) - load.handed - load.starting);
  int const want = wanted(load);
  if (!std::exchange(full_, want == 0) && full_ && keeper_ && lanes_.any_hot()) {
    // Its hot lanes are not tried while it is full: soon a look has to say whether they need bells.
    next_look_ = std::min(next_look_, now + full_look);
  }

  // In turns: a busy worker must still put bells on, and a keeper with much to do must still claim.
  if (housekeeping_turn_) {
    housekeeping_turn_ = false;
    if (auto next = housekeeping(now, want)) return std::move(*next);
  }
  if (auto next = engine(now, load, room, want)) {
    housekeeping_turn_ = true;
    return std::move(*next);
  }
  if (auto next = housekeeping(now, want)) return std::move(*next);

  Step rest;
  rest.until = sleep_until(now, load, want);
  rest.any_end = !load.unreported;
  if (limits_.prefetch > 0 && lanes_.any_hot()) rest.low_water = std::max(0, limits_.prefetch / 2 - load.waiting);
  return rest;
}

std::optional<Step> Pacing::engine(Time now, Load const& load, int room, int want) {
  bool const idle_slot = load.handed < limits_.slots;
  // A thread has nothing to do, and may not start a job.
  bool const stuck = load.waiting > 0 && idle_slot && room > 0 && !load.reporting;
  bool const late = load.unreported && (stopping_ || now - *oldest_ >= limits_.flush_interval);
  Step const finish{.what = What::finish, .room = room};

  if (auto next = now < claims_from_ ? std::nullopt : claim_step(now, load, want)) {
    next->room = room;
    // Jobs that end at once would wait for the disk, each for itself: they are claimed without, and reported together.
    bool const apart = load.quick && load.waiting == 0 && !late && !stopping_ && now >= together_until_;
    // Under a limit what has ended makes the room for what is claimed, and the claim goes to disk in any case.
    bool const limited = std::any_of(next->lanes.begin(), next->lanes.end(), [&](std::int64_t lane) {
      auto const since = lanes_.held_back(lane);
      return since && now - *since < together_for;
    });
    next->flush = !apart && (next->jobs < fuse_below || limited) && (load.unreported || load.waiting > 0);
    if (next->flush || !(late || stuck)) return next;
    return finish;
  }
  if (late || stuck || (load.unreported && idle_slot)) return finish;
  return std::nullopt;
}

std::optional<Step> Pacing::claim_step(Time now, Load const& load, int want) const {
  Step next{.what = What::claim, .jobs = want};
  if (want > 0 && look_now_) return next;
  // With a buffer, a lane that was quiet gets a small claim of its own: it neither waits for room in the buffer nor for
  // the reply to a claim of thousands. Without one every claim is small, and the server knows the best job of all lanes.
  int const left = limits_.slots + limits_.prefetch - load.handed - load.waiting - load.claiming;
  if (limits_.prefetch > 0 && left > 0 && !stopping_ && !load.urgent) {
    next.lanes = lanes_.fresh(now);
    if (!next.lanes.empty() && next.lanes.size() <= max_urgent_lanes) {
      next.urgent = true;
      next.jobs = std::min(left, limits_.slots);
      return next;
    }
    next.lanes.clear();
  }
  if (want <= 0) return std::nullopt;
  next.lanes = lanes_.due(now);
  if (next.lanes.empty()) return std::nullopt;
  // A lane rang in a quiet moment: probably for one job, which is claimed soonest alone. The rest is asked for at once.
  if (next.lanes.size() == 1 && load.handed + load.waiting + load.claiming == 0 && lanes_.rung(next.lanes.front())) {
    next.probe = true;
    next.jobs = 1;
  }
  return next;
}

std::optional<Step> Pacing::housekeeping(Time now, int want) {
  if (stopping_) return std::nullopt;
  if (list_now_) return Step{.what = What::look};
  if (listening_ && !limit_bell_ && want > 0 && now < last_blocked_ + limit_bell_for && lanes_.any_blocked())
    return Step{.what = What::limit_bell, .on = true};
  if (limit_bell_ && now >= last_blocked_ + limit_bell_for) return Step{.what = What::limit_bell};
  if (keeper_) {
    if (auto lanes = lanes_.take_unbell(); !lanes.empty()) return Step{.what = What::unbell, .lanes = std::move(lanes)};
    if (now >= next_survey_) return Step{.what = What::survey};
    if (!bell_refused_.empty() && now >= next_rebell_) {
      bell_wanted_.merge(bell_refused_);
      next_rebell_ = now + rebell_every;
    }
    LaneIds lanes;
    for (auto lane : bell_wanted_) {
      if (lanes_.bells() + lanes.size() >= max_bells) break;
      if (!lanes_.hot(lane) && !lanes_.has_bell(lane)) lanes.push_back(lane);
    }
    bell_wanted_.clear();
    if (!lanes.empty()) return Step{.what = What::bell, .lanes = std::move(lanes)};
    if (!fenced_.empty() && now >= next_fence_) return Step{.what = What::check_fence};
    hand_on_ = hand_on_ && want == 0;  // else the claim is ours
    if (hand_on_ && now >= next_hand_on_) return Step{.what = What::hand_on};
  } else if (listening_ && now >= next_keep_) {
    return Step{.what = What::keep};
  }
  if (now >= next_look_ && (want > 0 || keeper_)) return Step{.what = What::look};
  return std::nullopt;
}

Time Pacing::sleep_until(Time now, Load const& load, int want) const {
  auto until = now + longest_sleep;
  auto const at = [&until](Time time) { until = std::min(until, time); };
  if (load.unreported) at(*oldest_ + limits_.flush_interval);
  if (stopping_) return until;
  if (now < claims_from_) return std::min(until, claims_from_);
  if (want > 0) {
    if (auto next = lanes_.next()) at(*next);
  }
  if (want > 0 || keeper_) at(next_look_);
  if (limit_bell_) at(last_blocked_ + limit_bell_for);
  if (keeper_) {
    at(next_survey_);
    if (!bell_refused_.empty()) at(next_rebell_);
    if (!fenced_.empty()) at(next_fence_);
    if (hand_on_) at(next_hand_on_);
  } else if (listening_) {
    at(next_keep_);
  }
  return until;
}

void Pacing::plan_look(Time now) {
  if (!listening_) {
    next_look_ = now + deaf_poll_;
  } else if (keeper_ || lanes_.any_hot() || working_ > 0) {
    next_look_ = now + look_every;
  } else {
    next_look_ = now + in_turn(idle_look_every, most_look_shares);
  }
}

// What one idle worker of many has to do now and then: at random, so that they do not all do it together.
Clock::duration Pacing::in_turn(milliseconds every, int most) {
  int const shares = std::min(shares_, most);
  if (shares == 1) return every;
  return std::chrono::duration_cast<Clock::duration>(every * shares * (0.5 + base::random_unit()));
}

void Pacing::ended(int jobs, Time now) {
  if (jobs <= 0) return;
  if (!oldest_) oldest_ = now;
  lanes_.freed(now);
  ends_.emplace_back(now, jobs);
  auto const keep = std::max<Clock::duration>(rate_window, 3 * round_trip_);
  while (now - ends_.front().first > keep) ends_.pop_front();
}

void Pacing::flushed(Time now, Clock::duration took) {
  lanes_.freed(now);
  oldest_.reset();
  round_trip_ = took;
  round_trips_ = std::min(round_trips_ + 1, far_after);
  // The shortest one counts, and is slowly forgotten: what one statement waited for is no distance.
  least_round_trip_ = least_round_trip_ == Clock::duration::zero()
                          ? took
                          : std::min<Clock::duration>(took, least_round_trip_ + least_round_trip_ / 64);
  failures_ = 0;
}

void Pacing::claimed(std::span<std::int64_t const> asked, std::span<std::int64_t const> found, bool full, Time now) {
  failures_ = 0;
  if (full) most_ = std::min(limits_.most, 2 * most_);
  lanes_.claimed(asked, found, full, now);
  if (!found.empty()) deaf_poll_ = deaf_poll_first;
  if (asked.empty()) {
    look_now_ = false;
    list_now_ = full;
    if (found.empty()) deaf_poll_ = std::min(deaf_poll_ * 2, deaf_poll_last);
    plan_look(now);
  }
}

void Pacing::probed(std::int64_t lane, Time now) { lanes_.heat(lane, now); }

void Pacing::blocked(std::int64_t lane, std::optional<milliseconds> wait, Time now) {
  lanes_.blocked(lane, wait, now);
  if (!wait) last_blocked_ = now;
  together_until_ = now + together_for;  // what has ended counts until it is reported
}

void Pacing::looked(std::span<std::int64_t const> lanes, Time now) {
  failures_ = 0;
  list_now_ = false;
  if (full_) lanes_.cool_but(lanes);
  for (auto lane : lanes) {
    if (!lanes_.hot(lane)) lanes_.heat(lane, now);
  }
  deaf_poll_ = lanes.empty() ? std::min(deaf_poll_ * 2, deaf_poll_last) : deaf_poll_first;
  hand_on_ = hand_on_ || (keeper_ && full_ && !lanes.empty());
  plan_look(now);
}

void Pacing::rang(std::int64_t lane, Time now) {
  // Everybody hears every bell. One claim is enough, and it is the keeper's; whoever is busy with the lane joins in.
  if (!keeper_ && !lanes_.hot(lane)) return;
  lanes_.rang(lane, now);
  hand_on_ = hand_on_ || full_;
}

void Pacing::new_lane(Time now) {
  if (!keeper_) return;
  look_now_ = true;
  next_survey_ = now;
  hand_on_ = hand_on_ || full_;
}

void Pacing::called(Time /*now*/) { look_now_ = true; }

void Pacing::limit_freed(Time now) { lanes_.freed(now); }

void Pacing::limit_belled(bool on, Time now) {
  failures_ = 0;
  limit_bell_ = on;
  if (on) lanes_.freed(now);  // what ended before the bell was there
}

void Pacing::keeper_gone(Time now) {
  if (!keeper_) next_keep_ = now;
}

void Pacing::kept(int peers, Time now) {
  failures_ = 0;
  keeper_ = peers == 0;
  shares_ = std::max(1, peers - 1);  // the keeper does not count
  next_keep_ = now + in_turn(keep_every, most_keep_shares);
  if (!keeper_) return;
  next_survey_ = now;
  next_look_ = now;
  next_rebell_ = now + rebell_every;
}

void Pacing::surveyed(std::span<std::int64_t const> lanes, Time now) {
  failures_ = 0;
  next_survey_ = now + survey_every;
  want_bells(lanes);
}

void Pacing::want_bells(std::span<std::int64_t const> lanes) {
  for (auto lane : lanes) {
    if (!lanes_.has_bell(lane) && !lanes_.hot(lane) && !bell_refused_.contains(lane)) bell_wanted_.insert(lane);
  }
}

void Pacing::belled(std::span<std::int64_t const> asked, std::span<std::int64_t const> got, Time now) {
  failures_ = 0;
  lanes_.belled(got);
  for (auto lane : asked) {
    if (std::find(got.begin(), got.end(), lane) == got.end()) bell_refused_.insert(lane);
  }
  if (got.empty()) return;
  fenced_.insert(fenced_.end(), got.begin(), got.end());
  fence_step_ = 0;
  next_fence_ = now;
}

void Pacing::unbelled(std::span<std::int64_t const> lanes) {
  failures_ = 0;
  lanes_.unbelled(lanes);
  std::erase_if(fenced_, [&](std::int64_t lane) { return std::find(lanes.begin(), lanes.end(), lane) != lanes.end(); });
}

void Pacing::fence_checked(bool passed, Time now) {
  failures_ = 0;
  // The check came before the claims that follow now: when it says passed, they see all that can be missed.
  if (full_ || fenced_.size() > fence_by_lane) {
    next_look_ = now;
  } else {
    for (auto lane : fenced_) {
      if (!lanes_.hot(lane)) lanes_.heat(lane, now, 1);
    }
  }
  if (passed) {
    fenced_.clear();
    return;
  }
  next_fence_ = now + fence_waits[fence_step_];
  fence_step_ = std::min(fence_step_ + 1, fence_waits.size() - 1);
}

void Pacing::handed_on(Time now) {
  failures_ = 0;
  hand_on_ = false;
  next_hand_on_ = now + hand_on_every;
}

void Pacing::listening(Time now) {
  listening_ = true;
  next_keep_ = now;
  look_now_ = true;
}

void Pacing::deaf(Time now) {
  listening_ = false;
  keeper_ = false;
  limit_bell_ = false;
  lanes_.bells_gone();
  bell_wanted_.clear();
  bell_refused_.clear();
  fenced_.clear();
  hand_on_ = false;
  deaf_poll_ = deaf_poll_first;
  next_look_ = now;
}

void Pacing::reconnected(Time now) {
  look_now_ = true;
  failures_ = 0;
  not_before_ = now;
}

void Pacing::overloaded() noexcept { most_ = std::max(1, most_ / 2); }

void Pacing::failed(Time now) {
  not_before_ = now + first_failure_wait * (1 << std::min(failures_, failure_doublings));
  ++failures_;
}

}  // namespace posthouse::claim
