// SPDX-License-Identifier: Apache-2.0
#include "concurrency/chaos_judge.hpp"

#include <algorithm>
#include <limits>
#include <optional>

#include "concurrency/chaos_features.hpp"

namespace posthouse::test::chaos {
namespace {

constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();
/// Commits that need not be flushed are flushed within three times wal_writer_delay.
constexpr std::int64_t unflushed = 1'000'000;
constexpr int default_attempts = 25;
constexpr int doomed_attempts = 3;  ///< of jobs that always fail

struct Operation {
  std::string how{};
  std::vector<std::int64_t> us{};
  std::string result = "doubt";  ///< ok, rolled_back, refused, duplicate, doubt
  std::vector<std::int64_t> ids{};
};

struct Run {
  std::int64_t u = 0, job = 0, pid = 0;
  std::int64_t start = 0, end = never;
  int attempt = 0;
  std::string token{};
  std::int64_t worker = 0;
  std::string how{};  ///< empty: it never ended
};

class Judge {
 public:
  explicit Judge(Evidence const& evidence) : evidence_(evidence) {}

  Verdict pass() {
    read_history();
    index_engine();
    for (auto const& [op, operation] : operations_) check_operation(op, operation);
    for (auto const& [u, runs] : runs_) {
      if (!owner_.contains(u)) blame(u, "a job from nowhere: nobody enqueued it, and it ran");
    }
    for (auto const& job : evidence_.jobs) {
      if (!owner_.contains(job.u)) blame(job.u, "a job from nowhere: nobody enqueued it, and the engine has it");
    }
    for (auto const& [u, job] : jobs_) check_job(u, *job);
    for (auto const& [worker, seen] : unseen_) {
      count("charged_unseen", seen);
      if (seen > 50)
        violation("incarnation " + std::to_string(worker) + " was charged for " + std::to_string(seen) +
                  " attempts that no handler began");
    }
    return std::move(verdict_);
  }

 private:
  void violation(std::string text) { verdict_.violations.push_back(std::move(text)); }
  void blame(std::int64_t u, std::string const& text) { violation("u=" + std::to_string(u) + ": " + text + story(u)); }
  void count(std::string const& what, std::int64_t n = 1) { verdict_.counts[what] += n; }

  /// Everything that was written down of a job, for whoever reads the failure.
  std::string story(std::int64_t u) const {
    std::string text;
    auto const job = jobs_.find(u);
    if (job != jobs_.end()) {
      text += "; engine: job " + std::to_string(job->second->id) + " " + job->second->state + ", attempt " +
              std::to_string(job->second->attempt);
      for (auto const& error : errors_of(job->second->id)) {
        text += "; error of attempt " + std::to_string(error.attempt) + ": " + error.type + " by " +
                std::to_string(error.worker);
      }
    }
    auto const runs = runs_.find(u);
    if (runs == runs_.end()) return text;
    for (auto const& run : runs->second) {
      text += "\n    attempt " + std::to_string(run.attempt) + " as " + run.token + " in process " +
              std::to_string(run.pid) + ": " + std::to_string(run.start) + " to " +
              (run.end == never ? std::string("the end") : std::to_string(run.end)) + " " + run.how +
              (lost(run.worker) ? " (lease lapsed)" : "");
    }
    return text;
  }

