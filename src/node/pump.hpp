// SPDX-License-Identifier: Apache-2.0
// The main loop of a worker: claims jobs, hands them to the handlers, reports how they ended, sleeps.
//
// One thread owns all of it: the main connection, the LISTEN connection, the batch book and the pacing. What to do next
// is decided by claim::Pacing; this class does it and keeps going when the database does not.
// Memory: at most concurrency + prefetch_buffer jobs, and of each batch at most what one claim brings (16 MiB of
// payloads, or one job), until its last member has ended.
// Thread safety: construct, run() and destroy on one thread at a time; stop through WorkerCore::request.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "claim/pacing.hpp"
#include "complete/batch_book.hpp"
#include "core/reconnect.hpp"
#include "execute/pool.hpp"
#include "node/listener.hpp"
#include "node/worker_core.hpp"
#include "pg/connection.hpp"
#include "store/work.hpp"

namespace posthouse::node {

inline constexpr std::chrono::milliseconds stop_now_wait{2'000};  ///< for handlers that were asked to stop at once
inline constexpr std::chrono::milliseconds listen_every{2};       ///< a busy pump looks for notifications so often
inline constexpr std::chrono::milliseconds wake_every{10};  ///< claims of one job: another worker is woken so often
inline constexpr std::chrono::microseconds watch_for{80};   ///< for jobs that end at once, before it sleeps
inline constexpr int watch_rest_most = 256;                 ///< sleeps without it, after it was in vain
inline constexpr int most_claims_in_flight = 8;             ///< to a database that is far away
inline constexpr std::chrono::milliseconds doubt_check_every{1'000};
inline constexpr std::chrono::milliseconds doubt_margin{60'000};
inline constexpr std::chrono::milliseconds turns_every{60'000};  ///< the net under the notification of changed weights

class Pump {
 public:
  using Clock = std::chrono::steady_clock;

  /// `connection` is open, and core.incarnation registered through it.
  Pump(WorkerCore& core, std::unique_ptr<pg::Connection> connection);
  ~Pump();

  /// Returns when asked to stop, or, with `once`, when nothing is left to do; everything is reported or given back
  /// then, unless the database was out of reach.
  void run();

  /// From any thread: what running handlers have reported since the last call.
  [[nodiscard]] std::vector<execute::Reported> take_progress() { return pool_->take_progress(); }
  /// True inside one of this worker's handlers.
  [[nodiscard]] bool inside_handler() const noexcept { return pool_->inside(); }

 private:
  struct Sent {  // a claim whose reply has not been taken
    claim::Step step{};
    std::int64_t token = 0;
    int start = 0;
  };

  struct Flight {  // a statement to a database that is far away, whose answer has not been taken
    claim::What what = claim::What::claim;  // or finish, or look
    Sent claim{};
    Clock::time_point sent{};
  };

  /// A lane as handlers see it.
  struct Lane {
    std::string queue{};
    int priority = 0;
    execute::Registered const* kind = nullptr;
  };

  // pump.cpp: the loop
  void turn();
  void collect(bool giving_back);
  void hand_out();
  execute::Task task_for(store::ClaimedJob const& job, Lane const& lane) const;
  void publish();
  claim::Load load() const;
  bool ends_at_once();
  void sleep(Clock::time_point until, bool any_end, int low_water);
  void hear(std::vector<std::string> const& payloads);
  bool drained();

  // pump_steps.cpp: one statement each
  void perform(claim::Step const& step);
  void finish(int room);
  void claim(claim::Step const& step);
  bool send(claim::Step const& step);
  void receive(bool run_on);
  pg::Result receive_rows(Sent const& sent);
  std::optional<claim::Step> next_of(claim::Step const& step, int start, int rows) const;
  void opened(store::Claim&& claimed, claim::Step const& step, int start);
  void in_doubt(std::int64_t token);

  // pump_far.cpp: several statements on their way
  bool fly(claim::Step const& step);
  bool fly_finish(int& room);
  bool fly_claim(claim::Step const& step, int room);
  void await_flights(Clock::time_point until);
  void land(bool all);
  void land_one();
  void crash_flights();
  [[nodiscard]] int flying(claim::What what) const noexcept;

  // pump_buffer.cpp: what is claimed ahead and not started, while others could start it
  [[nodiscard]] int unstarted() const noexcept;
  void mind_buffer(Clock::time_point now);
  std::optional<Clock::time_point> buffer_due() const;
  void answer_idle(Clock::time_point now);
  void yield_to_higher(Clock::time_point now);
  void displace();
  int give_back(int most, std::function<bool(std::int64_t lane, int priority)> const& which);
  [[nodiscard]] int priority_of(std::int64_t lane) const;

  void settle(std::vector<std::int64_t> const& lost);
  void lost_batch(std::int64_t token);
  void read_cancels();
  void release(std::int64_t token, int position, std::int64_t id);
  void resolve_lanes();
  void reread_turns();
  void look_up(std::vector<std::int64_t> const& lanes);
  void keeper_step(claim::Step const& step);

  // pump_trouble.cpp: connections that break, leases that lapse, the end
  void trouble(Error const& error);
  void complain(std::string_view what, Error const& error);
  bool connect(Clock::time_point now);
  void check_open();
  bool reborn(Clock::time_point now);
  void prove_listening();
  void deaf(Error const& error);
  void shut_down();
  void give_back_unstarted();
  void report_last();
  void say_goodbye();

  store::Work work() { return store::Work(*connection_); }

  WorkerCore& core_;
  std::unique_ptr<pg::Connection> connection_;
  core::ReconnectBackoff backoff_;
  Clock::time_point next_connect_{};
  Listener listener_;
  Clock::time_point next_listen_{};
  Clock::time_point next_wake_{};
  std::string const profile_;
  std::string fence_{};

  claim::Pacing pacing_;
  complete::BatchBook book_;
  std::int64_t token_ = 0;  // of the last claim
  // A large claim whose reply is on its way: this worker hands out and collects meanwhile. Until receive() nothing else
  // may be asked of the connection.
  std::optional<Sent> sent_{};
  std::deque<Flight> flights_{};  // the same far away, oldest first; sent_ is empty then
  bool last_claim_full_ = false;  // it brought all that was asked for: another one will bring as much
  // Claims whose reply was lost may still be committed by a server process that we hear no more of.
  std::optional<std::int64_t> doubt_from_{};
  Clock::time_point doubt_until_{};
  Clock::time_point next_doubt_check_{};
  bool cancels_due_ = false;               // somebody has told us to ask which jobs are to be cancelled
  std::set<std::int64_t> not_to_start_{};  // of these: those that may still be handed out
  std::unordered_map<std::int64_t, Lane> lanes_{};
  std::vector<std::int64_t> unresolved_{};
  Clock::time_point next_turns_{};  // when weights and priorities of queues are read again

  std::vector<execute::Ended> ended_{};
  std::vector<execute::Task> tasks_{};
  bool handed_out_ = false;  // since it slept last
  bool quick_ = false;       // the last job that was watched ended at once
  int watch_again_ = 0;      // after so many sleeps
  int watch_rest_ = 1;
  bool urgent_ = false;  // the last claim's jobs go before those that are queued
  std::map<std::string_view, Clock::time_point> next_complaint_{};  // by what is said, a literal
  bool once_done_ = false;
  std::optional<Clock::time_point> held_since_{};  // since when jobs have been waiting in the buffer
  std::optional<Clock::time_point> empty_since_{};
  bool buffer_bell_ = false;         // on the LISTEN connection
  std::int64_t idle_peer_ = 0;       // has said that it found nothing; 0: nobody
  Clock::time_point next_answer_{};  // to an idle peer
  Clock::time_point next_offer_{};   // to some peer that has free slots
  int urgent_jobs_ = 0;              // that have come from a lane that was quiet, and for which others make room
  std::int64_t urgent_lane_ = 0;     // the lane
  int displaced_ = 0;                // given back for jobs of a higher priority that have not come yet
  bool others_wanted_ = false;       // we give jobs back: somebody should take them

  std::unique_ptr<execute::Pool> pool_;  // last: its threads end before what their tasks point to
};

}  // namespace posthouse::node
