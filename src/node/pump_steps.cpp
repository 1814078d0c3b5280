// SPDX-License-Identifier: Apache-2.0
// The statements of the worker's loop. See pump.hpp.
#include <algorithm>
#include <exception>
#include <set>
#include <utility>

#include "node/pump.hpp"

namespace posthouse::node {

void Pump::perform(claim::Step const& step) {
  using claim::What;
  if (pacing_.far() && !sent_ && fly(step)) return;
  switch (step.what) {
    case What::finish:
      return finish(step.room);
    case What::claim:
      return claim(step);
    case What::look: {
      receive(false);
      core_.statement();
      auto const lanes = work().look(core_.incarnation);
      if (core_.handlers.size() > 1) {
        std::vector<std::int64_t> fresh;
        for (auto lane : lanes) {
          if (!lanes_.contains(lane)) fresh.push_back(lane);
        }
        if (!fresh.empty()) look_up(fresh);
      }
      return pacing_.looked(lanes, Clock::now());
    }
    case What::survey: {
      receive(false);
      core_.statement();
      auto const lanes = work().eligible(core_.incarnation);
      return pacing_.surveyed(lanes, Clock::now());
    }
    case What::hand_on:
      receive(false);
      core_.statement();
      work().wake_one(core_.incarnation);
      return pacing_.handed_on(Clock::now());
    case What::keep:
    case What::bell:
    case What::unbell:
    case What::check_fence:
    case What::limit_bell:
      return keeper_step(step);
    case What::wait:
      return;
  }
}

// With a claim on its way: its reply is taken in while the server works on the finish, and when there is room for as much
// again, the next claim follows at once, so that the server hardly ever waits for us.
void Pump::finish(int room) {
  land(true);
  auto const claimed = std::exchange(sent_, std::nullopt);
  std::optional<pg::Result> rows;
  std::optional<claim::Step> next;
  if (claimed) {
    rows = receive_rows(*claimed);
    next = next_of(claimed->step, claimed->start, rows->rows());
  }
  auto const open = [&] {
    if (rows) opened(store::Work::decode_claim(*std::exchange(rows, std::nullopt)), claimed->step, claimed->start);
  };
  int raised = 0;
  auto const flush = book_.prepare(room, raised);
  if (flush.empty()) return open();
  auto const sent = Clock::now();
  std::vector<std::int64_t> lost;
  try {
    core_.statement();
    auto verbs = work();
    if (rows && verbs.send_finish(core_.incarnation, flush.acks, flush.moves, flush.results)) {
      open();
      if (unresolved_.empty()) hand_out();
      lost = verbs.receive_finish();
    } else {
      lost = verbs.finish(core_.incarnation, flush.acks, flush.moves, flush.results);
    }
  } catch (Error const&) {
    book_.not_confirmed(!connection_->ok());
    open();
    throw;
  }
  std::exception_ptr failed;
  try {
    if (next) {
      next->room = std::max(0, next->room - raised);
      send(*next);
    }
  } catch (Error const&) {
    failed = std::current_exception();
  }
  open();
  settle(lost);
  auto const now = Clock::now();
  pacing_.flushed(now, now - sent);
  if (failed) std::rethrow_exception(failed);
}

void Pump::claim(claim::Step const& step) {
  land(true);
  if (sent_) return receive(!step.urgent);
  if (!step.flush && step.jobs >= claim::fuse_below && send(step)) return;
  int raised = 0;
  complete::Flush flush;
  if (step.flush) flush = book_.prepare(step.room, raised);
  token_ += claim::max_batches_a_claim;
  auto const sent = Clock::now();
  bool const wake = !step.probe && sent >= next_wake_;
  if (wake) next_wake_ = sent + wake_every;
  store::ClaimRequest const request{.token = token_,
                                    .lanes = step.lanes,
                                    .jobs = step.jobs,
                                    .start = std::clamp(step.room - raised, 0, step.jobs),
                                    .wake = wake};
  store::Claim claimed;
  try {
    core_.statement();
    claimed = flush.empty()
                  ? work().claim(core_.incarnation, request)
                  : work().finish_and_claim(core_.incarnation, flush.acks, flush.moves, request, flush.results);
  } catch (Error const&) {
    bool const lost = !connection_->ok();
    if (lost) in_doubt(token_);
    if (!flush.empty()) book_.not_confirmed(lost);
    throw;
  }
  if (!flush.empty()) {
    settle(claimed.lost);
    auto const now = Clock::now();
    pacing_.flushed(now, now - sent);
  }
  opened(std::move(claimed), step, request.start);
}

// False: it has to be sent and awaited in one go.
bool Pump::send(claim::Step const& step) {
  auto const token = token_ + claim::max_batches_a_claim;
  int const start = std::clamp(step.room, 0, step.jobs);
  try {
    core_.statement();
    if (!work().send_claim(core_.incarnation, {.token = token, .lanes = step.lanes, .jobs = step.jobs, .start = start}))
      return false;
  } catch (Error const&) {
    token_ = token;
    if (!connection_->ok()) in_doubt(token);
    throw;
  }
  token_ = token;
  sent_ = {.step = step, .token = token, .start = start};
  return true;
}

// `run_on`: when there is room for as much again, and probably as much again to be had, the next claim is sent before
// the jobs of this one are looked at, so that the server never waits for us.
void Pump::receive(bool run_on) {
  land(true);
  if (!sent_) return;
  auto const sent = *std::exchange(sent_, std::nullopt);
  auto rows = receive_rows(sent);
  std::exception_ptr failed;
  if (run_on) {
    try {
      if (auto const next = next_of(sent.step, sent.start, rows.rows())) send(*next);
    } catch (Error const&) {
      failed = std::current_exception();
    }
  }
  opened(store::Work::decode_claim(std::move(rows)), sent.step, sent.start);
  if (failed) std::rethrow_exception(failed);
}

pg::Result Pump::receive_rows(Sent const& sent) {
  try {
    return work().receive_claim();
  } catch (Error const&) {
    if (!connection_->ok()) in_doubt(sent.token);
    throw;
  }
}

std::optional<claim::Step> Pump::next_of(claim::Step const& step, int start, int rows) const {
  if (rows < step.jobs || step.lanes.empty() || step.urgent || core_.stop.load() != Stop::no) return std::nullopt;
  // A lane that was quiet has a claim of its own first.
  if (!pacing_.lanes().fresh(Clock::now()).empty()) return std::nullopt;
  auto const now = load();
  int const slots = core_.options.concurrency;
  int const held = now.handed + now.waiting + rows;
  int const jobs = std::min(slots + core_.options.prefetch_buffer - held, pacing_.most());
  if (jobs < claim::fuse_below || held - slots > core_.options.prefetch_buffer / 2) return std::nullopt;
  auto next = step;
  // The first one gave all that was asked for, or nearly: now it is the turn of the next.
  next.lanes = pacing_.lanes().after_turn(next.lanes);
  next.jobs = jobs;
  next.room = std::max(0, pacing_.ahead(Clock::now()) - now.handed - start);
  return next;
}

void Pump::in_doubt(std::int64_t token) {
  doubt_from_ = std::min(doubt_from_.value_or(token), token);
  doubt_until_ = Clock::now() + core_.options.database.statement_timeout + doubt_margin;
}

void Pump::opened(store::Claim&& claim, claim::Step const& step, int start) {
  auto const claimed = std::make_shared<store::Claim>(std::move(claim));
  std::vector<std::int64_t> found;
  int batches = 0;
  for (std::size_t at = 0; at < claimed->jobs.size(); ++at) {
    auto const& job = claimed->jobs[at];
    if (at > 0 && job.token == claimed->jobs[at - 1].token) continue;
    ++batches;
    if (std::find(found.begin(), found.end(), job.lane) == found.end()) found.push_back(job.lane);
    if (!lanes_.contains(job.lane)) unresolved_.push_back(job.lane);
  }
  book_.open(claimed, start, step.urgent);
  urgent_ = step.urgent;
  if (step.urgent && !claimed->jobs.empty()) {
    urgent_jobs_ = static_cast<int>(claimed->jobs.size());
    urgent_lane_ = claimed->jobs.front().lane;
  } else if (!load().urgent) {
    displaced_ = 0;  // what they were given back for does not come
  }
  auto const jobs = static_cast<int>(claimed->jobs.size());
  bool const full = !step.probe && (jobs >= step.jobs || batches >= claim::max_batches_a_claim);
  auto const now = Clock::now();
  pacing_.claimed(step.lanes, found, full, now);
  if (step.probe && jobs > 0) pacing_.probed(step.lanes.front(), now);
  for (auto const& [lane, wait_ms] : claimed->blocked) {
    pacing_.blocked(lane, wait_ms < 0 ? std::nullopt : std::optional(std::chrono::milliseconds(wait_ms)), now);
  }
  core_.counters.claims.fetch_add(1, std::memory_order_relaxed);
  core_.counters.claimed.fetch_add(jobs, std::memory_order_relaxed);
  if (jobs == 0) core_.counters.empty_claims.fetch_add(1, std::memory_order_relaxed);
}

void Pump::settle(std::vector<std::int64_t> const& lost) {
  book_.confirm(lost);
  for (auto token : lost) lost_batch(token);
}

void Pump::lost_batch(std::int64_t token) {
  core_.log.warning("lease lost: results of this batch are dropped", {{"token", std::to_string(token)}});
  core_.counters.lease_lost += book_.take_dropped();
  for (auto const& task : pool_->take_back(token)) book_.ended(task.token, task.position, std::nullopt);
  pool_->request_stop(token);
}

// What is released while somebody wants it cancelled, the server cancels.
void Pump::release(std::int64_t token, int position, std::int64_t id) {
  book_.ended(token, position, store::Move{.token = token, .position = position, .id = id, .outcome = "release"});
}

void Pump::read_cancels() {
  receive(false);
  core_.statement();
  auto const jobs = work().cancels(core_.incarnation);
  cancels_due_ = false;
  not_to_start_.clear();
  if (jobs.empty()) return;
  core_.log.debug("asked to cancel", {{"jobs", std::to_string(jobs.size())}});
  std::vector<execute::Task> tasks;
  pool_->cancel(jobs, tasks, not_to_start_);
  for (auto const& task : tasks) release(task.token, task.position, task.id);
  core_.counters.cancelled += static_cast<std::int64_t>(tasks.size());
}

void Pump::resolve_lanes() {
  receive(false);
  look_up(unresolved_);
  for (auto const lane : unresolved_) lanes_.try_emplace(lane);  // gone meanwhile
  unresolved_.clear();
}

void Pump::reread_turns() {
  receive(false);
  std::vector<std::int64_t> known;
  known.reserve(lanes_.size());
  for (auto const& [lane, info] : lanes_) known.push_back(lane);
  look_up(known);
  next_turns_ = Clock::now() + turns_every;
}

void Pump::look_up(std::vector<std::int64_t> const& lanes) {
  core_.statement();
  for (auto const& info : work().lanes(lanes)) {
    auto const kind = core_.handlers.find(info.kind);
    // Only once: the names of a lane never change, and jobs that run look at these.
    lanes_.try_emplace(info.lane, Lane{.queue = info.queue,
                                       .priority = info.priority,
                                       .kind = kind == core_.handlers.end() ? nullptr : &kind->second});
    auto const group = pacing_.know(
        info.lane,
        {.kind = info.kind, .queue_priority = info.queue_priority, .priority = info.priority, .weight = info.weight});
    book_.know(info.lane, group, info.weight);
  }
}

void Pump::keeper_step(claim::Step const& step) {
  auto* connection = listener_.connection();
  if (connection == nullptr) return pacing_.deaf(Clock::now());
  store::Work session(*connection);
  try {
    core_.statement();
    switch (step.what) {
      case claim::What::keep: {
        int const peers = session.keep(profile_, core_.incarnation);
        if (peers > 0) core_.fleet = peers;
        return pacing_.kept(peers, Clock::now());
      }
      case claim::What::bell: {
        auto const got = session.bell(step.lanes);
        if (!got.empty()) {
          // A transaction of our own after the locks: whoever does not ring is older than it.
          core_.statement();
          fence_ = session.fence();
        }
        return pacing_.belled(step.lanes, got, Clock::now());
      }
      case claim::What::limit_bell:
        session.limit_bell(step.on);
        return pacing_.limit_belled(step.on, Clock::now());
      case claim::What::unbell:
        session.unbell(step.lanes);
        return pacing_.unbelled(step.lanes);
      default:
        return pacing_.fence_checked(session.fence_passed(fence_), Clock::now());
    }
  } catch (Error const& error) {
    deaf(error);
  }
}

}  // namespace posthouse::node
