// SPDX-License-Identifier: Apache-2.0
#include "cli/explain.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "cli/print.hpp"
#include "core/duration.hpp"
#include "core/time_format.hpp"

namespace posthouse::cli {
namespace {

std::string until(std::string const& time) {
  auto const left = std::chrono::floor<std::chrono::milliseconds>(core::parse_time("run_at", time) -
                                                                  std::chrono::system_clock::now());
  if (left.count() <= 0) return "now due";
  return "in " + length_of(left.count());
}

/// Time since then, by this machine's clock; never negative.
std::string since(std::string const& time) {
  auto const passed =
      std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now() - core::parse_time("time", time));
  return length_of(std::max<std::int64_t>(0, passed.count()));
}

/// In a sentence.
std::string paused_since(std::optional<std::string> const& paused_at) {
  return paused_at ? fmt::format("paused since {}, for {}", *paused_at, since(*paused_at)) : std::string("paused");
}

/// The limit that holds it back, if one does.
void explain_limit(store::LimitOn const& limit, Around const& around, std::vector<std::string>& said) {
  auto const what =
      limit.scope == "all" ? std::string("of all jobs") : fmt::format("of the {} {}", limit.scope, limit.name);
  if (limit.held_until) {
    said.push_back(fmt::format(
        "A handler was told to come back later: no job {} is started before {}, {}; `posthouse limits reset {}{}` ends "
        "that.",
        what, *limit.held_until, until(*limit.held_until), limit.scope, limit.name.empty() ? "" : " " + limit.name));
  }
  if (limit.concurrency && limit.running >= *limit.concurrency) {
    std::string holders;
    for (auto const& holder : limit.holders) {
      auto const worker = std::find_if(around.workers.begin(), around.workers.end(),
                                       [&](auto const& w) { return std::to_string(w.id) == holder.worker; });
      holders += fmt::format("{}job {} on worker {}{} for {}", holders.empty() ? "" : ", ", holder.job, holder.worker,
                             worker == around.workers.end() ? "" : " (" + worker->name + ")", since(holder.since));
    }
    if (limit.running > static_cast<std::int64_t>(limit.holders.size())) holders += " and others";
    said.push_back(fmt::format("The limit {} is full: {} of {} run, held by {}.", what, limit.running,
                               *limit.concurrency, holders));
  }
  if (limit.free_at) {
    said.push_back(fmt::format("The rate {}, {} a second, is used up: the next job may start at {}, {}.", what,
                               *limit.per_second, *limit.free_at, until(*limit.free_at)));
  }
}

std::string name_of(std::int64_t id, std::vector<store::WorkerInfo> const& workers) {
  auto const found = std::find_if(workers.begin(), workers.end(), [&](auto const& w) { return w.id == id; });
  if (found == workers.end()) return fmt::format("worker {}", id);
  return fmt::format("worker {} ({}, last seen {} ago)", id, found->name,
                     core::format_duration(std::chrono::milliseconds(found->silent_ms)));
}

/// Whether the key of an available job is what it waits for.
bool explain_key(Around const& around, std::vector<std::string>& said) {
  if (!around.key) return false;
  auto const& key = *around.key;
  auto const name =
      key.key.empty() ? fmt::format("The kind {}, which is serialized,", key.kind) : fmt::format("Its key {}", key.key);
  if (key.paused) {
    said.push_back(fmt::format("{} is {}; `posthouse keys resume {} {}` resumes it.", name, paused_since(key.paused_at),
                               key.kind, key.key));
  }
  if (key.held_until) {
    said.push_back(fmt::format(
        "{}: a handler was told to come back later; no job of it is started before {}, {}; `posthouse keys resume {} "
        "{}` ends that.",
        name, *key.held_until, until(*key.held_until), key.kind, key.key));
  } else if (key.free_at && key.per_second) {
    said.push_back(fmt::format("{}: its rate, {} a second, is used up: the next job may start at {}, {}.", name,
                               *key.per_second, *key.free_at, until(*key.free_at)));
  }
  for (auto const& holder : around.key_holders) {
    if (holder.state == "running" && holder.worker) {
      said.push_back(
          fmt::format("{} is held by job {} on {}.", name, holder.id, name_of(*holder.worker, around.workers)));
    } else {
      said.push_back(fmt::format("{} is held by job {}, which is {}.", name, holder.id, holder.state));
    }
  }
  if (key.holders.size() > around.key_holders.size()) {
    said.push_back(fmt::format("{} is held by {} jobs in all.", name, key.holders.size()));
  }
  bool const full = key.limit && static_cast<std::int64_t>(key.holders.size()) >= *key.limit;
  if (full) said.push_back(fmt::format("{} lets {} run at once.", name, count_of(*key.limit, "job")));
  if (key.parked > 0) {
    said.push_back(fmt::format("{} of the key {} before it.", count_of(key.parked, "parked job"),
                               key.parked == 1 ? "goes" : "go"));
  }
  return key.paused || key.free_at || full || key.parked > 0;
}

/// What stops an available job: nobody who would take it, or others before it.
void explain_available(JobInfo const& job, Around const& around, std::vector<std::string>& said) {
  auto const queue = std::find_if(around.queues.begin(), around.queues.end(),
                                  [&](auto const& q) { return q.queue == job.queue && q.paused; });
  if (queue != around.queues.end()) {
    said.push_back(fmt::format("The queue {} is {}; `posthouse queues resume {}` resumes it.", job.queue,
                               paused_since(queue->paused_at), job.queue));
  }
  auto const kind = std::find_if(around.kinds.begin(), around.kinds.end(),
                                 [&](auto const& k) { return k.kind == job.kind && k.paused; });
  if (kind != around.kinds.end()) {
    said.push_back(fmt::format("The kind {} is {}; `posthouse kinds resume {}` resumes it.", job.kind,
                               paused_since(kind->paused_at), job.kind));
  }
  for (auto const& limit : around.limits) explain_limit(limit, around, said);
  bool const by_key = explain_key(around, said);
  int live = 0;
  int for_kind = 0;
  int for_both = 0;
  int free = 0;
  for (auto const& worker : around.workers) {
    if (!is_alive(worker)) continue;
    ++live;
    if (!lists(worker.kinds, job.kind)) continue;
    ++for_kind;
    if (!worker.queues.empty() && !lists(worker.queues, job.queue)) continue;
    ++for_both;
    free += worker.free;
  }
  if (live == 0) {
    said.emplace_back("No worker is alive; `posthouse work` starts one.");
  } else if (for_kind == 0) {
    said.push_back(fmt::format("None of the {} live workers has a handler for the kind {}.", live, job.kind));
  } else if (for_both == 0) {
    said.push_back(
        fmt::format("No live worker with a handler for the kind {} works the queue {}.", job.kind, job.queue));
  } else if (said.empty()) {
    said.push_back(free == 0
                       ? fmt::format("All slots of the {} workers that would take it are busy.", for_both)
                       : std::string("It waits for its turn: jobs of higher priority or enqueued before go first."));
  }
  auto const waiting = "It has been waiting for " + since(job.run_at.value_or(job.enqueued_at));
  if (by_key) {
    said.push_back(waiting + ".");
  } else if (around.ahead == 0) {
    said.push_back(waiting + "; it is the next one of its queue, kind and priority.");
  } else {
    said.push_back(fmt::format("{}; {}{} of its queue, kind and priority {} before it.", waiting,
                               around.ahead >= most_ahead ? "at least " : "", count_of(around.ahead, "job"),
                               around.ahead == 1 ? "goes" : "go"));
  }
}

void explain_blocked(JobInfo const& job, Around const& around, std::vector<std::string>& said) {
  said.push_back(fmt::format("It waits for {} that {} not ended.", count_of(std::ssize(job.waits_for), "job"),
                             job.waits_for.size() == 1 ? "has" : "have"));
  for (auto const& parent : around.parents) {
    said.push_back(fmt::format("Job {} ({}) is {}.", parent.id, parent.kind, parent.state));
  }
  said.push_back(fmt::format("`posthouse jobs retry {}` runs it without waiting.", job.id));
}

}  // namespace

