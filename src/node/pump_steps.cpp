// SPDX-License-Identifier: Apache-2.0
// The statements of the worker's loop. See pump.hpp.
#include <algorithm>
#include <set>
#include <utility>

#include "node/pump.hpp"

namespace posthouse::node {

void Pump::perform(claim::Step const& step) {
  using claim::What;
  switch (step.what) {
    case What::finish:
      return finish(step.room);
    case What::claim:
      return claim(step);
    case What::look: {
      core_.statement();
      auto const lanes = work().look(core_.incarnation);
      return pacing_.looked(lanes, Clock::now());
    }
    case What::survey: {
      core_.statement();
      auto const lanes = work().eligible(core_.incarnation);
      return pacing_.surveyed(lanes, Clock::now());
    }
    case What::hand_on:
      core_.statement();
      work().wake_one(core_.incarnation);
      return pacing_.handed_on(Clock::now());
    case What::keep:
    case What::bell:
    case What::unbell:
    case What::check_fence:
      return keeper_step(step);
    case What::wait:
      return;
  }
}

void Pump::finish(int room) {
  int raised = 0;
  auto const flush = book_.prepare(room, raised);
  if (flush.empty()) return;
  auto const sent = Clock::now();
  try {
    core_.statement();
    settle(work().finish(core_.incarnation, flush.acks, flush.moves));
  } catch (Error const&) {
    book_.not_confirmed(!connection_->ok());
    throw;
  }
  auto const now = Clock::now();
  pacing_.flushed(now, now - sent);
}

void Pump::claim(claim::Step const& step) {
  int raised = 0;
  complete::Flush flush;
  if (step.flush) flush = book_.prepare(step.room, raised);
  token_ += claim::max_batches_a_claim;
  store::ClaimRequest const request{
      .token = token_, .lanes = step.lanes, .jobs = step.jobs, .start = std::clamp(step.room - raised, 0, step.jobs)};
  auto const sent = Clock::now();
  std::shared_ptr<store::Claim> claimed;
  try {
    core_.statement();
    claimed = std::make_shared<store::Claim>(
        flush.empty() ? work().claim(core_.incarnation, request)
                      : work().finish_and_claim(core_.incarnation, flush.acks, flush.moves, request));
  } catch (Error const&) {
    bool const in_doubt = !connection_->ok();
    if (in_doubt) {
      doubt_from_ = std::min(doubt_from_.value_or(token_), token_);
      doubt_until_ = Clock::now() + core_.options.database.statement_timeout + doubt_margin;
    }
    if (!flush.empty()) book_.not_confirmed(in_doubt);
    throw;
  }
  auto const now = Clock::now();
  if (!flush.empty()) {
    settle(claimed->lost);
    pacing_.flushed(now, now - sent);
  }

  std::vector<std::int64_t> found;
  int batches = 0;
  for (std::size_t at = 0; at < claimed->jobs.size(); ++at) {
    auto const& job = claimed->jobs[at];
    if (at > 0 && job.token == claimed->jobs[at - 1].token) continue;
    ++batches;
    if (std::find(found.begin(), found.end(), job.lane) == found.end()) found.push_back(job.lane);
    if (!lanes_.contains(job.lane)) unresolved_.push_back(job.lane);
  }
  book_.open(claimed, request.start, step.urgent);
  urgent_ = step.urgent;
  auto const jobs = static_cast<int>(claimed->jobs.size());
  bool const full = jobs >= step.jobs || batches >= claim::max_batches_a_claim;
  pacing_.claimed(step.lanes, found, full, now);
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

void Pump::resolve_lanes() {
  core_.statement();
  for (auto const& info : work().lanes(unresolved_)) {
    auto const kind = core_.handlers.find(info.kind);
    lanes_[info.lane] = {
        .queue = info.queue, .priority = info.priority, .kind = kind == core_.handlers.end() ? nullptr : &kind->second};
  }
  unresolved_.clear();
}

void Pump::keeper_step(claim::Step const& step) {
  auto* connection = listener_.connection();
  if (connection == nullptr) return pacing_.deaf(Clock::now());
  store::Work session(*connection);
  try {
    core_.statement();
    switch (step.what) {
      case claim::What::keep:
        return pacing_.kept(session.keep(profile_), Clock::now());
      case claim::What::bell: {
        auto const got = session.bell(step.lanes);
        if (!got.empty()) {
          // A transaction of our own after the locks: whoever does not ring is older than it.
          core_.statement();
          fence_ = session.fence();
        }
        return pacing_.belled(step.lanes, got, Clock::now());
      }
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
