// SPDX-License-Identifier: Apache-2.0
// What operators see of the whole, and what they do to queues, kinds and dead letters.
#include "store/admin.hpp"
#include "store/admin_sql.hpp"

namespace posthouse::store {
namespace {

std::optional<std::int64_t> maybe_int8(pg::Result const& rows, int row, int column) {
  if (rows.is_null(row, column)) return std::nullopt;
  return rows.int8(row, column);
}

/// Milliseconds since a time of the server, by its own clock.
std::string age_ms(std::string_view time) {
  return "(extract(epoch from pg_catalog.clock_timestamp() - " + std::string(time) + ") * 1000)::bigint";
}

std::vector<std::string> lines(std::string const& text) {
  std::vector<std::string> list;
  for (std::size_t at = 0; at < text.size();) {
    auto const end = std::min(text.find('\n', at), text.size());
    list.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return list;
}

Stat stat_of(pg::Result const& rows, int row) {
  return {.queue = rows.text(row, 0),
          .kind = rows.text(row, 1),
          .state = rows.text(row, 2),
          .jobs = rows.int8(row, 3),
          .oldest_at = rows.maybe(row, 4),
          .oldest_ms = maybe_int8(rows, row, 5),
          .last_minute = maybe_int8(rows, row, 6),
          .last_hour = maybe_int8(rows, row, 7)};
}

DeadBatch dead_batch(pg::Connection& connection, std::string const& function, DeadFilter const& filter,
                     std::optional<std::int64_t> after, int most) {
  pg::Params params;
  params.text(filter.state).text(filter.kind).text(filter.queue).text(filter.before);
  if (after) {
    params.int8(*after);
  } else {
    params.null();
  }
  params.int8(most);
  pg::Result const rows =
      connection.query("select * from " + function + "($1, $2, $3, $4::timestamptz, $5, $6::int)", params);
  return {.done = rows.int8(0, 0), .last = maybe_int8(rows, 0, 1)};
}

}  // namespace

std::vector<Stat> Admin::stats() {
  pg::Result const rows =
      connection_.query("select queue, kind, state, jobs, " + rfc3339("oldest_at") + ", " + age_ms("oldest_at") +
                        ", last_minute, last_hour from " + schema() + "stats()");
  std::vector<Stat> stats;
  for (int row = 0; row < rows.rows(); ++row) stats.push_back(stat_of(rows, row));
  return stats;
}

std::vector<Stat> Admin::backlog() {
  pg::Result const rows =
      connection_.query("select queue, kind, state, jobs, " + rfc3339("oldest_at") + ", " + age_ms("oldest_at") +
                        ", null::bigint, null::bigint from " + schema() + "backlog()");
  std::vector<Stat> stats;
  for (int row = 0; row < rows.rows(); ++row) stats.push_back(stat_of(rows, row));
  return stats;
}

Status Admin::status() {
  pg::Result const rows =
      connection_.query("select schema_version, program_version, leader, leader_name, " + rfc3339("leader_since") +
                        ", " + age_ms("leader_since") + ", " + age_ms("leader_seen_at") +
                        ", workers, slots, running, available, pg_catalog.array_to_string(queues_paused, E'\\n'), "
                        "pg_catalog.array_to_string(kinds_paused, E'\\n'), " +
                        rfc3339("oldest_available_at") + ", " + age_ms("oldest_available_at") + ", -" +
                        age_ms("next_due_at") + ", dead_last_hour from " + schema() + "status()");
  return {.schema_version = rows.text(0, 0),
          .program_version = rows.text(0, 1),
          .leader = maybe_int8(rows, 0, 2),
          .leader_name = rows.maybe(0, 3),
          .leader_since = rows.maybe(0, 4),
          .leader_ms = maybe_int8(rows, 0, 5),
          .leader_silent_ms = maybe_int8(rows, 0, 6),
          .workers = rows.int8(0, 7),
          .slots = rows.int8(0, 8),
          .running = rows.int8(0, 9),
          .available = rows.int8(0, 10),
          .queues_paused = lines(rows.text(0, 11)),
          .kinds_paused = lines(rows.text(0, 12)),
          .oldest_available_at = rows.maybe(0, 13),
          .oldest_available_ms = maybe_int8(rows, 0, 14),
          .next_due_ms = maybe_int8(rows, 0, 15),
          .dead_last_hour = rows.int8(0, 16)};
}

std::vector<XminHolder> Admin::xmin_holders() {
  pg::Result const rows =
      connection_.query("select what, name, pid::bigint, role, application, state, " + rfc3339("since") + ", " +
                        age_ms("since") + ", xmin_age from " + schema() + "xmin_holders()");
  std::vector<XminHolder> holders;
  for (int row = 0; row < rows.rows(); ++row) {
    holders.push_back({.what = rows.text(row, 0),
                       .name = rows.maybe(row, 1),
                       .pid = maybe_int8(rows, row, 2),
                       .role = rows.maybe(row, 3),
                       .application = rows.maybe(row, 4),
                       .state = rows.maybe(row, 5),
                       .since = rows.maybe(row, 6),
                       .open_ms = maybe_int8(rows, row, 7),
                       .xmin_age = maybe_int8(rows, row, 8)});
  }
  return holders;
}

std::int64_t Admin::ahead(std::int64_t id, int most) {
  return connection_.query("select " + schema() + "ahead($1, $2::int)", pg::Params().int8(id).int8(most)).int8(0, 0);
}

std::vector<KindInfo> Admin::kinds() {
  pg::Result const rows =
      connection_.query("select kind, paused, " + rfc3339("paused_at") + " from " + schema() + "kind order by kind");
  std::vector<KindInfo> kinds;
  for (int row = 0; row < rows.rows(); ++row) {
    kinds.push_back({rows.text(row, 0), rows.field(row, 1) == "t", rows.maybe(row, 2)});
  }
  return kinds;
}

std::vector<std::pair<std::string, std::string>> Admin::names() {
  pg::Result const rows = connection_.query("select queue, kind from " + schema() +
                                            "lane union select queue, kind from " + schema() + "lane_seen");
  std::vector<std::pair<std::string, std::string>> names;
  for (int row = 0; row < rows.rows(); ++row) names.emplace_back(rows.text(row, 0), rows.text(row, 1));
  return names;
}

void Admin::pause_queue(std::string const& queue) {
  connection_.query("select " + schema() + "pause_queue($1)", pg::Params().text(queue));
}

void Admin::resume_queue(std::string const& queue) {
  connection_.query("select " + schema() + "resume_queue($1)", pg::Params().text(queue));
}

void Admin::set_queue_priority(std::string const& queue, int priority) {
  connection_.query("select " + schema() + "set_queue_priority($1, $2::int)", pg::Params().text(queue).int8(priority));
}

void Admin::pause_kind(std::string const& kind) {
  connection_.query("select " + schema() + "pause_kind($1)", pg::Params().text(kind));
}

void Admin::resume_kind(std::string const& kind) {
  connection_.query("select " + schema() + "resume_kind($1)", pg::Params().text(kind));
}

std::string Admin::now() { return connection_.query("select " + rfc3339("pg_catalog.clock_timestamp()")).text(0, 0); }

DeadBatch Admin::retry_dead(DeadFilter const& filter, std::optional<std::int64_t> after, int most) {
  return dead_batch(connection_, schema() + "retry_dead", filter, after, most);
}

DeadBatch Admin::purge_dead(DeadFilter const& filter, std::optional<std::int64_t> after, int most) {
  return dead_batch(connection_, schema() + "purge_dead", filter, after, most);
}

}  // namespace posthouse::store
