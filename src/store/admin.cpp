// SPDX-License-Identifier: Apache-2.0
// What operators and producers ask about jobs, lanes and workers.
#include "store/admin.hpp"

#include "core/refuse.hpp"
#include "core/text.hpp"
#include "store/admin_sql.hpp"
#include "store/depends.hpp"

namespace posthouse::store {
namespace {

/// The bytes behind lower-case hex.
std::string unhex(std::string_view hex) {
  auto const digit = [](char c) { return static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10); };
  std::string bytes;
  bytes.reserve(hex.size() / 2);
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes += static_cast<char>(static_cast<unsigned char>(digit(hex[i]) << 4U | digit(hex[i + 1])));
  }
  return bytes;
}

std::optional<std::int64_t> maybe_int8(pg::Result const& rows, int row, int column) {
  if (rows.is_null(row, column)) return std::nullopt;
  return rows.int8(row, column);
}

/// A row of job_columns().
JobInfo job_info(pg::Result const& rows, int row) {
  JobInfo job;
  job.id = rows.int8(row, 0);
  job.kind = rows.text(row, 1);
  job.queue = rows.text(row, 2);
  job.priority = static_cast<int>(rows.int8(row, 3));
  job.state = rows.text(row, 4);
  job.attempt = static_cast<int>(rows.int8(row, 5));
  job.max_attempts = static_cast<int>(rows.int8(row, 6));
  job.enqueued_at = rows.text(row, 7);
  job.run_at = rows.maybe(row, 8);
  job.started_at = rows.maybe(row, 9);
  job.finished_at = rows.maybe(row, 10);
  job.worker = maybe_int8(rows, row, 11);
  if (!rows.is_null(row, 12)) {
    job.payload = Payload(json(rows.text(row, 12)));
  } else if (!rows.is_null(row, 13)) {
    job.payload = Payload(bytes(unhex(rows.field(row, 13))));
  }
  if (!rows.is_null(row, 14)) job.headers = rows.text(row, 14);
  job.last_error = rows.maybe(row, 15);
  job.dedupe_key = rows.maybe(row, 16);
  job.expires_at = rows.maybe(row, 17);
  job.depends_on = numbers_in(rows.text(row, 18));
  job.waits_for = numbers_in(rows.text(row, 19));
  job.key = rows.maybe(row, 20);
  return job;
}

}  // namespace

std::optional<JobInfo> Admin::find(std::int64_t id) {
  pg::Result const rows = connection_.query("select " + job_columns() + " from " + schema() + "jobs j where j.id = $1",
                                            pg::Params().int8(id));
  if (rows.rows() == 0) return std::nullopt;
  return job_info(rows, 0);
}

std::vector<AttemptError> Admin::errors(std::int64_t id) {
  pg::Result const rows =
      connection_.query("select attempt, type, message, stack, " + rfc3339("at") + ", worker from " + schema() +
                            "attempt_error where job = $1 order by attempt, at",
                        pg::Params().int8(id));
  std::vector<AttemptError> errors;
  for (int row = 0; row < rows.rows(); ++row) {
    errors.push_back({static_cast<int>(rows.int8(row, 0)), rows.text(row, 1), rows.text(row, 2), rows.text(row, 3),
                      rows.text(row, 4), maybe_int8(rows, row, 5)});
  }
  return errors;
}

