// SPDX-License-Identifier: Apache-2.0
// What this worker holds: its open batches, which members may start, which have ended, what is still to be reported.
//
// Pure: no I/O and no clock. One statement is in flight at a time: prepare() says what to send; confirm() or
// not_confirmed() says what became of it. Acks are cumulative, so what was sent in vain is simply sent again.
// Memory: one record a batch, the reply of its claim until the last member has ended, results until they are confirmed.
// Thread safety: one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "store/work.hpp"

namespace posthouse::complete {

/// Jobs of a kind of weight 1 that next() gives before it goes on to another kind, and of another of its lanes next time.
inline constexpr int jobs_a_turn = 64;
/// Bytes of results that one statement carries, unless its first result is larger.
inline constexpr std::size_t result_bytes_a_flush = 16 * 1024 * 1024;

/// The finish part of one statement.
struct Flush {
  std::vector<store::BatchAck> acks{};
  std::vector<store::Move> moves{};
  std::span<store::JobResult const> results{};  ///< the book's, until confirm() or not_confirmed()
  [[nodiscard]] bool empty() const noexcept { return acks.empty(); }
};

class BatchBook {
 public:
  /// Enters the batches of one claim. `start` is what the claim asked for: the server gives it to the batches in order.
  /// `urgent`: they go before the members that wait already.
  void open(std::shared_ptr<store::Claim const> const& claim, int start, bool urgent = false);

  /// Lanes of one group share its turns, each of `weight` times jobs_a_turn. A lane that nobody knows is a group.
  void know(std::int64_t lane, std::size_t group, int weight);

  /// The next member that may start, counted as handed out from now on; nullptr: none may. In order within a lane; the
  /// lanes take turns, so that a job does not wait behind all that was claimed ahead of another lane.
  store::ClaimedJob const* next();

  /// A member that next() gave has ended; `move` when otherwise than by success. False: its batch is lost, nothing is
  /// to be reported.
  bool ended(std::int64_t token, int position, std::optional<store::Move> move,
             std::optional<store::JobResult> result = {});

  /// A member that next() gave is taken from its handler, which still runs: `move` is reported, and when the handler ends,
  /// ended() says false. False: its batch is lost.
  bool abandoned(std::int64_t token, int position, store::Move move);

  /// Gives back every member that next() has not given. Returns how many.
  std::size_t release_unstarted();
  /// The same for up to `most` of the lanes that `which` accepts, those that next() would give last.
  std::size_t release_last(std::size_t most, std::function<bool(std::int64_t lane)> const& which);

  /// What to send: acks of everything that ended since, and up to `raise` more members that may start once it commits.
  /// `raised` is how many of them there are.
  Flush prepare(int raise, int& raised);
  /// The statement has committed; `lost` are tokens whose lease is lost.
  void confirm(std::span<std::int64_t const> lost);
  /// It failed, or (`in_doubt`) nobody knows: the same, and more, is sent next time.
  void not_confirmed(bool in_doubt);

  /// What the server said after a reconnect.
  struct Differences {
    std::vector<std::int64_t> unknown{};  ///< open there, not known here: claims whose reply was lost
    std::vector<std::int64_t> lost{};     ///< open here, not there
  };
  /// Batches that are not open any more are lost, but for those whose close was sent: they are done.
  Differences reconcile(std::span<std::int64_t const> open);
  /// The incarnation is dead: so is every batch.
  void lose_all();
  /// Results that were dropped since the last call because their batch was lost before they were reported; those that
  /// ended() refuses are not among them.
  int take_dropped() noexcept { return std::exchange(dropped_, 0); }

  /// Members that next() gave and that have not ended, those of lost batches and abandoned ones included: they occupy
  /// handlers.
  [[nodiscard]] int handed() const noexcept { return handed_; }
  /// Members that next() has not given yet.
  [[nodiscard]] int waiting() const noexcept { return waiting_; }
  /// Of these: how many next() would give now.
  [[nodiscard]] int startable() const noexcept { return startable_; }
  /// Something ended that the server does not know of.
  [[nodiscard]] bool unreported() const noexcept { return !dirty_.empty(); }
  /// The lowest token of a batch that may be open.
  [[nodiscard]] std::optional<std::int64_t> lowest() const;
  [[nodiscard]] bool known(std::int64_t token) const { return batches_.contains(token); }
  [[nodiscard]] std::size_t batches() const noexcept { return batches_.size(); }

 private:
  struct Turn {
    std::size_t group = 0;
    int weight = 1;
  };
  struct Batch {
    std::shared_ptr<store::Claim const> claim{};
    store::ClaimedJob const* first = nullptr;  // in *claim
    int members = 0;                           // rows in *claim
    int size = 0;                              // length of the ack: last position + 1
    int next = 0;                              // first member not handed out
    int started = 0;                           // committed: members below may start
    int raised = 0;                            // sent, not confirmed
    int handed = 0;                            // given and not ended
    int ended = 0;
    int reported = 0;  // of these: how many the server knows of
    int sent = 0;      // of these: how many it will know of when what is in flight commits
    std::string acked{};
    bool dirty = false;
    bool closing = false;   // the close is in flight
    bool in_doubt = false;  // the close was sent and nobody knows
    bool lost = false;
  };
  using Batches = std::map<std::int64_t, Batch>;

  Batch* find(std::int64_t token);
  void next_lane();
  void mark(std::int64_t token, Batch& batch);
  void end(std::int64_t token, Batch& batch, int position);
  void lose(Batches::iterator it);
  void forget(std::int64_t token);
  std::map<std::int64_t, std::vector<int>> take_results();
  int may_start(Batch const& batch) const noexcept;

  Batches batches_;
  std::unordered_map<std::int64_t, Turn> turns_;  // of lanes
  int given_in_turn_ = 0;                         // by next(), since the lanes last changed
  int turn_ = jobs_a_turn;                        // how many it gives in this turn
  std::deque<std::int64_t> order_;                // batches with members that next() has not given, oldest first
  std::vector<std::int64_t> dirty_;               // batches with something to report
  std::vector<store::Move> moves_;                // to be sent
  std::vector<std::int64_t> sent_;                // batches in flight
  std::vector<store::Move> sent_moves_;
  std::deque<store::JobResult> results_;  // to be sent
  std::vector<store::JobResult> sent_results_;
  std::set<std::pair<std::int64_t, int>> abandoned_;  // whose handlers still run
  std::pair<std::int64_t, Batch*> recent_{0, nullptr};
  int dropped_ = 0;
  int handed_ = 0;
  int waiting_ = 0;
  int startable_ = 0;
};

}  // namespace posthouse::complete
