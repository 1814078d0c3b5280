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

bool lists(std::string_view names, std::string_view name) {
  while (!names.empty()) {
    auto const comma = names.find(',');
    auto part = names.substr(0, comma);
    while (part.starts_with(' ')) part.remove_prefix(1);
    if (part == name) return true;
    names = comma == std::string_view::npos ? std::string_view{} : names.substr(comma + 1);
  }
  return false;
}

std::string until(std::string const& time) {
  auto const left = std::chrono::floor<std::chrono::milliseconds>(core::parse_time("run_at", time) -
                                                                  std::chrono::system_clock::now());
  if (left.count() <= 0) return "now due";
  auto const shown = left > std::chrono::seconds(10) ? std::chrono::floor<std::chrono::seconds>(left) : left;
  return "in " + core::format_duration(shown);
}

/// What stops an available job: nobody who would take it, or others before it.
void explain_available(JobInfo const& job, std::vector<store::WorkerInfo> const& workers,
                       std::vector<store::QueueInfo> const& queues, std::vector<std::string>& said) {
  auto const queue = std::find_if(queues.begin(), queues.end(), [&](auto const& q) { return q.queue == job.queue; });
  if (queue != queues.end() && queue->paused) {
    said.push_back(
        fmt::format("The queue {} is paused; `select posthouse.resume_queue('{}')` resumes it.", job.queue, job.queue));
  }
  int live = 0;
  int for_kind = 0;
  int for_both = 0;
  int free = 0;
  for (auto const& worker : workers) {
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
}

std::string name_of(std::int64_t id, std::vector<store::WorkerInfo> const& workers) {
  auto const found = std::find_if(workers.begin(), workers.end(), [&](auto const& w) { return w.id == id; });
  if (found == workers.end()) return fmt::format("worker {}", id);
  return fmt::format("worker {} ({}, last seen {} ago)", id, found->name,
                     core::format_duration(std::chrono::milliseconds(found->silent_ms)));
}

}  // namespace

bool is_alive(store::WorkerInfo const& worker) {
  return !worker.ended_at && (worker.lease_ms == 0 || worker.silent_ms <= worker.lease_ms);
}

std::vector<std::string> explain(JobInfo const& job, std::vector<store::WorkerInfo> const& workers,
                                 std::vector<store::QueueInfo> const& queues) {
  std::vector<std::string> said;
  if (job.state == "available") {
    explain_available(job, workers, queues, said);
  } else if (job.state == "scheduled") {
    said.push_back("It is to run at a time that is " + until(job.run_at.value_or(job.enqueued_at)) + ".");
  } else if (job.state == "retryable") {
    said.push_back(fmt::format("Attempt {} failed; the next one is {}.", job.attempt,
                               until(job.run_at.value_or(job.enqueued_at))));
  } else if (job.state == "running") {
    said.push_back("It is held by " + (job.worker ? name_of(*job.worker, workers) : std::string("a worker")) + ".");
  } else if (job.state == "failed") {
    said.push_back(fmt::format("It failed for good after {}; `posthouse jobs retry {}` tries again.",
                               count_of(job.attempt, "attempt"), job.id));
  } else if (job.state == "cancelled") {
    said.push_back(fmt::format("It was cancelled; `posthouse jobs retry {}` brings it back.", job.id));
  } else if (job.state == "expired") {
    said.push_back(fmt::format("It was not started before {}; `posthouse jobs retry {}` brings it back.",
                               job.expires_at.value_or("its time"), job.id));
  }
  return said;
}

}  // namespace posthouse::cli
