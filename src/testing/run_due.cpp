// SPDX-License-Identifier: Apache-2.0
// Due jobs run inside the transaction that enqueued them.
//
// A claim never sees them: the transaction is in no snapshot, its own included. So they are taken from the tables
// directly, which is safe for rows that nobody else can see (the log's) or that we have locked (deferred).
#include <posthouse/testing.hpp>

#include <map>
#include <set>

#include <posthouse/error.hpp>

#include "core/backoff.hpp"
#include "core/headers_json.hpp"
#include "core/names.hpp"
#include "testing/rows.hpp"

namespace posthouse::testing {
namespace {

using Values = std::vector<std::optional<std::string>>;

struct Due {
  std::int64_t id = 0;
  bool in_log = false;  ///< else deferred
  JobOptions job{};
};

class Runner {
 public:
  Runner(Transaction const& transaction, std::vector<InlineHandler> const& handlers, RunDueOptions const& options)
      : executor_(transaction.executor()), options_(options), prefix_(schema_prefix(options.schema)) {
    std::string kinds;
    for (auto const& handler : handlers) {
      core::check_kind(handler.kind());
      if (!handlers_.emplace(handler.kind(), &handler).second) {
        throw InvalidArgument("run_due has two handlers for the kind '" + handler.kind() + "'");
      }
      kinds += (kinds.empty() ? "" : ",") + handler.kind();  // no character of a kind's name needs quotes
    }
    kinds_ = "{" + kinds + "}";
  }

  std::vector<RunResult> run() {
    // Outside of a transaction each statement has an id of its own.
    std::string const ask = "select pg_current_xact_id()";
    if (executor_.query(ask, {}).at(0).at(0) != executor_.query(ask, {}).at(0).at(0)) {
      throw InvalidArgument("run_due needs an open transaction",
                            {.hint = "begin one first, and roll it back afterwards"});
    }
    std::vector<RunResult> results;
    expire();
    while (auto due = next()) {
      if (static_cast<int>(results.size()) >= options_.limit) {
        throw InvalidArgument("run_due has run " + std::to_string(options_.limit) + " jobs and more are due",
                              {.hint = "does a handler enqueue its own kind? Else raise the option limit"});
      }
      seen_.insert(due->id);
      if (!due->in_log && !lock(due->id)) continue;  // a worker's promotion is moving it
      results.push_back(run_one(*due));
      expire();  // a handler may have taken long, or enqueued more
    }
    return results;
  }

 private:
  /// Ends what is not to be started any more, as the leader and claims do. What somebody else has locked is theirs.
  void expire() {
    std::string const late = " and " + prefix_ + "is_expired(q.options, " + prefix_ +
                             "utc_text(clock_timestamp() + $2::bigint * interval '1 millisecond'))";
    std::string const columns =
        "lane, 'expired', clock_timestamp(), coalesce((options ->> 'enqueued_at')::timestamptz, queued_at), attempt, " +
        prefix_ + "end_reason('expired'), payload, payload_bytes, headers, options";
    executor_.query("with lanes as (select lane from " + prefix_ +
                        "lane where kind = any($1::text[]) union select lane from " + prefix_ +
                        "lane_seen where kind = any($1::text[])),"
                        " new as (delete from " +
                        prefix_ +
                        "job q where q.lane in (select l.lane from lanes l) and q.txid = pg_current_xact_id()" + late +
                        " returning q.*),"
                        " old as (delete from " +
                        prefix_ + "deferred d where d.id in (select q.id from " + prefix_ +
                        "deferred q where q.lane in (select l.lane from lanes l)" + late +
                        " for update skip locked) returning d.*)"
                        " insert into " +
                        prefix_ +
                        "dead (id, lane, state, ended_at, queued_at, attempt, reason, payload, payload_bytes, headers,"
                        " options) select id, " +
                        columns + " from new union all select id, " + columns + " from old",
                    {kinds_, std::to_string(options_.ahead.count())});
  }

