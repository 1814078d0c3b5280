// SPDX-License-Identifier: Apache-2.0
#include "concurrency/chaos_features.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <optional>

#include "core/time_format.hpp"

namespace posthouse::test::chaos {
namespace {

constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();

struct Wanted {
  std::int64_t u = 0;
  std::string key{}, dedupe{};
  std::int64_t invoked = 0;
  std::int64_t ok = never;  ///< when the client was told that it is committed
};

struct Run {
  std::int64_t u = 0, pid = 0, worker = 0;
  std::string kind{}, token{}, how{}, hash{};
  int attempt = 0;
  std::int64_t start = 0, end = never;
};

class Features {
 public:
  Features(Evidence const& evidence, std::map<std::string, std::int64_t>& counts)
      : evidence_(evidence), counts_(counts) {}

  std::vector<std::string> pass() {
    read();
    std::vector<Run const*> limited;
    std::map<std::string, std::vector<Run const*>> keyed;
    for (auto const& run : runs_) {
      auto const wanted = wanted_.find(run.u);
      if (!certain(run)) continue;
      if (run.kind == "limited") limited.push_back(&run);
      if (wanted != wanted_.end() && !wanted->second.key.empty()) keyed[wanted->second.key].push_back(&run);
    }
    check_at_once(limited, limited_at_once, "the limit of its kind");
    for (auto const& [key, runs] : keyed) check_at_once(runs, 1, "the key " + key);
    check_order();
    check_unique();
    check_ticks();
    check_results();
    return std::move(wrong_);
  }

 private:
  void blame(std::string text) { wrong_.push_back(std::move(text)); }

  void read() {
    std::map<std::string, std::vector<std::int64_t>> operations;
    std::map<std::string, std::size_t> open;
    for (auto const& event : evidence_.history) {
      if (event.what == "invoke") {
        auto const us = numbers_of(event.text("u"));
        for (auto const u : us) wanted_[u] = {u, event.text("key"), event.text("dedupe"), event.at, never};
        operations[event.text("op")] = us;
      } else if (event.what == "ok") {
        for (auto const u : operations[event.text("op")]) wanted_[u].ok = event.at;
      } else if (event.what == "duplicate") {
        counts_["duplicates"] += 1;
      } else if (event.what == "start") {
        open[event.text("token")] = runs_.size();
        runs_.push_back({.u = event.number("u"),
                         .pid = event.pid,
                         .worker = std::stoll(event.text("token")),
                         .kind = event.text("kind"),
                         .token = event.text("token"),
                         .attempt = static_cast<int>(event.number("attempt")),
                         .start = event.at});
        counts_["started_" + event.text("kind")] += 1;
        auto const first = first_start_.try_emplace(runs_.back().u, event.at).first;
        first->second = std::min(first->second, event.at);
      } else if (event.what == "end" || event.what == "result") {
        auto const it = open.find(event.text("token"));
        if (it == open.end()) continue;
        auto& run = runs_[it->second];
        if (event.what == "result") {
          run.hash = event.text("sha256");
        } else {
          run.end = event.at;
          run.how = event.text("how");
        }
      } else if (event.what == "tick") {
        ticks_[event.text("tick")][event.number("job")] += 1;
      } else if (event.what == "fault" && (event.text("kind") == "term" || event.text("kind") == "term_twice")) {
        asked_to_leave_.emplace(event.number("pid"), event.at);
      }
    }
  }

  [[nodiscard]] bool certain(Run const& run) const {
    auto const end = evidence_.ends.find(run.worker);
    if (run.end == never || end == evidence_.ends.end() || end->second != "stopped") return false;
    auto const asked = asked_to_leave_.find(run.pid);
    return asked == asked_to_leave_.end() || asked->second > run.end;
  }

  /// I10, I11
  void check_at_once(std::vector<Run const*> const& runs, int most, std::string const& of) {
    std::string const name = most == 1 ? "keyed" : "limited";
    counts_[name + "_runs"] += std::ssize(runs);
    for (auto const* run : runs) {
      auto const at_once = std::count_if(runs.begin(), runs.end(), [&](Run const* other) {
        return other->start <= run->start && run->start < other->end;
      });
      counts_[name + "_side_by_side"] += at_once > 1 ? 1 : 0;
      if (at_once > most)
        blame("u=" + std::to_string(run->u) + ": " + std::to_string(at_once) + " at once, " + of + " allows " +
              std::to_string(most) + "; as " + run->token + " at " + std::to_string(run->start));
    }
  }

