// SPDX-License-Identifier: Apache-2.0
// A database that is far away: claims and reports are sent without waiting for each other's answers. See pump.hpp.
//
// Each is a transaction of its own, and they are answered in the order in which they were sent. One report at a time is on
// its way; of claims as many as the buffer has room for, but only after one that brought all it asked for: where little
// is to be had, one at a time is enough. Whatever else is asked of the connection waits until all have been answered.
#include <algorithm>
#include <utility>

#include "node/pump.hpp"

namespace posthouse::node {

namespace {

constexpr std::chrono::milliseconds glance_every{2};  // at what has ended, while answers are awaited

}  // namespace

int Pump::flying(claim::What what) const noexcept {
  return static_cast<int>(
      std::count_if(flights_.begin(), flights_.end(), [what](Flight const& flight) { return flight.what == what; }));
}

// False: it has to be done in the ordinary way.
bool Pump::fly(claim::Step const& step) {
  using claim::What;
  int room = step.room;
  switch (step.what) {
    case What::finish:
      return fly_finish(room);
    case What::claim:
      if (step.lanes.empty()) return false;
      if (step.flush && flying(What::finish) == 0 && !fly_finish(room)) return false;
      return fly_claim(step, room);
    case What::look:
      // Which kinds take turns has to be known before what it finds is claimed.
      if (core_.handlers.size() > 1) return false;
      if (flying(What::look) == 0) {
        if (!work().pipe_look(core_.incarnation)) return false;
        core_.statement();
        flights_.push_back({.what = What::look, .claim = {}, .sent = Clock::now()});
      } else {
        await_flights(Clock::now() + glance_every);
      }
      return true;
    default:
      return false;
  }
}

// `room` becomes less by what it allows to start.
bool Pump::fly_finish(int& room) {
  if (flying(claim::What::finish) > 0) return false;
  int raised = 0;
  auto const flush = book_.prepare(room, raised);
  if (flush.empty()) {
    await_flights(Clock::now() + glance_every);
    return true;
  }
  room -= raised;
  bool sent = false;
  try {
    sent = work().pipe_finish(core_.incarnation, flush.acks, flush.moves, flush.results);
  } catch (Error const&) {
    book_.not_confirmed(!connection_->ok());
    throw;
  }
  if (!sent) {
    book_.not_confirmed(false);
    return false;
  }
  core_.statement();
  flights_.push_back({.what = claim::What::finish, .claim = {}, .sent = Clock::now()});
  return true;
}

bool Pump::fly_claim(claim::Step const& step, int room) {
  int const claims = flying(claim::What::claim);
  if (!step.urgent && claims >= (last_claim_full_ ? most_claims_in_flight : 1)) {
    await_flights(Clock::now() + glance_every);
    return true;
  }
  Sent claim{.step = step, .token = token_ + claim::max_batches_a_claim, .start = std::clamp(room, 0, step.jobs)};
  // The first lanes will give the claim before this one all that it asks for: it is the turn of the next.
  if (claims % 2 != 0) claim.step.lanes = pacing_.lanes().after_turn(step.lanes);
  try {
    if (!work().pipe_claim(core_.incarnation, {.token = claim.token,
                                               .lanes = claim.step.lanes,
                                               .jobs = step.jobs,
                                               .start = claim.start,
                                               .wake = !step.probe}))
      return false;
  } catch (Error const&) {
    token_ = claim.token;
    if (!connection_->ok()) in_doubt(claim.token);
    throw;
  }
  core_.statement();
  token_ = claim.token;
  flights_.push_back({.what = claim::What::claim, .claim = std::move(claim), .sent = Clock::now()});
  return true;
}

// Sleeps, but wakes for an answer, and now and then for what has ended.
void Pump::await_flights(Clock::time_point until) {
  if (flights_.empty() || connection_->piped_ready()) return;
  auto const now = Clock::now();
  next_listen_ = now + listen_every;
  try {
    hear(listener_.wait(std::min(until, now + glance_every), connection_->socket()));
  } catch (Error const& error) {
    deaf(error);
  }
  core_.wake.drain();
}

void Pump::land(bool all) {
  while (!flights_.empty() && (all || connection_->piped_ready())) {
    bool const urgent = flights_.front().claim.step.urgent;
    land_one();
    if (urgent && !all) return;  // its jobs go before those of the next
  }
}

void Pump::land_one() {
  // It stays in the list until its answer is here, so that it is in doubt when the connection breaks.
  std::optional<pg::Result> rows;
  try {
    rows = connection_->piped();
  } catch (Error const&) {
    if (connection_->ok()) {  // the server refused this one
      if (flights_.front().what == claim::What::finish) book_.not_confirmed(false);
      flights_.pop_front();
    }
    throw;
  }
  auto const flight = std::move(flights_.front());
  flights_.pop_front();
  auto const now = Clock::now();
  switch (flight.what) {
    case claim::What::finish:
      settle(store::Work::decode_ids(*rows));
      return pacing_.flushed(now, now - flight.sent);
    case claim::What::look:
      return pacing_.looked(store::Work::decode_ids(*rows), now);
    default:
      last_claim_full_ = rows->rows() >= flight.claim.step.jobs;
      return opened(store::Work::decode_claim(*std::exchange(rows, std::nullopt)), flight.claim.step,
                    flight.claim.start);
  }
}

// The connection is gone: whatever was on its way may have been done.
void Pump::crash_flights() {
  for (auto const& flight : std::exchange(flights_, {})) {
    if (flight.what == claim::What::claim) in_doubt(flight.claim.token);
    if (flight.what == claim::What::finish) book_.not_confirmed(true);
  }
}

}  // namespace posthouse::node