  /// True for a job that no worker would be given: its queue, kind or key is paused or held. Of `due`.
  [[nodiscard]] std::string stopped() const {
    std::string const later = " > clock_timestamp() + $2::bigint * interval '1 millisecond'";
    return "(exists (select from " + prefix_ +
           "queue q where q.queue = due.queue and q.paused) or exists (select from " + prefix_ +
           "kind k where k.kind = due.kind and k.paused) or exists (select from " + prefix_ +
           "limit_rule r where r.name = due.kind and r.scope = 'kind' and r.held_until" + later +
           ") or exists (select from " + prefix_ +
           "key_rule r where r.kind = due.kind and r.key = due.options ->> 'key' and r.paused) or exists (select "
           "from " +
           prefix_ + "key_hold h where h.kind = due.kind and h.key = due.options ->> 'key' and h.until" + later + "))";
  }

  std::optional<Due> next() {
    auto const rows = executor_.query(
        "with names as (select lane, queue, kind, priority from " + prefix_ +
            "lane where kind = any($1::text[])"
            " union select lane, queue, kind, priority from " +
            prefix_ +
            "lane_seen where kind = any($1::text[])),"
            " due as (select j.id, true as in_log, n.kind, n.queue, n.priority, j.attempt, j.payload, j.payload_bytes, "
            "j.headers,"
            " j.options from names n join " +
            prefix_ +
            "job j on j.lane = n.lane where j.txid = pg_current_xact_id()"
            " union all select d.id, false, n.kind, n.queue, n.priority, d.attempt, d.payload, d.payload_bytes, "
            "d.headers,"
            " d.options from names n join " +
            prefix_ +
            "deferred d on d.lane = n.lane"
            " where d.due_at <= clock_timestamp() + $2::bigint * interval '1 millisecond')"
            " select id, in_log, kind, queue, priority, attempt, payload::text, encode(payload_bytes, 'hex'), "
            "headers::text,"
            " options ->> 'max_attempts', options ->> 'timeout_ms' from due where not id = any($3::bigint[]) and not " +
            stopped() + " order by priority desc, id limit 1",
        {kinds_, std::to_string(options_.ahead.count()), bigint_array(seen_)});
    if (rows.empty()) return std::nullopt;
    auto const& row = rows[0];
    Due due;
    due.id = due.job.id = std::stoll(row[0].value());
    due.in_log = row[1] == "t";
    due.job.kind = row[2].value();
    due.job.queue = row[3].value();
    due.job.priority = std::stoi(row[4].value());
    due.job.attempt = std::stoll(row[5].value()) + 1;
    due.job.payload = payload_from(row[6], row[7]);
    due.job.headers = core::headers_from_json(row[8].value_or(""));
    if (row[9]) due.job.max_attempts = std::stoll(*row[9]);
    if (row[10]) due.job.timeout = std::chrono::milliseconds(std::stoll(*row[10]));
    return due;
  }

  bool lock(std::int64_t id) {
    return !executor_
                .query("select id from " + prefix_ + "deferred where id = $1 for update skip locked",
                       {std::to_string(id)})
                .empty();
  }

  RunResult run_one(Due const& due) {
    executor_.query("savepoint posthouse_run_due", {});
    auto outcome = (*handlers_.at(due.job.kind))(TestJob(due.job));
    if (std::holds_alternative<Failure>(outcome)) executor_.query("rollback to savepoint posthouse_run_due", {});
    executor_.query("release savepoint posthouse_run_due", {});
    record(due, outcome);
    return {due.id, due.job.kind, due.job.attempt, std::move(outcome)};
  }

