// SPDX-License-Identifier: Apache-2.0
// Which lanes are worth a claim now: the hot ones; and which of the cold ones have a bell.
//
// A lane is hot when work was found in it, or somebody said that there is. A hot lane that is found empty is tried
// again at growing intervals and then turns cold. A lane with a bell needs no such watching: whoever enqueues rings, so
// an empty claim or two are the end of it; a bell that rings often is taken off, since each ring is a NOTIFY.
//
// Turns go round over kinds, and those of a kind over its lanes. A turn costs a kind 1 / weight; the kind that has spent
// least is the next, one that was idle has saved nothing up, and one that was served out of turn owes one turn at most.
// Each priority has an account of its own, since the server goes by priority first. Pure: no I/O, time is passed in.
// Thread safety: one thread at a time.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace posthouse::claim {

using Clock = std::chrono::steady_clock;
using Time = Clock::time_point;
using LaneIds = std::vector<std::int64_t>;

inline constexpr std::size_t max_bells = 2'000;  ///< of one keeper; each is an entry of the server's lock table
inline constexpr std::size_t max_lanes_a_claim = 1'000;
inline constexpr std::chrono::milliseconds cold_after{15};         ///< empty for this long, without a bell
inline constexpr int cold_after_claims = 4;                        ///< and for so many claims
inline constexpr std::chrono::milliseconds blocked_retry{250};     ///< others' jobs may have ended
inline constexpr std::chrono::milliseconds blocked_rest{1};        ///< our own ends are followed no more often
inline constexpr std::chrono::milliseconds blocked_longest{1000};  ///< a rate may have been raised
inline constexpr std::chrono::milliseconds ring_window{100};       ///< a bell that rings too often in it is taken off
inline constexpr int rings_to_unbell = 10;                         ///< within ring_window

/// Whose turn it is depends on this.
struct LaneTurn {
  std::string kind{};
  int queue_priority = 0;
  int priority = 0;
  int weight = 1;  ///< 1 to 100
};

class Lanes {
 public:
  /// Returns a number of the kind at this priority. A lane that nobody knows takes turns for itself.
  std::size_t know(std::int64_t lane, LaneTurn const& turn);
  /// There is work, or there may be. `tries`: empty claims until a lane with a bell is left alone again.
  void heat(std::int64_t lane, Time now, int tries = 2);
  /// Its bell rang.
  void rang(std::int64_t lane, Time now);
  /// … and no claim has looked there since.
  [[nodiscard]] bool rung(std::int64_t lane) const;
  /// A claim asked for `asked` and brought jobs of `found`. `full`: it brought all it was allowed to, so a lane that is
  /// not among the found may have work all the same.
  void claimed(std::span<std::int64_t const> asked, std::span<std::int64_t const> found, bool full, Time now);
  /// A limit holds it back: it stays hot and is tried again when a rate lets the next job start (`wait`), else when a
  /// job of ours has ended, and now and then since others' end too.
  void blocked(std::int64_t lane, std::optional<std::chrono::milliseconds> wait, Time now);
  /// When that was last; nullopt: never since it turned hot.
  [[nodiscard]] std::optional<Time> held_back(std::int64_t lane) const;
  /// A job of ours has ended, or somebody else's that a limit counted.
  void freed(Time now);
  /// Some lane waits for jobs to end, ours or others'.
  [[nodiscard]] bool any_blocked() const;
  /// A look said that no lanes but these have work, while no slot was free to try the hot ones: the others turn cold.
  void cool_but(std::span<std::int64_t const> lanes);

  /// Hot lanes whose time has come: kind after kind by whose turn it is, of a kind those first that have waited longest
  /// for a job to be claimed; a claim takes lanes of one priority in this order, so a busy one never keeps another waiting.
  [[nodiscard]] LaneIds due(Time now) const;
  /// The same lanes in the order that holds when the first of them has had its turn.
  [[nodiscard]] LaneIds after_turn(LaneIds const& lanes) const;
  /// Of these, lanes that have just turned hot or rung and were not claimed from since: somebody waits there.
  [[nodiscard]] LaneIds fresh(Time now) const;
  /// When the next one's time comes.
  [[nodiscard]] std::optional<Time> next() const;
  [[nodiscard]] bool hot(std::int64_t lane) const { return hot_.contains(lane); }
  [[nodiscard]] bool any_hot() const noexcept { return !hot_.empty(); }

  /// Lanes without a bell that turned cold since the last call.
  LaneIds take_cold();
  /// Lanes whose bell should go.
  LaneIds take_unbell();
  void belled(std::span<std::int64_t const> lanes);
  void unbelled(std::span<std::int64_t const> lanes);
  /// The connection that held them is gone.
  void bells_gone();
  [[nodiscard]] bool has_bell(std::int64_t lane) const { return bells_.contains(lane); }
  [[nodiscard]] std::size_t bells() const noexcept { return bells_.size(); }

 private:
  static constexpr std::size_t unknown = static_cast<std::size_t>(-1);
  struct Hot {
    Time next{};
    std::size_t group = unknown;
    std::uint64_t served = 0;  // number of the claim that last brought jobs; 0: none yet
    int empty = 0;             // claims in a row
    int tries = 2;
    bool rung = false;  // and no claim since
    Time empty_since{};
    std::optional<Time> blocked_since{};  // by a limit of what runs at once
    std::optional<Time> held_back{};      // by whatever limit, the last time
  };
  struct Bell {
    Time since{};
    int rings = 0;
  };

  struct Group {  // the lanes of a kind at one priority
    std::size_t level = 0;
    std::uint64_t spent = 0;
    std::uint64_t cost = 0;    // of a turn
    std::uint64_t served = 0;  // as Hot::served
  };
  struct Place;

  Hot& at(std::int64_t lane);
  [[nodiscard]] std::uint64_t ahead(Group const& group) const;
  [[nodiscard]] Place place(std::int64_t lane, Hot const& hot) const;
  static LaneIds sorted(std::vector<Place> places);
  void charge(std::span<std::int64_t const> found, Time now);

  std::unordered_map<std::int64_t, std::size_t> group_of_;
  std::map<std::tuple<int, int, std::string>, std::size_t> group_names_;
  std::map<std::pair<int, int>, std::size_t> level_names_;
  std::vector<Group> groups_;
  std::vector<std::uint64_t> levels_;  // what the kind whose turn it was last had spent before

  std::unordered_map<std::int64_t, Hot> hot_;
  std::uint64_t claims_ = 0;
  std::unordered_map<std::int64_t, Bell> bells_;
  LaneIds cold_;
  std::unordered_set<std::int64_t> unbell_;
};

}  // namespace posthouse::claim