  void read_history() {
    for (auto const& event : evidence_.history) {
      if (event.what == "invoke") {
        Operation operation{.how = event.text("how"), .us = numbers_of(event.text("u"))};
        for (auto const u : operation.us) {
          if (!owner_.emplace(u, event.text("op")).second) blame(u, "the test used this number twice");
        }
        operations_[event.text("op")] = std::move(operation);
        for (auto const u : numbers_of(event.text("doomed"))) doomed_.insert(u);
      } else if (event.what == "ok" || event.what == "rolled_back" || event.what == "refused" ||
                 event.what == "duplicate") {
        auto& operation = operations_[event.text("op")];
        operation.result = event.what;
        operation.ids = numbers_of(event.text("ids"));
      } else if (event.what == "start") {
        Run run{.u = event.number("u"),
                .job = event.number("job"),
                .pid = event.pid,
                .start = event.at,
                .attempt = static_cast<int>(event.number("attempt")),
                .token = event.text("token")};
        run.worker = std::stoll(run.token);
        if (open_.contains(run.token)) blame(run.u, "the fencing token " + run.token + " was handed out twice");
        open_[run.token] = {run.u, runs_[run.u].size()};
        runs_[run.u].push_back(std::move(run));
        count("runs");
      } else if (event.what == "end") {
        auto const it = open_.find(event.text("token"));
        if (it == open_.end()) continue;
        auto& run = runs_[it->second.first][it->second.second];
        run.end = event.at;
        run.how = event.text("how");
        count("ended_" + run.how);
      } else if (event.what == "fault") {
        auto const kind = event.text("kind");
        count("fault_" + kind);
        if (kind == "immediate" || kind == "crash") crashes_.emplace_back(event.number("from"), event.at);
        if (kind == "term" || kind == "term_twice") asked_to_leave_.emplace(event.number("pid"), event.at);
      }
    }
    // Notes of a process are written when it gets to it; what counts here is the order of the beginnings.
    for (auto& [u, runs] : runs_) {
      std::stable_sort(runs.begin(), runs.end(), [](Run const& a, Run const& b) { return a.start < b.start; });
    }
  }

  void index_engine() {
    std::map<std::int64_t, std::int64_t> by_id;
    for (auto const& job : evidence_.jobs) {
      count("jobs");
      if (!by_id.emplace(job.id, job.u).second) blame(job.u, "the engine has job " + std::to_string(job.id) + " twice");
      if (!jobs_.emplace(job.u, &job).second) blame(job.u, "the engine has it as two jobs");
    }
    for (auto const& error : evidence_.errors) errors_.emplace(error.job, error);
    for (auto const& effect : evidence_.effects) effects_[effect.u].push_back(&effect);
    for (auto const& [worker, reason] : evidence_.ends) {
      if (lost(worker)) count("lost_incarnations");
    }
  }

  [[nodiscard]] bool lost(std::int64_t worker) const {
    auto const it = evidence_.ends.find(worker);
    return it != evidence_.ends.end() && it->second != "stopped";
  }
  [[nodiscard]] bool crashed_between(std::int64_t from, std::int64_t to) const {
    return std::any_of(crashes_.begin(), crashes_.end(),
                       [&](auto const& crash) { return crash.second >= from - unflushed && crash.first <= to; });
  }
  [[nodiscard]] bool asked_to_leave(Run const& run, std::int64_t before) const {
    auto const it = asked_to_leave_.find(run.pid);
    return it != asked_to_leave_.end() && it->second <= before;
  }
  [[nodiscard]] std::vector<EngineError> errors_of(std::int64_t job) const {
    std::vector<EngineError> result;
    for (auto [it, end] = errors_.equal_range(job); it != end; ++it) result.push_back(it->second);
    std::sort(result.begin(), result.end(), [](auto const& a, auto const& b) { return a.attempt < b.attempt; });
    return result;
  }

  void check_operation(std::string const& op, Operation const& operation) {
    count(operation.result == "ok" ? "acknowledged" : operation.result, static_cast<std::int64_t>(operation.us.size()));
    if (operation.result == "ok") {
      if (operation.ids.size() != operation.us.size()) violation("operation " + op + ": not as many ids as jobs");
      for (std::size_t i = 0; i < operation.us.size() && i < operation.ids.size(); ++i) {
        auto const job = jobs_.find(operation.us[i]);
        if (job == jobs_.end()) {
          blame(operation.us[i], "acknowledged and lost");
        } else if (job->second->id != operation.ids[i]) {
          blame(operation.us[i], "acknowledged as job " + std::to_string(operation.ids[i]) + " and is another one");
        }
      }
      return;
    }
    bool const gone =
        operation.result == "rolled_back" || operation.result == "refused" || operation.result == "duplicate";
    bool const with_orders = operation.how == "transaction" || operation.how == "savepoint";
    std::size_t there = 0;
    for (auto const u : operation.us) {
      bool const exists = jobs_.contains(u);
      there += exists ? 1 : 0;
      if (gone && (exists || runs_.contains(u) || effects_.contains(u)))
        blame(u, operation.result + ", and yet it is there");
      if (!gone && with_orders && exists != evidence_.orders.contains(u)) {
        blame(u, "its order and its job were one transaction, and only one of them is there");
      }
      if (!gone && !exists && runs_.contains(u)) blame(u, "it ran, and the engine does not know it");
    }
    if (!gone && there != 0 && there != operation.us.size()) violation("operation " + op + ": enqueued in part");
    if (!gone) count("doubt_resolved_as_committed", static_cast<std::int64_t>(there));
  }

