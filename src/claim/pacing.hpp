// SPDX-License-Identifier: Apache-2.0
// What a worker sends next, and until when it may sleep: a state machine without I/O.
//
// The caller reports what happened (found, finished, rang, …), asks step() what to do, does it, reports again. It
// knows:
// - finished jobs are reported at once when a handler is idle and nothing is to be claimed for it, else in groups, at the
//   latest after flush_interval;
// - a claim is sent when a slot is free, or when half of the prefetch buffer is used up, so that batches stay big; a
//   small one shares its round trip and its commit with a report, unless jobs end as soon as they begin: then it does
//   not wait for the disk, and the report is of a group;
// - the keeper of a profile puts bells on cold lanes, and looks at them again until its fence has passed, since a
//   producer whose transaction is older than the bell may not have seen it;
// - a full look now and then is the net under all that.
// Thread safety: one thread at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "claim/lanes.hpp"

namespace posthouse::claim {

inline constexpr int max_jobs_a_claim = 2'000;
inline constexpr int max_batches_a_claim = 16;  ///< as the SQL function has it; tokens are taken in such ranges
inline constexpr std::chrono::milliseconds look_every{1'000};        ///< the net: keeper, and whoever is working
inline constexpr std::chrono::milliseconds idle_look_every{10'000};  ///< the same of an idle worker beside a keeper
inline constexpr std::chrono::milliseconds keep_every{3'000};        ///< somebody tries to become the keeper
inline constexpr int most_keep_shares = 40;  ///< tries and looks are shared by all workers of the profile: each waits
inline constexpr int most_look_shares = 12;  ///< so many times as long, at the most
inline constexpr std::chrono::milliseconds survey_every{60'000};  ///< keeper: which lanes are there at all
inline constexpr std::chrono::milliseconds rebell_every{5'000};   ///< lanes whose bell another profile's keeper has
inline constexpr std::chrono::milliseconds hand_on_every{50};     ///< a full keeper wakes others
inline constexpr std::chrono::milliseconds deaf_poll_first{5};    ///< without a LISTEN connection
inline constexpr std::chrono::milliseconds deaf_poll_last{250};
inline constexpr std::chrono::milliseconds rate_window{10};  ///< see Pacing::ahead()

/// Claims of so many jobs go alone: a claim that also reports holds its lanes' locks while its commit goes to disk.
inline constexpr int fuse_below = 64;

/// After a limit held a lane back, claims and reports share their statements again.
inline constexpr std::chrono::milliseconds together_for{10'000};

/// So long after the last lane waited for a limit, a worker lets others end jobs without a notification.
inline constexpr std::chrono::milliseconds limit_bell_for{2'000};

/// So few lanes that were quiet are claimed from although the buffer is full enough, so that no job there waits behind
/// what is buffered.
inline constexpr std::size_t max_urgent_lanes = 16;

/// From this round trip on the database counts as far away: statements are sent without waiting for each other.
inline constexpr std::chrono::milliseconds far_from{4};
inline constexpr int far_after = 8;  ///< round trips, so that a slow start is not taken for distance

/// How long a worker claims nothing after the server has spoken of damaged data.
inline constexpr std::chrono::seconds damaged_for{60};

struct Limits {
  int slots = 1;     ///< handler threads
  int prefetch = 0;  ///< jobs claimed ahead of a free slot
  int most = max_jobs_a_claim;
  Clock::duration flush_interval{std::chrono::milliseconds{5}};
};

/// What the worker holds, once everything that may start has been handed to its handlers.
struct Load {
  int handed = 0;           ///< with the handlers: running, or queued for a thread
  int waiting = 0;          ///< claimed, may not start yet
  bool unreported = false;  ///< something ended that the server does not know of
  bool quick = false;       ///< jobs have been ending as soon as they began
  int claiming = 0;         ///< asked for by claims whose reply is not here yet
  int starting = 0;         ///< of these: so many will be allowed to start at once
  bool urgent = false;      ///< one of these claims is for lanes that were quiet
  bool reporting = false;   ///< a report is on its way
};

enum class What {
  wait,         ///< until `until`
  finish,       ///< report what ended, raise what may start by up to `room`
  claim,        ///< the same when there is anything, and claim `jobs` of `lanes` (empty: look first)
  look,         ///< Work::look, then looked()
  keep,         ///< Work::keep, then kept()
  survey,       ///< Work::eligible, then surveyed()
  bell,         ///< Work::bell on `lanes`, Work::fence, then belled()
  unbell,       ///< Work::unbell on `lanes`, then unbelled()
  check_fence,  ///< Work::fence_passed, then fence_checked()
  hand_on,      ///< Work::wake_one, then handed_on()
  limit_bell,   ///< Work::limit_bell(`on`), then limit_belled()
};

struct Step {
  What what = What::wait;
  LaneIds lanes{};
  int jobs = 0;
  int room = 0;          ///< how many more members may be allowed to start
  bool flush = false;    ///< something is to be reported or raised with this claim
  bool probe = false;    ///< one job of a lane that rang: report probed() when it was there
  bool urgent = false;   ///< lanes that have been cold: their jobs go before those that are buffered
  Time until{};          ///< wait: the next moment at which there may be something to do
  bool any_end = false;  ///< wait: the first job that ends should wake the worker, else only
  bool on = false;       ///< limit_bell: on or off
  int low_water = 0;     ///< … when no more than this many are left with the handlers' queue
};

class Pacing {
 public:
  Pacing(Limits limits, Time now);

  /// What to do next. Report the outcome of a step before asking again.
  [[nodiscard]] Step step(Time now, Load const& load);

  // -- what happened ------------------------------------------------------------------------------------------------
  void ended(int jobs, Time now);  ///< handlers finished so many jobs
  /// A finish, or the finish part of a claim, has been sent and answered; `took` is how long that was.
  void flushed(Time now, Clock::duration took);
  void claimed(std::span<std::int64_t const> asked, std::span<std::int64_t const> found, bool full, Time now);
  /// After claimed(): the job was there, and more may be.
  void probed(std::int64_t lane, Time now);
  /// After claimed(): a limit holds this lane back; see Lanes::blocked.
  void blocked(std::int64_t lane, std::optional<std::chrono::milliseconds> wait, Time now);
  /// See Lanes::know.
  std::size_t know(std::int64_t lane, LaneTurn const& turn) { return lanes_.know(lane, turn); }
  void looked(std::span<std::int64_t const> lanes, Time now);
  void rang(std::int64_t lane, Time now);  ///< NOTIFY with a lane
  void new_lane(Time now);                 ///< NOTIFY "new"
  void called(Time now);                   ///< NOTIFY with our own name
  void limit_freed(Time now);              ///< NOTIFY "limit": a job that a limit counted has ended
  void keeper_gone(Time now);              ///< NOTIFY "keep": a worker has left, or was lost
  void kept(int peers,
            Time now);  ///< 0: we are the keeper; else how many workers the profile has, ourselves among them
  void surveyed(std::span<std::int64_t const> lanes, Time now);
  void belled(std::span<std::int64_t const> asked, std::span<std::int64_t const> got, Time now);
  void unbelled(std::span<std::int64_t const> lanes);
  void fence_checked(bool passed, Time now);
  void handed_on(Time now);
  void limit_belled(bool on, Time now);
  void listening(Time now);    ///< a LISTEN connection is there, from now on
  void deaf(Time now);         ///< it is gone, and the bells with it
  void reconnected(Time now);  ///< a new main connection: anything may have happened
  void failed(Time now);       ///< the server refused a statement; wait a little, longer each time in a row
  /// The server has no room: claims become half as large, and grow again when they are full.
  void overloaded() noexcept;
  void damaged(Time now) noexcept { claims_from_ = now + damaged_for; }  ///< nothing is claimed for a while
  /// Nothing is claimed until then: what was given back is for others.
  void leave_to_others(Time until) noexcept { claims_from_ = std::max(claims_from_, until); }
  void stopping() noexcept { stopping_ = true; }
  [[nodiscard]] int most() const noexcept { return most_; }  ///< jobs a claim, now

  /// The shortest round trip lately is a long one.
  [[nodiscard]] bool far() const noexcept { return round_trips_ >= far_after && least_round_trip_ >= far_from; }

  [[nodiscard]] bool keeper() const noexcept { return keeper_; }
  [[nodiscard]] Lanes const& lanes() const noexcept { return lanes_; }
  /// Nothing is known that could be claimed: not before a look or a wake-up.
  [[nodiscard]] bool nothing_known() const noexcept { return !look_now_ && !lanes_.any_hot(); }
  /// How many members may be allowed to start at once: the slots, and what they got through in the last few
  /// milliseconds, twice. Jobs slower than the window never raise it above the slots, so a crash charges an attempt to
  /// nobody that did not run.
  [[nodiscard]] int ahead(Time now) const;

 private:
  [[nodiscard]] int wanted(Load const& load) const noexcept;
  std::optional<Step> engine(Time now, Load const& load, int room, int want);
  [[nodiscard]] std::optional<Step> claim_step(Time now, Load const& load, int want) const;
  std::optional<Step> housekeeping(Time now, int want);
  [[nodiscard]] Time sleep_until(Time now, Load const& load, int want) const;
  void plan_look(Time now);
  [[nodiscard]] Clock::duration in_turn(std::chrono::milliseconds every, int most);
  void want_bells(std::span<std::int64_t const> lanes);

  Limits limits_;
  int most_ = limits_.most;
  Time claims_from_{};
  Lanes lanes_;
  bool stopping_ = false;
  bool housekeeping_turn_ = false;  // so that neither claims nor the rest starve each other

  std::optional<Time> oldest_{};  // first job that ended and is not reported
  std::deque<std::pair<Time, int>> ends_{};
  Clock::duration round_trip_{};
  Clock::duration least_round_trip_{};  // of the last few
  int round_trips_ = 0;                 // up to far_after
  int working_ = 0;                     // members at the last step
  Time together_until_{};
  bool limit_bell_ = false;  // whoever ends a job of a limit notifies
  Time last_blocked_{};
  bool full_ = false;  // no slot was free at the last step

  bool look_now_ = true;   // a claim should look first
  bool list_now_ = false;  // there are more lanes with work than one claim reached
  Time next_look_{};

  bool listening_ = false;
  bool keeper_ = false;
  Time next_keep_{};
  int shares_ = 1;  // idle workers that look after the keeper and the lanes, as far as known
  Time next_survey_{};
  std::set<std::int64_t> bell_wanted_{};
  std::set<std::int64_t> bell_refused_{};
  Time next_rebell_{};
  LaneIds fenced_{};  // lanes that the fence is about; empty: no fence
  std::size_t fence_step_ = 0;
  Time next_fence_{};
  bool hand_on_ = false;
  Time next_hand_on_{};

  std::chrono::milliseconds deaf_poll_ = deaf_poll_first;
  int failures_ = 0;
  Time not_before_{};
};

}  // namespace posthouse::claim