bool is_alive(store::WorkerInfo const& worker) {
  return !worker.ended_at && (worker.lease_ms == 0 || worker.silent_ms <= worker.lease_ms);
}

std::string worker_state(store::WorkerInfo const& worker) {
  if (worker.ended_at) return worker.end_reason == "lease lapsed" ? "lost" : "ended";
  if (!is_alive(worker)) return "lost";
  return worker.lease_ms > 0 && worker.silent_ms > worker.lease_ms * 2 / 3 ? "late" : "alive";
}

std::vector<std::string> names_in(std::string_view names) {
  std::vector<std::string> list;
  while (!names.empty()) {
    auto const comma = names.find(',');
    list.emplace_back(names.substr(0, comma));
    names = comma == std::string_view::npos ? std::string_view{} : names.substr(comma + 1);
  }
  return list;
}

bool lists(std::string_view names, std::string_view name) {
  auto const list = names_in(names);
  return std::find(list.begin(), list.end(), name) != list.end();
}

std::string length_of(std::int64_t ms) {
  return core::format_duration(std::chrono::milliseconds(ms > 10'000 ? ms / 1000 * 1000 : ms));
}

std::string paused_text(bool paused, std::optional<std::string> const& paused_at) {
  if (!paused) return {};
  return paused_at ? "paused for " + since(*paused_at) : std::string("paused");
}

std::string ago(std::optional<std::int64_t> ms) {
  return ms ? length_of(std::max<std::int64_t>(0, *ms)) + " ago" : std::string();
}

std::vector<std::string> explain(JobInfo const& job, Around const& around) {
  std::vector<std::string> said;
  if (job.state == "available") {
    explain_available(job, around, said);
  } else if (job.state == "blocked") {
    explain_blocked(job, around, said);
  } else if (job.state == "scheduled") {
    said.push_back("It is not due yet: it is to run at a time that is " + until(job.run_at.value_or(job.enqueued_at)) +
                   ".");
  } else if (job.state == "retryable") {
    said.push_back(fmt::format("Attempt {} of {} failed; the next one is {}.", job.attempt, job.max_attempts,
                               until(job.run_at.value_or(job.enqueued_at))));
    if (job.last_error) said.push_back("The last error: " + *job.last_error);
  } else if (job.state == "running") {
    said.push_back("It is held by " + (job.worker ? name_of(*job.worker, around.workers) : std::string("a worker")) +
                   (job.started_at ? " since " + since(*job.started_at) + "." : "."));
  } else if (job.state == "failed") {
    said.push_back(fmt::format("It failed for good after {}; `posthouse jobs retry {}` tries again.",
                               count_of(job.attempt, "attempt"), job.id));
  } else if (job.state == "cancelled") {
    // Its last word says why only when it was not cancelled by hand.
    bool const by_parent = !job.depends_on.empty() && job.last_error && *job.last_error != "cancelled";
    said.push_back(fmt::format("It was cancelled{}; `posthouse jobs retry {}` brings it back.",
                               by_parent ? ": " + *job.last_error : "", job.id));
  } else if (job.state == "expired") {
    said.push_back(fmt::format("It was not started before {}; `posthouse jobs retry {}` brings it back.",
                               job.expires_at.value_or("its time"), job.id));
  }
  return said;
}

}  // namespace posthouse::cli