  void check_job(std::int64_t u, EngineJob const& job) {
    auto const it = runs_.find(u);
    static std::vector<Run> const none;
    auto const& runs = it == runs_.end() ? none : it->second;
    for (auto const& run : runs) {
      if (run.job != job.id) blame(u, "ran as job " + std::to_string(run.job) + " too");
      if (run.attempt < 1 || run.attempt > job.attempt)
        blame(u, "attempt " + std::to_string(run.attempt) + " is beyond the last one");
    }
    check_effects(u, job, runs);
    check_attempts(u, job, runs);
    check_order(u, runs);
    if (job.state == "succeeded") {
      count("succeeded");
      bool const accepted = std::any_of(runs.begin(), runs.end(), [&](Run const& run) {
        return run.attempt == job.attempt && (run.how == "done" || wrote(u, run, "tx"));
      });
      if (doomed_.contains(u)) blame(u, "succeeded, though its handler always fails");
      if (!accepted) blame(u, "succeeded, though no run of its last attempt did what it should");
    } else if (job.state == "failed") {
      count("failed");
      bool const discarded = std::any_of(runs.begin(), runs.end(), [&](Run const& run) {
        return run.attempt == job.attempt && run.how == "discarded";
      });
      int const most = doomed_.contains(u) ? doomed_attempts : default_attempts;
      if (!discarded && job.attempt != most)
        blame(u, "failed for good after " + std::to_string(job.attempt) + " attempts");
    } else {
      blame(u, "did not end");
    }
  }
  bool wrote(std::int64_t u, Run const& run, std::string const& how) const {
    auto const it = effects_.find(u);
    if (it == effects_.end()) return false;
    return std::any_of(it->second.begin(), it->second.end(),
                       [&](Effect const* effect) { return effect->token == run.token && effect->how == how; });
  }

  void check_effects(std::int64_t u, EngineJob const& job, std::vector<Run> const& runs) {
    auto const it = effects_.find(u);
    int transactional = 0;
    if (it != effects_.end()) {
      for (auto const* effect : it->second) {
        bool const known =
            std::any_of(runs.begin(), runs.end(), [&](Run const& run) { return run.token == effect->token; });
        if (!known) blame(u, "an effect by " + effect->token + ", which no handler was given");
        if (effect->how == "tx") ++transactional;
        if (effect->how == "tx" && effect->attempt != job.attempt)
          blame(u, "completed by an attempt that was not the last");
      }
    }
    bool const ledger =
        std::any_of(runs.begin(), runs.end(),
                    [](Run const& run) { return run.how == "completed" || run.how == "lost" || run.how == "doubt"; }) ||
        transactional > 0;
    if (!ledger) return;
    count("transactional_effects", transactional);
    if (transactional > 1) blame(u, "its transactional effect is there " + std::to_string(transactional) + " times");
    if (job.state == "succeeded" && transactional == 0) blame(u, "succeeded without its transactional effect");
    if (job.state == "failed" && transactional > 0) blame(u, "failed, and its transactional effect is there");
    for (auto const& run : runs) {
      if (run.how == "completed" && !wrote(u, run, "tx"))
        blame(u, "its commit was acknowledged, and its effect is gone");
      if (run.how == "lost" && wrote(u, run, "tx")) blame(u, "told that its lease is lost, and its effect is there");
    }
  }

