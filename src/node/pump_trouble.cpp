// SPDX-License-Identifier: Apache-2.0
// What the worker does when connections break, when its leases lapse, and at its end. See pump.hpp.
#include <algorithm>
#include <limits>
#include <utility>

#include "base/process_usage.hpp"
#include "base/random.hpp"
#include "core/sqlstate.hpp"
#include "node/pump.hpp"
#include "node/registration.hpp"

namespace posthouse::node {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds complain_every{60'000};
constexpr milliseconds hear_within{5'000};
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
  if (now < next_complaint_) return;
  next_complaint_ = now + complain_every;
  core_.log.warning(what, {{"error", error.what()}, {"sqlstate", error.sqlstate()}, {"hint", error.hint()}});
}

bool Pump::connect(Clock::time_point now) {
  if (now < next_connect_) return false;
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
  next_complaint_ = {};
  pacing_.reconnected(Clock::now());
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

// A session lock behind a pooler in transaction mode would stay with a server connection that others get: the LISTEN
// connection is used only after a NOTIFY, sent on the other one, has arrived there.
void Pump::probe_listening(Clock::time_point now) {
  probe_ = "l" + std::to_string(core_.incarnation.load()) + "-" + base::random_uuid().substr(0, 8);
  probe_until_ = now + std::min<milliseconds>(core_.options.database.statement_timeout, hear_within);
  try {
    receive(false);
    core_.statement();
    work().notify(probe_);
  } catch (Error const&) {  // of the other connection: this one has to wait for it
    probe_until_.reset();
    listener_.drop();
    throw;
  }
}

void Pump::not_listening() {
  probe_until_.reset();
  listener_.drop();
  if (!std::exchange(told_deaf_, true)) {
    bool const given = !core_.options.database.session_database_url.empty();
    core_.log.warning(
        given ? "a NOTIFY did not arrive: session_database_url leads to a pooler in transaction mode, polling "
                "instead; set it to the server itself"
              : "a NOTIFY did not arrive: database_url leads to a pooler in transaction mode, polling "
                "instead; set pgbouncer_transaction_mode, and session_database_url to the server itself");
  }
}

void Pump::deaf(Error const& error) {
  core_.log.debug("LISTEN connection lost", {{"error", error.what()}});
  listener_.drop();
  probe_until_.reset();
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
  try {
    receive(false);
  } catch (Error const& error) {
    trouble(error);
  }
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