  /// I10: whose commit was known before the other was sent, goes first.
  void check_order() {
    std::map<std::string, std::vector<Wanted const*>> of_key;
    for (auto const& [u, wanted] : wanted_)
      if (!wanted.key.empty() && first_start_.contains(u)) of_key[wanted.key].push_back(&wanted);
    for (auto const& [key, all] : of_key) {
      for (auto const* a : all)
        for (auto const* b : all)
          if (a->ok < b->invoked && first_start_.at(b->u) < first_start_.at(a->u))
            blame("u=" + std::to_string(b->u) + ": started before u=" + std::to_string(a->u) + " of its key " + key);
    }
  }

  /// I12: a job was surely unfinished from its commit to its first start.
  void check_unique() {
    std::map<std::string, std::vector<Wanted const*>> of_key;
    for (auto const& [u, wanted] : wanted_)
      if (!wanted.dedupe.empty() && wanted.ok != never) of_key[wanted.dedupe].push_back(&wanted);
    for (auto const& [key, all] : of_key) {
      counts_["unique_jobs"] += std::ssize(all);
      for (auto const* a : all) {
        auto const first = first_start_.find(a->u);
        for (auto const* b : all)
          if (a->ok < b->invoked && first != first_start_.end() && b->ok < first->second)
            blame("u=" + std::to_string(b->u) + ": made while u=" + std::to_string(a->u) + " of the dedupe key " + key +
                  " was unfinished");
      }
    }
  }

  /// I13: every tick of the schedule, a second apart, as one job, which ran and succeeded.
  void check_ticks() {
    using std::chrono::duration_cast;
    using std::chrono::microseconds;
    counts_["ticks"] += std::ssize(ticks_);
    std::optional<std::int64_t> before;
    for (auto const& [tick, jobs] : ticks_) {
      if (jobs.size() > 1) blame("the tick " + tick + " ran as " + std::to_string(jobs.size()) + " jobs");
      for (auto const& [job, times] : jobs) {
        auto const known = evidence_.ticked.find(job);
        if (known == evidence_.ticked.end() || known->second.tick != tick)
          blame("the tick " + tick + " ran as job " + std::to_string(job) + ", which the engine has not for it");
      }
      auto const at = duration_cast<microseconds>(core::parse_time("tick", tick).time_since_epoch()).count();
      if (before && at - *before != 1'000'000)
        blame("between two ticks before " + tick + " are " + std::to_string(at - *before) + " us");
      before = at;
    }
    for (auto const& [job, fired] : evidence_.ticked) {
      if (fired.state != "succeeded") blame("the tick " + fired.tick + " is " + fired.state);
      if (!ticks_.contains(fired.tick)) blame("the tick " + fired.tick + " never ran");
    }
    if (!evidence_.last_tick.empty() && !ticks_.contains(evidence_.last_tick))
      blame("the last tick, " + evidence_.last_tick + ", never ran");
  }

  /// I14: a success has the result of the run that was accepted, to the byte.
  void check_results() {
    std::map<std::int64_t, std::vector<Run const*>> runs;
    for (auto const& run : runs_) runs[run.u].push_back(&run);
    std::map<std::string, bool> completed;  // tokens
    for (auto const& effect : evidence_.effects)
      if (effect.how == "tx") completed[effect.token] = true;
    for (auto const& job : evidence_.jobs) {
      if (job.state != "succeeded") continue;
      bool const in_transaction = std::any_of(runs[job.u].begin(), runs[job.u].end(),
                                              [&](Run const* run) { return completed.contains(run->token); });
      std::vector<std::string> allowed;
      for (auto const* run : runs[job.u]) {
        if (run->hash.empty()) continue;
        if (in_transaction ? completed.contains(run->token) : run->attempt == job.attempt && run->how == "done")
          allowed.push_back(run->hash);
      }
      if (allowed.empty()) continue;  // of a test whose handlers bring back nothing
      counts_["results"] += 1;
      auto const stored = evidence_.results.find(job.id);
      if (stored == evidence_.results.end())
        blame("u=" + std::to_string(job.u) + ": succeeded, and its result is gone");
      else if (std::find(allowed.begin(), allowed.end(), stored->second) == allowed.end())
        blame("u=" + std::to_string(job.u) + ": its result is not that of the run that succeeded: " + stored->second +
              ", not " + allowed.front());
    }
  }

  Evidence const& evidence_;
  std::map<std::string, std::int64_t>& counts_;
  std::vector<std::string> wrong_{};
  std::map<std::int64_t, Wanted> wanted_{};
  std::vector<Run> runs_{};
  std::map<std::int64_t, std::int64_t> first_start_{};
  std::map<std::string, std::map<std::int64_t, int>> ticks_{};
  std::map<std::int64_t, std::int64_t> asked_to_leave_{};
};

}  // namespace

std::vector<std::string> judge_features(Evidence const& evidence, std::map<std::string, std::int64_t>& counts) {
  return Features(evidence, counts).pass();
}

}  // namespace posthouse::test::chaos
