// SPDX-License-Identifier: Apache-2.0
// See batch_book.hpp.
#include "complete/batch_book.hpp"

#include <algorithm>
#include <iterator>

namespace posthouse::complete {

void BatchBook::open(std::shared_ptr<store::Claim const> const& claim, int start, bool urgent) {
  auto const& jobs = claim->jobs;
  std::deque<std::int64_t> fresh;
  for (std::size_t from = 0; from < jobs.size();) {
    auto const token = jobs[from].token;
    std::size_t to = from;
    while (to < jobs.size() && jobs[to].token == token) ++to;

    Batch batch;
    batch.claim = claim;
    batch.first = &jobs[from];
    batch.members = static_cast<int>(to - from);
    batch.size = jobs[to - 1].position + 1;
    batch.started = std::min(std::max(start, 0), batch.size);
    batch.acked.assign(static_cast<std::size_t>(batch.size), '0');
    if (batch.members < batch.size) {
      // A member whose row is not there any more cannot be run: it counts as ended.
      batch.acked.assign(static_cast<std::size_t>(batch.size), '1');
      for (auto at = from; at < to; ++at) batch.acked[static_cast<std::size_t>(jobs[at].position)] = '0';
      batch.ended = batch.size - batch.members;
      batch.reported = batch.ended;
    }
    start -= batch.size;
    waiting_ += batch.members;
    startable_ += may_start(batch);
    fresh.push_back(token);
    batches_.insert_or_assign(token, std::move(batch));
    from = to;
  }
  order_.insert(urgent ? order_.begin() : order_.end(), fresh.begin(), fresh.end());
  recent_ = {0, nullptr};
}

void BatchBook::know(std::int64_t lane, std::size_t group, int weight) {
  turns_[lane] = {.group = group, .weight = weight};
}

void BatchBook::next_lane() {
  given_in_turn_ = 0;
  auto const lane_of = [this](std::int64_t token) {
    auto const* batch = find(token);
    return batch == nullptr ? std::nullopt : std::optional(batch->first->lane);
  };
  if (order_.empty()) return;
  auto const lane = lane_of(order_.front());
  auto const other = [&](std::int64_t token) { return lane_of(token) != lane; };
  if (std::none_of(order_.begin(), order_.end(), other)) return;
  std::stable_partition(order_.begin(), order_.end(), other);
  auto const turn = lane ? turns_.find(*lane) : turns_.end();
  if (turn == turns_.end()) return;
  auto const of_others = [&](std::int64_t token) {
    auto const id = lane_of(token);
    auto const one = id ? turns_.find(*id) : turns_.end();
    return one == turns_.end() || one->second.group != turn->second.group;
  };
  if (std::any_of(order_.begin(), order_.end(), of_others)) {
    std::stable_partition(order_.begin(), order_.end(), of_others);
  }
}

store::ClaimedJob const* BatchBook::next() {
  if (startable_ == 0) return nullptr;
  if (given_in_turn_ >= turn_) next_lane();
  for (std::size_t at = 0; at < order_.size();) {
    auto* batch = find(order_[at]);
    if (batch == nullptr || batch->lost || batch->next == batch->members) {
      order_.erase(order_.begin() + static_cast<std::ptrdiff_t>(at));
      continue;
    }
    auto const& job = batch->first[batch->next];
    if (job.position < batch->started) {
      if (given_in_turn_++ == 0) {
        auto const turn = turns_.find(job.lane);
        turn_ = jobs_a_turn * (turn == turns_.end() ? 1 : turn->second.weight);
      }
      ++batch->next;
      ++batch->handed;
      ++handed_;
      --waiting_;
      --startable_;
      return &job;
    }
    ++at;
  }
  return nullptr;
}

bool BatchBook::ended(std::int64_t token, int position, std::optional<store::Move> move,
                      std::optional<store::JobResult> result) {
  if (!abandoned_.empty() && abandoned_.erase({token, position}) > 0) {
    --handed_;
    return false;
  }
  auto* batch = find(token);
  if (batch == nullptr) return false;
  --handed_;
  --batch->handed;
  if (batch->lost) {
    if (batch->handed == 0) {
      batches_.erase(token);
      recent_ = {0, nullptr};
    }
    return false;
  }
  end(token, *batch, position);
  if (move) moves_.push_back(std::move(*move));
  if (result) results_.push_back(std::move(*result));
  return true;
}

bool BatchBook::abandoned(std::int64_t token, int position, store::Move move) {
  auto* batch = find(token);
  if (batch == nullptr || batch->lost) return false;
  --batch->handed;  // but it is counted in handed_ until its handler has ended
  abandoned_.emplace(token, position);
  end(token, *batch, position);
  moves_.push_back(std::move(move));
  return true;
}

std::size_t BatchBook::release_unstarted() {
  std::size_t released = 0;
  for (auto& [token, batch] : batches_) {
    if (batch.lost) continue;
    startable_ -= may_start(batch);
    for (; batch.next < batch.members; ++batch.next, ++released) {
      auto const& job = batch.first[batch.next];
      moves_.push_back({.token = token, .position = job.position, .id = job.id, .outcome = "release"});
      end(token, batch, job.position);
      --waiting_;
    }
  }
  order_.clear();
  return released;
}

std::size_t BatchBook::release_last(std::size_t most, std::function<bool(std::int64_t lane)> const& which) {
  std::size_t released = 0;
  for (auto it = order_.rbegin(); it != order_.rend() && released < most; ++it) {
    auto const token = *it;
    auto* batch = find(token);
    if (batch == nullptr || batch->lost || !which(batch->first->lane)) continue;
    startable_ -= may_start(*batch);
    for (; released < most && batch->members > batch->next; ++released) {
      auto const& job = batch->first[--batch->members];
      moves_.push_back({.token = token, .position = job.position, .id = job.id, .outcome = "release"});
      end(token, *batch, job.position);
      --waiting_;
    }
    startable_ += may_start(*batch);
  }
  return released;
}

Flush BatchBook::prepare(int raise, int& raised) {
  raised = 0;
  for (auto token : order_) {
    if (raise <= 0) break;
    auto* batch = find(token);
    if (batch == nullptr || batch->lost || batch->started >= batch->size) continue;
    int const more = std::min(raise, batch->size - batch->started);
    batch->raised = batch->started + more;
    raise -= more;
    raised += more;
    mark(token, *batch);
  }

  auto const later = take_results();
  Flush flush;
  flush.acks.reserve(dirty_.size());
  for (auto token : dirty_) {
    auto* batch = find(token);
    if (batch == nullptr || batch->lost) continue;
    batch->dirty = false;
    auto const held = later.find(token);
    batch->sent = batch->ended - (held == later.end() ? 0 : static_cast<int>(held->second.size()));
    batch->closing = batch->sent == batch->size;
    store::BatchAck ack{.token = token, .acked = std::nullopt, .started = std::max(batch->started, batch->raised)};
    if (!batch->closing) ack.acked = batch->acked;
    if (held != later.end()) {
      for (int const position : held->second) (*ack.acked)[static_cast<std::size_t>(position)] = '0';
    }
    flush.acks.push_back(std::move(ack));
    sent_.push_back(token);
  }
  dirty_.clear();
  for (auto const& [token, positions] : later) {
    if (auto* batch = find(token)) mark(token, *batch);
  }
  sent_moves_ = std::move(moves_);
  moves_.clear();
  flush.moves = sent_moves_;
  flush.results = sent_results_;
  return flush;
}

void BatchBook::confirm(std::span<std::int64_t const> lost) {
  sent_moves_.clear();
  sent_results_.clear();
  for (auto token : sent_) {
    auto const it = batches_.find(token);
    if (it == batches_.end() || it->second.lost) continue;
    auto& batch = it->second;
    if (std::find(lost.begin(), lost.end(), token) != lost.end()) {
      lose(it);
    } else if (batch.closing) {
      batches_.erase(it);
      recent_ = {0, nullptr};
    } else {
      batch.reported = batch.sent;
      if (batch.raised <= batch.started) continue;
      startable_ -= may_start(batch);
      batch.started = batch.raised;
      startable_ += may_start(batch);
    }
  }
  sent_.clear();
}

void BatchBook::not_confirmed(bool in_doubt) {
  moves_.insert(moves_.begin(), std::make_move_iterator(sent_moves_.begin()),
                std::make_move_iterator(sent_moves_.end()));
  sent_moves_.clear();
  results_.insert(results_.begin(), std::make_move_iterator(sent_results_.begin()),
                  std::make_move_iterator(sent_results_.end()));
  sent_results_.clear();
  for (auto token : sent_) {
    auto* batch = find(token);
    if (batch == nullptr || batch->lost) continue;
    batch->in_doubt = batch->in_doubt || (in_doubt && batch->closing);
    batch->closing = false;
    batch->raised = 0;
    mark(token, *batch);
  }
  sent_.clear();
}

BatchBook::Differences BatchBook::reconcile(std::span<std::int64_t const> open) {
  Differences differences;
  for (auto token : open) {
    if (!batches_.contains(token)) differences.unknown.push_back(token);
  }
  for (auto it = batches_.begin(); it != batches_.end();) {
    auto const here = it++;
    auto& [token, batch] = *here;
    if (batch.lost || std::find(open.begin(), open.end(), token) != open.end()) continue;
    if (batch.in_doubt) {
      forget(token);
      batches_.erase(here);
      recent_ = {0, nullptr};
    } else {
      differences.lost.push_back(token);
      lose(here);
    }
  }
  return differences;
}

void BatchBook::lose_all() {
  for (auto it = batches_.begin(); it != batches_.end();) {
    auto const here = it++;
    if (!here->second.lost) lose(here);
  }
  moves_.clear();
  sent_moves_.clear();
  results_.clear();
  sent_results_.clear();
  sent_.clear();
  dirty_.clear();
  order_.clear();
}

std::optional<std::int64_t> BatchBook::lowest() const {
  for (auto const& [token, batch] : batches_) {
    if (!batch.lost) return token;
  }
  return std::nullopt;
}

BatchBook::Batch* BatchBook::find(std::int64_t token) {
  if (recent_.second != nullptr && recent_.first == token) return recent_.second;
  auto const it = batches_.find(token);
  if (it == batches_.end()) return nullptr;
  recent_ = {token, &it->second};
  return recent_.second;
}

void BatchBook::mark(std::int64_t token, Batch& batch) {
  if (batch.dirty) return;
  batch.dirty = true;
  dirty_.push_back(token);
}

void BatchBook::end(std::int64_t token, Batch& batch, int position) {
  auto& bit = batch.acked[static_cast<std::size_t>(position)];
  if (bit == '1') return;
  bit = '1';
  ++batch.ended;
  mark(token, batch);
}

void BatchBook::lose(Batches::iterator it) {
  auto& [token, batch] = *it;
  waiting_ -= batch.members - batch.next;
  startable_ -= may_start(batch);
  batch.next = batch.members;
  batch.lost = true;
  dropped_ += batch.ended - batch.reported;
  forget(token);
  if (batch.handed == 0) {
    batches_.erase(it);
    recent_ = {0, nullptr};
  }
}

void BatchBook::forget(std::int64_t token) {
  std::erase_if(moves_, [token](store::Move const& move) { return move.token == token; });
  std::erase_if(results_, [token](store::JobResult const& result) { return result.token == token; });
}

// Moves as many results as one statement should carry to sent_results_. Returns the positions of the others by token:
// their members end with a later statement, since a result goes with its member's ack or never.
std::map<std::int64_t, std::vector<int>> BatchBook::take_results() {
  std::size_t bytes = 0;
  while (!results_.empty()) {
    bytes += results_.front().data.size();
    if (!sent_results_.empty() && bytes > result_bytes_a_flush) break;
    sent_results_.push_back(std::move(results_.front()));
    results_.pop_front();
  }
  std::map<std::int64_t, std::vector<int>> later;
  for (auto const& result : results_) later[result.token].push_back(result.position);
  return later;
}

int BatchBook::may_start(Batch const& batch) const noexcept {
  int count = 0;
  // Positions have gaps only when rows were missing, so this is one step in nearly every case.
  int at = std::min(batch.members, batch.started);
  if (batch.members == batch.size) return std::max(0, at - batch.next);
  for (at = batch.next; at < batch.members && batch.first[at].position < batch.started; ++at) ++count;
  return count;
}

}  // namespace posthouse::complete