  void record(Due const& due, Outcome const& outcome) {
    if (std::holds_alternative<Success>(outcome)) {
      executor_.query("delete from " + source(due), {std::to_string(due.id)});
      executor_.query("select " + prefix_ + "release_children(array[$1::bigint], true)", {std::to_string(due.id)});
      return;
    }
    if (auto const* snooze = std::get_if<Snooze>(&outcome)) return defer(due, "scheduled", 0, snooze->delay.count());
    std::string type;
    std::string message;
    std::int64_t delay = -1;
    if (auto const* failure = std::get_if<Failure>(&outcome)) {
      type = failure->type;
      message = failure->message;
      delay = core::delay_ms(Backoff{}, due.job.attempt, 0.5);
    } else if (auto const* later = std::get_if<RetryAfter>(&outcome)) {
      type = "RetryAfter";
      message = later->reason;
      delay = later->delay.count();
      if (later->hold_kind && delay > 0) hold(due, delay);
    } else if (auto const* discard = std::get_if<Discard>(&outcome)) {
      type = "Discard";
      message = discard->reason;
    }
    executor_.query("insert into " + prefix_ +
                        "attempt_error (job, attempt, at, type, message)"
                        " values ($1::bigint, $2::int, clock_timestamp(), $3, $4)",
                    {std::to_string(due.id), std::to_string(due.job.attempt), type, message});
    if (delay >= 0 && due.job.attempt < due.job.max_attempts) return defer(due, "retryable", 1, delay);
    executor_.query(
        "with gone as (delete from " + source(due) + " returning *) insert into " + prefix_ +
            "dead (id, lane, state, ended_at, queued_at, attempt, reason, payload, payload_bytes, headers, options)"
            " select id, lane, 'failed', clock_timestamp(),"
            " coalesce((options ->> 'enqueued_at')::timestamptz, queued_at), attempt + 1,"
            " $2, payload, payload_bytes, headers, options from gone",
        {std::to_string(due.id), message.empty() ? type : message});
  }

  /// Of the job's key when it has one, else of its kind; until then in the time that `ahead` makes.
  void hold(Due const& due, std::int64_t delay_ms) {
    std::string const until =
        "clock_timestamp() + ($2::bigint + least($3::bigint, 3600000)) * interval '1 millisecond'";
    Values const values{std::to_string(due.id), std::to_string(options_.ahead.count()), std::to_string(delay_ms),
                        due.job.kind};
    executor_.query(
        "with key as (select options ->> 'key' as key from " + prefix_ +
            (due.in_log ? "job where id = $1::bigint and txid = pg_current_xact_id()"
                        : "deferred where id = $1::bigint") +
            "), k as (insert into " + prefix_ + "key_hold (kind, key, until, said_by) select $4, key.key, " + until +
            ", 'run_due' from key where key.key is not null) insert into " + prefix_ +
            "limit_rule as r (scope, name, origin, held_until, said_by) select 'kind', $4, 'held', " + until +
            ", 'run_due' from key where key.key is null on conflict (name, scope, origin) do update set "
            "held_until = greatest(r.held_until, excluded.held_until)",
        values);
  }

  void defer(Due const& due, std::string const& state, int attempts, std::int64_t delay_ms) {
    Values const values{std::to_string(due.id), state, std::to_string(attempts),
                        std::to_string(delay_ms + options_.ahead.count())};
    std::string const due_at = "clock_timestamp() + $4::bigint * interval '1 millisecond'";
    if (!due.in_log) {
      executor_.query("update " + prefix_ + "deferred set state = $2, attempt = attempt + $3::int, due_at = " + due_at +
                          " where id = $1::bigint",
                      values);
      return;
    }
    executor_.query(
        "with gone as (delete from " + source(due) + " returning *) insert into " + prefix_ +
            "deferred (id, lane, state, due_at, queued_at, attempt, payload, payload_bytes, headers, options)"
            " select id, lane, $2, " +
            due_at +
            ", coalesce((options ->> 'enqueued_at')::timestamptz, queued_at),"
            " attempt + $3::int, payload, payload_bytes, headers, options from gone",
        values);
  }

  /// "table where id = $1 …", for a delete.
  [[nodiscard]] std::string source(Due const& due) const {
    return prefix_ + (due.in_log ? "job where id = $1::bigint and txid = pg_current_xact_id()"
                                 : "deferred where id = $1::bigint");
  }

  Executor& executor_;
  RunDueOptions const& options_;
  std::string prefix_;
  std::string kinds_;
  std::map<std::string, InlineHandler const*> handlers_;
  std::set<std::int64_t> seen_;
};

}  // namespace

std::vector<RunResult> run_due(Transaction const& transaction, std::vector<InlineHandler> const& handlers,
                               RunDueOptions const& options) {
  return Runner(transaction, handlers, options).run();
}

}  // namespace posthouse::testing
