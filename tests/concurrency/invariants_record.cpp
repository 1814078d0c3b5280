// SPDX-License-Identifier: Apache-2.0
#include "concurrency/invariants_record.hpp"

#include <algorithm>
#include <chrono>
#include <limits>

namespace posthouse::test {

namespace {

using Hold = Record::Hold;
using Holds = std::vector<Hold const*>;
constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();

std::int64_t until(Hold const& hold) { return hold.end == Record::End::open ? never : hold.let_go; }
bool overlap(Hold const& a, Hold const& b) { return a.got < until(b) && b.got < until(a); }
std::string text(Hold const& hold) {
  return "job " + std::to_string(hold.id) + " (worker " + std::to_string(hold.worker) + ", token " +
         std::to_string(hold.token) + ")";
}

// I8, and I9: each claim says how many attempts were used up before, and after its success there is none.
void judge_job(Holds const& holds, std::vector<std::string>& wrong) {
  int used = 0;
  for (std::size_t i = 0; i < holds.size(); ++i) {
    if (holds[i]->attempt != used)
      wrong.push_back(text(*holds[i]) + ": claimed with " + std::to_string(holds[i]->attempt) + " attempts used, not " +
                      std::to_string(used));
    if (i > 0 && holds[i - 1]->end == Record::End::succeeded) wrong.push_back(text(*holds[i]) + ": after its success");
    for (std::size_t j = 0; j < i; ++j)
      if (overlap(*holds[i], *holds[j])) wrong.push_back(text(*holds[i]) + ": held by two at once");
    used += holds[i]->end == Record::End::retried || holds[i]->end == Record::End::lost;
  }
}

// I10: of a key one at once, in order.
void judge_order(Holds const& holds, std::vector<std::string>& wrong) {
  for (auto const* a : holds) {
    for (auto const* b : holds) {
      if (a->id >= b->id) continue;
      if (overlap(*a, *b)) wrong.push_back(text(*b) + ": beside job " + std::to_string(a->id) + " of its key");
      if (b->got < a->asked) wrong.push_back(text(*b) + ": before job " + std::to_string(a->id) + " of its key");
    }
  }
}

// I11: of a kind that is limited so many at once.
void judge_limit(Holds const& holds, int limit, std::vector<std::string>& wrong) {
  for (auto const* a : holds) {
    auto const at_once = std::count_if(holds.begin(), holds.end(),
                                       [&](Hold const* b) { return b->got <= a->got && a->got < until(*b); });
    if (at_once > limit) wrong.push_back(text(*a) + ": " + std::to_string(at_once) + " at once");
  }
}

// I11: whatever the interval, no more starts in it than the bucket gave out.
void judge_rate(Holds const& holds, double rate, double burst, std::vector<std::string>& wrong) {
  for (auto const* first : holds) {
    for (auto const* last : holds) {
      if (last->asked < first->asked) continue;
      auto const starts = std::count_if(holds.begin(), holds.end(), [&](Hold const* hold) {
        return hold->asked >= first->asked && hold->got <= last->got;
      });
      if (static_cast<double>(starts) > burst + rate * static_cast<double>(last->got - first->asked) / 1e6 + 0.5)
        wrong.push_back(text(*first) + ": " + std::to_string(starts) + " starts of its key in " +
                        std::to_string(last->got - first->asked) + " us");
    }
  }
}

// I12: the next job of a dedupe key is made when the one before has ended.
void judge_unique(Holds const& holds, std::vector<std::string>& wrong) {
  for (auto const* a : holds)
    for (auto const* b : holds)
      if (a->id < b->id && b->got < until(*a))
        wrong.push_back(text(*b) + ": job " + std::to_string(a->id) + " of its dedupe key is unfinished");
}

}  // namespace

std::int64_t Record::now() {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void Record::claimed(std::int64_t worker, std::int64_t asked, std::int64_t got, std::vector<Claimed> const& jobs) {
  std::lock_guard const lock(mutex_);
  for (auto const& job : jobs)
    holds_.push_back({worker, job.token, job.lane, job.id, job.attempt, asked, got, 0, End::open});
}

void Record::ended(std::int64_t worker, std::int64_t token, std::int64_t id, End end, std::int64_t sent) {
  std::lock_guard const lock(mutex_);
  for (auto& hold : holds_) {
    if (hold.worker != worker || hold.token != token || hold.id != id) continue;
    hold.end = end;
    hold.let_go = sent;
  }
}

void Record::lost(std::int64_t worker, std::int64_t at) {
  std::lock_guard const lock(mutex_);
  for (auto& hold : holds_) {
    if (hold.worker != worker || hold.end != End::open) continue;
    hold.end = End::lost;
    hold.let_go = at;
  }
}

void Record::enqueued(std::int64_t id, std::string const& key) {
  std::lock_guard const lock(mutex_);
  keys_.emplace(id, key);
}

std::vector<std::string> Record::judge(Rules const& rules) const {
  std::lock_guard const lock(mutex_);
  std::vector<std::string> wrong;
  std::map<std::int64_t, Holds> jobs;
  std::map<std::string, std::map<std::string, Holds>> of_key;
  Holds limited;
  for (auto const& hold : holds_) {
    jobs[hold.id].push_back(&hold);
    auto const kind = rules.kinds.find(hold.lane);
    if (kind == rules.kinds.end()) {
      wrong.push_back(text(hold) + ": of no lane");
      continue;
    }
    if (kind->second == "limited") limited.push_back(&hold);
    if (auto const key = keys_.find(hold.id); key != keys_.end()) of_key[kind->second][key->second].push_back(&hold);
  }
  for (auto& [id, holds] : jobs) {
    std::sort(holds.begin(), holds.end(), [](Hold const* a, Hold const* b) { return a->got < b->got; });
    judge_job(holds, wrong);
  }
  judge_limit(limited, rules.limit, wrong);
  for (auto const& [key, holds] : of_key["keyed"]) judge_order(holds, wrong);
  for (auto const& [key, holds] : of_key["rated"]) judge_rate(holds, rules.rate, rules.burst, wrong);
  for (auto const& [key, holds] : of_key["unique"]) judge_unique(holds, wrong);
  if (wrong.size() > 20) wrong.resize(20);
  return wrong;
}

std::set<Record::Member> Record::members() const {
  std::lock_guard const lock(mutex_);
  std::set<Member> all;
  for (auto const& hold : holds_) all.emplace(hold.worker, hold.token, hold.id);
  return all;
}

std::map<std::int64_t, int> Record::succeeded() const {
  std::lock_guard const lock(mutex_);
  std::map<std::int64_t, int> all;
  for (auto const& hold : holds_)
    if (hold.end == End::succeeded) all.emplace(hold.id, hold.attempt + 1);
  return all;
}

}  // namespace posthouse::test