std::vector<JobInfo> Admin::list(JobFilter const& filter) {
  core::check_range("limit", filter.limit, 1, 10'000);
  std::string const source = filter.state ? candidates_sql(schema(), *filter.state) : candidates_sql(schema());
  if (source.empty()) {
    core::refuse("state", *filter.state,
                 "scheduled, blocked, available, running, retryable, succeeded, failed, cancelled, expired",
                 "leave it out for all");
  }
  // Candidates come cheaply, by id; the view, which costs more a row, then tells their states. Only where the
  // candidates are wider than what is asked for does a page come back short, and the next one is asked for.
  std::vector<JobInfo> jobs;
  auto const state = filter.state == "dead" ? std::nullopt : filter.state;
  std::optional<std::int64_t> before = filter.before;
  for (;;) {
    pg::Params params;
    params.text(filter.kind).text(filter.queue);
    if (before) {
      params.int8(*before);
    } else {
      params.null();
    }
    params.int8(filter.limit);
    pg::Result const ids = connection_.query(source, params);
    if (ids.rows() == 0) break;
    std::vector<std::int64_t> page;
    for (int row = 0; row < ids.rows(); ++row) page.push_back(ids.int8(row, 0));
    pg::Result const rows = connection_.query("select " + job_columns() + " from " + schema() +
                                                  "jobs j where j.id = any($1) and ($2::text is null or j.state = $2) "
                                                  "order by j.id desc",
                                              pg::Params().int8_array(page).text(state));
    for (int row = 0; row < rows.rows() && jobs.size() < static_cast<std::size_t>(filter.limit); ++row) {
      jobs.push_back(job_info(rows, row));
    }
    if (jobs.size() >= static_cast<std::size_t>(filter.limit) || ids.rows() < filter.limit) break;
    before = page.back();
  }
  return jobs;
}

std::vector<Count> Admin::counts() {
  pg::Result const rows = connection_.query("select queue, kind, state, jobs from " + schema() + "counts()");
  std::vector<Count> counts;
  for (int row = 0; row < rows.rows(); ++row) {
    counts.push_back({rows.text(row, 0), rows.text(row, 1), rows.text(row, 2), rows.int8(row, 3)});
  }
  return counts;
}

std::vector<LaneInfo> Admin::lanes() {
  pg::Result const rows = connection_.query("select lane, queue, kind, priority, express from " + schema() +
                                            "lane order by queue, kind, priority desc, express desc");
  std::vector<LaneInfo> lanes;
  for (int row = 0; row < rows.rows(); ++row) {
    lanes.push_back({rows.int8(row, 0), rows.text(row, 1), rows.text(row, 2), static_cast<int>(rows.int8(row, 3)),
                     rows.field(row, 4) == "t"});
  }
  return lanes;
}

std::vector<QueueInfo> Admin::queues() {
  pg::Result const rows = connection_.query("select queue, priority, paused, " + rfc3339("paused_at") + " from " +
                                            schema() + "queue order by queue");
  std::vector<QueueInfo> queues;
  for (int row = 0; row < rows.rows(); ++row) {
    queues.push_back(
        {rows.text(row, 0), static_cast<int>(rows.int8(row, 1)), rows.field(row, 2) == "t", rows.maybe(row, 3)});
  }
  return queues;
}

std::vector<WorkerInfo> Admin::workers(bool ended) {
  pg::Result const rows = connection_.query(workers_sql(schema()), pg::Params().boolean(ended));
  std::vector<WorkerInfo> workers;
  for (int row = 0; row < rows.rows(); ++row) {
    WorkerInfo worker;
    worker.id = rows.int8(row, 0);
    worker.name = rows.text(row, 1);
    worker.host = rows.text(row, 2);
    worker.pid = rows.int8(row, 3);
    worker.version = rows.text(row, 4);
    worker.queues = rows.text(row, 5);
    worker.kinds = rows.text(row, 6);
    worker.slots = static_cast<int>(rows.int8(row, 7));
    worker.lease_ms = rows.int8(row, 8);
    worker.started_at = rows.text(row, 9);
    worker.ended_at = rows.maybe(row, 10);
    worker.end_reason = rows.maybe(row, 11);
    worker.last_seen_at = rows.text(row, 12);
    worker.silent_ms = rows.is_null(row, 13) ? 0 : rows.int8(row, 13);
    worker.free = rows.is_null(row, 14) ? 0 : static_cast<int>(rows.int8(row, 14));
    worker.running = rows.is_null(row, 15) ? 0 : static_cast<int>(rows.int8(row, 15));
    worker.leader = rows.field(row, 16) == "t";
    worker.rss_bytes = maybe_int8(rows, row, 17);
    worker.cpu_ms = maybe_int8(rows, row, 18);
    worker.children = maybe_int8(rows, row, 19);
    workers.push_back(std::move(worker));
  }
  return workers;
}

void Admin::ping(std::vector<std::int64_t> const& workers) {
  connection_.query("select " + schema() + "ping_workers($1)", pg::Params().int8_array(workers));
}

std::string Admin::cancel(std::int64_t id) {
  return connection_.query("select " + schema() + "cancel($1)", pg::Params().int8(id)).text(0, 0);
}

bool Admin::retry(std::int64_t id) {
  return connection_.query("select " + schema() + "retry($1)", pg::Params().int8(id)).field(0, 0) == "t";
}

bool Admin::remove(std::int64_t id) {
  return connection_.query("select " + schema() + "delete_job($1)", pg::Params().int8(id)).field(0, 0) == "t";
}

}  // namespace posthouse::store