  void check_attempts(std::int64_t u, EngineJob const& job, std::vector<Run> const& runs) {
    // Every attempt that was used up has exactly one reason.
    int const used = job.state == "succeeded" ? job.attempt - 1 : job.attempt;
    auto const errors = errors_of(job.id);
    if (static_cast<int>(errors.size()) != used) {
      blame(u, std::to_string(used) + " attempts used up for " + std::to_string(errors.size()) + " reasons");
    }
    for (int i = 0; i < static_cast<int>(errors.size()); ++i) {
      auto const& error = errors[static_cast<std::size_t>(i)];
      if (error.attempt != i + 1) blame(u, "attempts are not counted 1, 2, 3");
      auto const same = [&](Run const& run) { return run.attempt == error.attempt && run.worker == error.worker; };
      auto const failed = [&](Run const& run) {
        return same(run) && (run.how == "failed" || run.how == "discarded" || run.how == "doubt");
      };
      if (error.type == "worker lost") {
        count("crashes_counted");
        if (!lost(error.worker)) blame(u, "an attempt was charged to a worker that was not lost");
        if (std::none_of(runs.begin(), runs.end(), same)) ++unseen_[error.worker];
      } else if (std::none_of(runs.begin(), runs.end(), failed)) {
        blame(u, "attempt " + std::to_string(error.attempt) + " was used up, and no handler failed");
      }
    }
    // An attempt is handed out again only when the one before was not counted, and for a reason.
    std::map<int, std::vector<Run const*>> by_attempt;
    for (auto const& run : runs) by_attempt[run.attempt].push_back(&run);
    for (auto const& [attempt, same] : by_attempt) {
      for (std::size_t i = 0; i + 1 < same.size(); ++i) {
        auto const& run = *same[i];
        auto const& next = *same[i + 1];
        if (run.how == "snoozed") {
          count("snoozed");
        } else if (run.how != "done" && run.how != "completed" && asked_to_leave(run, next.start)) {
          count("released_running");
        } else if (lost(run.worker)) {
          // More may have been running than it had slots, so none was charged: docs/decisions/0023.
          count("uncharged_crashes");
        } else if (crashed_between(run.start, next.start)) {
          count("vanished_claims");
        } else {
          blame(u, "attempt " + std::to_string(attempt) + " was handed out again without a reason");
        }
      }
    }
  }

  void check_order(std::int64_t u, std::vector<Run> const& runs) {
    if (runs.size() > 1) count("rerun_jobs");
    for (std::size_t i = 0; i < runs.size(); ++i) {
      for (std::size_t j = i + 1; j < runs.size(); ++j) {
        auto const& first = runs[i];
        auto const& second = runs[j];
        bool const explained = lost(first.worker) || lost(second.worker) || crashed_between(first.start, second.start);
        if (second.start < first.end && !explained) blame(u, "two handlers had it at once");
        if (first.end > second.start) continue;
        if (first.how == "done") {
          count("duplicate_executions");
          if (!explained) blame(u, "ran again after it was done, without a reason");
        }
        // A worker that slept through its lease may begin what it claimed before; it must not get further.
        if (first.how == "completed" && !lost(second.worker)) blame(u, "ran again after its completion was committed");
      }
    }
  }

  Evidence const& evidence_;
  Verdict verdict_{};
  std::map<std::string, Operation> operations_{};
  std::map<std::int64_t, std::string> owner_{};
  std::set<std::int64_t> doomed_{};
  std::map<std::int64_t, std::vector<Run>> runs_{};
  std::map<std::string, std::pair<std::int64_t, std::size_t>> open_{};
  std::vector<std::pair<std::int64_t, std::int64_t>> crashes_{};
  std::map<std::int64_t, std::int64_t> asked_to_leave_{};
  std::map<std::int64_t, EngineJob const*> jobs_{};
  std::multimap<std::int64_t, EngineError> errors_{};
  std::map<std::int64_t, std::vector<Effect const*>> effects_{};
  std::map<std::int64_t, std::int64_t> unseen_{};
};

}  // namespace

std::string Verdict::summary() const {
  std::string text;
  for (auto const& [what, n] : counts) text += (text.empty() ? "" : " ") + what + "=" + std::to_string(n);
  return text;
}

Verdict judge(Evidence const& evidence) {
  auto verdict = Judge(evidence).pass();
  for (auto& text : judge_features(evidence, verdict.counts)) verdict.violations.push_back(std::move(text));
  return verdict;
}

}  // namespace posthouse::test::chaos
