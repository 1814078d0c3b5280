// SPDX-License-Identifier: Apache-2.0
// What the worker does when connections break, when its leases lapse, and at its end. See pump.hpp.
#include <algorithm>
#include <limits>
#include <utility>

#include "base/process_usage.hpp"
#include "base/random.hpp"
#include "core/sqlstate.hpp"
#include "duties/heart.hpp"
#include "node/pump.hpp"
#include "node/registration.hpp"

namespace posthouse::node {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds complain_every{60'000};
constexpr milliseconds retry_of_few{1'500};  // the longest wait between two tries to connect
constexpr milliseconds retry_of_many{4'500};
constexpr std::string_view statement_too_long = "57014";
constexpr milliseconds last_words{5'000};  // for reporting and leaving when the database is out of reach

}  // namespace

void Pump::trouble(Error const& error) {
  auto const now = Clock::now();
  auto const action = core::classify(error.sqlstate(), false, error.what());
  if (action == core::Action::overloaded || error.sqlstate() == statement_too_long) pacing_.overloaded();
  if (action == core::Action::corruption) {
    pacing_.damaged(now);
    core_.log.error(
        "the server says that data are damaged: this worker claims nothing for a minute; a human has to look",
        {{"error", error.what()}, {"sqlstate", error.sqlstate()}});
  }
  // A server that refuses us as a whole (read-only, shutting down) is as good as gone.
  bool const gone = !connection_ || !connection_->ok() || error.error_class() == ErrorClass::unavailable;
  if (gone) {
    if (sent_) in_doubt(std::exchange(sent_, std::nullopt)->token);
    crash_flights();
    connection_.reset();
    next_connect_ = std::max(next_connect_, now);
  } else {
    // Whatever the state, the same is tried again after a pause: also a constraint's. What a worker can violate is the
    // primary key of batch, the last fence of a lane's cursor: somebody else has written the lane's next batch. Nothing
    // of the call is there then, and the next one reads the new cursor. To a producer such a state is its own mistake,
    // which is why core::classify says `caller`.
    pacing_.failed(now);
  }
  complain(gone ? "connection lost, connecting again" : "the database refused a statement, trying again", error);
}

void Pump::complain(std::string_view what, Error const& error) {
  auto const now = Clock::now();
  auto& next = next_complaint_[what];  // each by itself: why nobody can connect is news after a connection was lost
  if (now < next) return;
  next = now + complain_every;
  core_.log.warning(what, {{"error", error.what()}, {"sqlstate", error.sqlstate()}, {"hint", error.hint()}});
}

bool Pump::connect(Clock::time_point now) {
  if (now < next_connect_) return false;
  // Of many workers one is there soon; of a few each has to try more often.
  backoff_.set_cap(core_.fleet.load() < duties::large_fleet ? retry_of_few : retry_of_many);
  try {
    connection_ = pg::Connection::open(core_.options.database);
    check_open();
  } catch (Error const& error) {
    connection_.reset();
    next_connect_ = Clock::now() + backoff_.next(base::random_unit());
    complain("cannot connect, trying again", error);
    return false;
  }
  core_.log.info("connected again");
  backoff_.reset();
  next_complaint_.clear();
  pacing_.reconnected(Clock::now());
  listener_.hurry();
  return true;
}

// Compares what we hold with what the server says that we hold.
void Pump::check_open() {
  receive(false);
  next_doubt_check_ = Clock::now() + doubt_check_every;
  publish();
  auto const worker = core_.incarnation.load();
  core_.statement();
  auto const beat = work().beat(worker, core_.low_token, core_.free, core_.running, base::recent_process_usage());
  if (!beat.alive) {
    core_.dead_incarnation = worker;
    return;
  }
  core_.beaten = Clock::now();
  if (!beat.cancel.empty()) cancels_due_ = true;
  auto const differences = book_.reconcile(beat.open);
  for (auto token : differences.lost) lost_batch(token);
  if (!differences.unknown.empty()) {
    core_.log.info("claims whose reply was lost are given back",
                   {{"batches", std::to_string(differences.unknown.size())}});
    core_.statement();
    work().give_back(worker, differences.unknown);
  }
  if (Clock::now() >= doubt_until_) doubt_from_.reset();
}

// This incarnation was declared dead, and its jobs run elsewhere by now.
bool Pump::reborn(Clock::time_point now) {
  receive(false);
  if (book_.lowest()) {
    core_.log.warning("this worker's lease has lapsed: its jobs were given to others, it registers anew",
                      {{"worker", std::to_string(core_.incarnation.load())}});
  }
  book_.lose_all();
  core_.counters.lease_lost += book_.take_dropped();
  for (auto const& task : pool_->take_back()) book_.ended(task.token, task.position, std::nullopt);
  pool_->request_stop_all();
  doubt_from_.reset();
  if (now < next_connect_) return false;
  try {
    auto verbs = work();
    core_.incarnation = register_incarnation(core_, verbs);
  } catch (Error const& error) {
    next_connect_ = Clock::now() + backoff_.next(base::random_unit());
    trouble(error);
    return false;
  }
  backoff_.reset();
  pacing_.reconnected(Clock::now());
  return true;
}

// Sends what a new LISTEN connection has to hear before it is used.
void Pump::prove_listening() {
  try {
    receive(false);
    core_.statement();
    if (!work().notify(listener_.challenge())) listener_.drop();
  } catch (Error const&) {  // of the other connection: this one has to wait for it
    listener_.drop();
    throw;
  }
}

void Pump::deaf(Error const& error) {
  core_.log.debug("LISTEN connection lost", {{"error", error.what()}});
  listener_.drop();
  buffer_bell_ = false;
  pacing_.deaf(Clock::now());
}

void Pump::give_back_unstarted() {
  auto released = static_cast<std::int64_t>(book_.release_unstarted());
  for (auto const& task : pool_->take_back()) {
    book_.ended(task.token, task.position,
                store::Move{.token = task.token, .position = task.position, .id = task.id, .outcome = "release"});
    ++released;
  }
  core_.counters.released += released;
  others_wanted_ = released > 0;
}

void Pump::report_last() {
  if (!connection_) {
    if (!connect(Clock::now())) return;
  }
  if (core_.dead_incarnation.load() == core_.incarnation.load()) {
    book_.lose_all();
    core_.counters.lease_lost += book_.take_dropped();
    return;
  }
  finish(0);
  if (std::exchange(others_wanted_, false)) {
    core_.statement();
    work().wake_one(core_.incarnation);
  }
}

void Pump::shut_down() {
  pacing_.stopping();
  listener_.drop();  // and with it our bells: another keeper may take over
  // All that is on its way, also when one of it fails.
  do {
    try {
      receive(false);
    } catch (Error const& error) {
      trouble(error);
    }
  } while (!flights_.empty());
  give_back_unstarted();
  auto const grace_ends = Clock::now() + core_.options.stop_grace;
  std::optional<Clock::time_point> asked;  // when handlers were asked to stop
  std::optional<Clock::time_point> alone;  // since when everything has ended and only the database is missing
  for (;;) {
    auto const now = Clock::now();
    collect(asked.has_value());
    if (!asked && (core_.stop.load() == Stop::now || now >= grace_ends)) {
      asked = now;
      if (book_.handed() > 0) {
        core_.log.warning("handlers still run: they are asked to stop, their jobs are given back",
                          {{"jobs", std::to_string(book_.handed())}});
      }
      if (core_.children) core_.children->hurry();
      pool_->request_stop_all();
    }
    publish();
    bool const cancels = core_.cancel_asked.exchange(false) && connection_;
    if (cancels || book_.unreported()) {
      try {
        if (cancels) read_cancels();
        report_last();
      } catch (Error const& error) {
        trouble(error);
      }
    }
    bool const settled = !book_.unreported();
    if (book_.handed() == 0) {
      if (settled) break;
      if (!alone) alone = now;
      if (now - *alone >= last_words) break;
    }
    if (asked && now - *asked >= stop_now_wait && (settled || now - *asked >= last_words)) break;

    auto until = asked ? *asked + stop_now_wait : grace_ends;
    if (!settled) until = std::min(until, now + milliseconds{100});
    until = std::max(until, now + milliseconds{1});
    sleep(until, true, 0);
  }
  say_goodbye();
}

void Pump::say_goodbye() {
  try {
    if (pacing_.keeper() && listener_.connection() != nullptr) {
      core_.statement();
      store::Work(*listener_.connection()).let_go();
    }
  } catch (Error const&) {
    listener_.drop();
  }
  try {
    if (connection_ || connect(Clock::now())) {
      core_.statement();
      work().leave(core_.incarnation, pacing_.keeper());
    }
  } catch (Error const& error) {
    core_.log.warning("could not take leave: the lease of this worker will lapse", {{"error", error.what()}});
  }
  connection_.reset();
  listener_.drop();
  pool_->close();
  if (pool_->wait_quiet(Clock::now())) return;
  for (auto const& running : pool_->running()) {
    core_.log.warning("waiting for a handler that does not stop",
                      {{"job", std::to_string(running.id)}, {"kind", running.kind}, {"progress", running.progress}});
  }
  pool_->wait_quiet(Clock::time_point::max());
}

}  // namespace posthouse::node
