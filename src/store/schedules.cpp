// SPDX-License-Identifier: Apache-2.0
#include "store/schedules.hpp"

#include <algorithm>

#include "core/headers_json.hpp"
#include "core/refuse.hpp"
#include "core/time_format.hpp"
#include "store/admin_sql.hpp"
#include "store/json_text.hpp"
#include "store/produce.hpp"

namespace posthouse::store {
namespace {

using std::chrono::milliseconds;

std::string milliseconds_text(milliseconds time) { return std::to_string(time.count()) + " milliseconds"; }

std::optional<std::int64_t> maybe_int8(pg::Result const& rows, int row, int column) {
  if (rows.is_null(row, column)) return std::nullopt;
  return rows.int8(row, column);
}

std::vector<ScheduleTick> ticks(pg::Result const& rows) {
  std::vector<ScheduleTick> list;
  for (int row = 0; row < rows.rows(); ++row) list.push_back({rows.text(row, 0), rows.text(row, 1)});
  return list;
}

std::string tick_columns() { return "select " + rfc3339("t.tick") + ", t.local_time::text from "; }

/// The bytes behind PostgreSQL's hex.
std::string unhex(std::string_view hex) {
  auto const digit = [](char c) { return static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10); };
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes += static_cast<char>(static_cast<unsigned char>(digit(hex[i]) << 4U | digit(hex[i + 1])));
  }
  return bytes;
}

}  // namespace

std::string_view name_of(Misfire misfire) noexcept {
  return misfire == Misfire::skip ? "skip" : misfire == Misfire::all ? "all" : "latest";
}

std::string_view name_of(Overlap overlap) noexcept {
  return overlap == Overlap::skip ? "skip" : overlap == Overlap::replace ? "replace" : "allow";
}

std::string definition(Schedule const& schedule) {
  std::string json = "{";
  auto const raw = [&json](std::string_view key, std::string_view value) {
    if (json.size() > 1) json += ", ";
    json += "\"" + std::string(key) + "\": ";
    json += value;
  };
  auto const text = [&raw](std::string_view key, std::string_view value) {
    std::string quoted;
    append_json_string(quoted, value);
    raw(key, quoted);
  };
  text("kind", schedule.kind);
  if (!schedule.cron.empty()) text("cron", schedule.cron);
  if (schedule.every) text("every", milliseconds_text(*schedule.every));
  if (schedule.at) text("at", core::format_time(*schedule.at));
  text("time_zone", schedule.time_zone);
  if (schedule.payload.is_json()) raw("payload", schedule.payload.data());
  if (schedule.payload.is_bytes()) {
    std::string base64;
    append_base64_string(base64, schedule.payload.data());
    raw("payload_bytes", base64);
  }
  text("queue", schedule.options.queue);
  raw("priority", std::to_string(schedule.options.priority));
  if (!schedule.options.headers.empty()) raw("headers", core::headers_to_json(schedule.options.headers));
  if (schedule.options.max_attempts) raw("max_attempts", std::to_string(*schedule.options.max_attempts));
  if (!schedule.options.dedupe_key.empty()) text("dedupe_key", schedule.options.dedupe_key);
  if (!schedule.options.key.empty()) text("key", schedule.options.key);
  if (schedule.options.on_duplicate != OnDuplicate::skip) text("on_duplicate", name_of(schedule.options.on_duplicate));
  if (schedule.options.dedupe_scope == DedupeScope::until_claimed) text("dedupe_scope", "until_claimed");
  auto const time = [&text](std::string_view key, std::optional<milliseconds> const& value) {
    if (value) text(key, milliseconds_text(*value));
  };
  time("dedupe_window", schedule.options.dedupe_window);
  time("expires_in", schedule.options.expires_in);
  time("timeout", schedule.options.timeout);
  text("jitter", milliseconds_text(schedule.jitter));
  text("misfire", name_of(schedule.misfire));
  raw("misfire_limit", std::to_string(schedule.misfire_limit));
  text("overlap", name_of(schedule.overlap));
  raw("enabled", schedule.enabled ? "true" : "false");
  return json + "}";
}

DeclaredSchedules ScheduleBook::declare(std::string_view application, std::span<Schedule const> schedules) {
  std::string list = "[";
  for (auto const& schedule : schedules) {
    if (list.size() > 1) list += ", ";
    list += "{\"name\": ";
    append_json_string(list, schedule.name);
    list += ", " + definition(schedule).substr(1);
  }
  return declare(application, list + "]");
}

DeclaredSchedules ScheduleBook::declare(std::string_view application, std::string_view list) {
  auto const row = connection_.query("select r ->> 'added', r ->> 'changed', r ->> 'unchanged', r ->> 'removed' from " +
                                         schema() + "sync_schedules($1, $2::pg_catalog.jsonb) r",
                                     pg::Params().text(application).text(list));
  auto const count = [&row](int column) { return static_cast<int>(row.int8(0, column)); };
  return {count(0), count(1), count(2), count(3)};
}

std::vector<ScheduleProblem> ScheduleBook::problems(std::string_view application, std::string_view list) {
  auto const rows = connection_.query(
      "select i, problem, coalesce(hint, '') from " + schema() + "schedule_problems($1, $2::pg_catalog.jsonb)",
      pg::Params().text(application).text(list));
  std::vector<ScheduleProblem> problems;
  for (int row = 0; row < rows.rows(); ++row) {
    problems.push_back({static_cast<std::size_t>(rows.int8(row, 0)), rows.text(row, 1), rows.text(row, 2)});
  }
  return problems;
}

void ScheduleBook::add(std::string_view name, std::string_view definition) {
  connection_.query("select " + schema() + "add_schedule_json($1, $2::pg_catalog.jsonb)",
                    pg::Params().text(name).text(definition));
}

bool ScheduleBook::set(std::string_view name, std::string_view changes) {
  return connection_
             .query("select " + schema() + "set_schedule($1, $2::pg_catalog.jsonb)",
                    pg::Params().text(name).text(changes))
             .field(0, 0) == "changed";
}

bool ScheduleBook::remove(std::string_view name) {
  return connection_.query("select " + schema() + "remove_schedule($1)", pg::Params().text(name)).field(0, 0) == "t";
}

void ScheduleBook::pause(std::string_view name) {
  connection_.query("select " + schema() + "pause_schedule($1)", pg::Params().text(name));
}

void ScheduleBook::resume(std::string_view name) {
  connection_.query("select " + schema() + "resume_schedule($1)", pg::Params().text(name));
}

std::int64_t ScheduleBook::run(std::string_view name) {
  return connection_.query("select " + schema() + "run_schedule($1)", pg::Params().text(name)).int8(0, 0);
}

std::vector<ScheduleInfo> ScheduleBook::read(std::string const& condition, pg::Params const& params) {
  auto const time = [](char const* column) { return rfc3339(column) + ", "; };
  auto const rows = connection_.query(
      "select s.name, s.kind, s.payload::text, pg_catalog.encode(s.payload_bytes, 'hex'), s.cron, "
      "(extract(epoch from s.every) * 1000)::bigint, " +
          time("s.at") + "s.time_zone, s.queue, s.priority, s.headers::text, s.max_attempts, " +
          "(extract(epoch from s.jitter) * 1000)::bigint, s.misfire, s.misfire_limit, s.overlap, s.enabled, s.owner, "
          "s.paused, " +
          time("s.next_at") + time("s.due_at") + time("s.last_tick") + time("s.last_fired_at") +
          "s.last_job, s.last_error, s.dedupe_key, s.on_duplicate, s.dedupe_scope, "
          "(extract(epoch from s.dedupe_window) * 1000)::bigint, (extract(epoch from s.expires_in) * 1000)::bigint, "
          "(extract(epoch from s.timeout) * 1000)::bigint, s.key from " +
          schema() + "schedules s " + condition + " order by s.name",
      params);
  std::vector<ScheduleInfo> list;
  for (int row = 0; row < rows.rows(); ++row) {
    ScheduleInfo info;
    auto& schedule = info.schedule;
    schedule.name = rows.text(row, 0);
    schedule.kind = rows.text(row, 1);
    if (!rows.is_null(row, 2)) schedule.payload = json(rows.text(row, 2));
    if (!rows.is_null(row, 3)) schedule.payload = bytes(unhex(rows.field(row, 3)));
    schedule.cron = rows.maybe(row, 4).value_or("");
    if (!rows.is_null(row, 5)) schedule.every = milliseconds(rows.int8(row, 5));
    if (!rows.is_null(row, 6)) schedule.at = core::parse_time("at", rows.field(row, 6));
    schedule.time_zone = rows.text(row, 7);
    schedule.options.queue = rows.text(row, 8);
    schedule.options.priority = static_cast<int>(rows.int8(row, 9));
    if (!rows.is_null(row, 10)) info.headers = rows.text(row, 10);
    schedule.options.headers = core::headers_from_json(info.headers);
    if (!rows.is_null(row, 11)) schedule.options.max_attempts = static_cast<int>(rows.int8(row, 11));
    schedule.jitter = milliseconds(rows.int8(row, 12));
    auto const misfire = rows.field(row, 13);
    schedule.misfire = misfire == "skip" ? Misfire::skip : misfire == "all" ? Misfire::all : Misfire::latest;
    schedule.misfire_limit = static_cast<int>(rows.int8(row, 14));
    auto const overlap = rows.field(row, 15);
    schedule.overlap = overlap == "skip" ? Overlap::skip : overlap == "replace" ? Overlap::replace : Overlap::allow;
    schedule.enabled = rows.field(row, 16) == "t";
    info.owner = rows.maybe(row, 17);
    info.paused = rows.field(row, 18) == "t";
    info.next_at = rows.maybe(row, 19);
    info.due_at = rows.maybe(row, 20);
    info.last_tick = rows.maybe(row, 21);
    info.last_fired_at = rows.maybe(row, 22);
    info.last_job = maybe_int8(rows, row, 23);
    info.last_error = rows.maybe(row, 24);
    auto& options = schedule.options;
    options.dedupe_key = rows.maybe(row, 25).value_or("");
    auto const duplicate = rows.field(row, 26);
    options.on_duplicate = duplicate == "error"     ? OnDuplicate::error
                           : duplicate == "replace" ? OnDuplicate::replace
                                                    : OnDuplicate::skip;
    if (rows.field(row, 27) == "until_claimed") options.dedupe_scope = DedupeScope::until_claimed;
    if (!rows.is_null(row, 28)) options.dedupe_window = milliseconds(rows.int8(row, 28));
    if (!rows.is_null(row, 29)) options.expires_in = milliseconds(rows.int8(row, 29));
    if (!rows.is_null(row, 30)) options.timeout = milliseconds(rows.int8(row, 30));
    options.key = rows.maybe(row, 31).value_or("");
    list.push_back(std::move(info));
  }
  return list;
}

std::vector<ScheduleInfo> ScheduleBook::list() { return read({}, {}); }

std::optional<ScheduleInfo> ScheduleBook::find(std::string_view name) {
  auto list = read("where s.name = $1", pg::Params().text(name));
  if (list.empty()) return std::nullopt;
  return std::move(list.front());
}

std::vector<ScheduleTick> ScheduleBook::next(std::string_view name, int n, std::optional<std::string> const& from) {
  return ticks(connection_.query(
      tick_columns() + schema() + "preview_schedule($1, $2::pg_catalog.int4, $3::pg_catalog.timestamptz) t",
      pg::Params().text(name).int8(n).text(from)));
}

std::vector<ScheduleTick> ScheduleBook::preview(std::string_view cron, std::string_view time_zone, int n,
                                                std::optional<std::string> const& from) {
  return ticks(connection_.query(
      tick_columns() + schema() + "preview_cron($1, $2, $3::pg_catalog.int4, $4::pg_catalog.timestamptz) t",
      pg::Params().text(cron).text(time_zone).int8(n).text(from)));
}

std::vector<ScheduleFire> ScheduleBook::history(std::string_view name, int n) {
  core::check_range("n", n, 1, 10'000);
  auto const rows = connection_.query(
      "select " + rfc3339("f.tick") + ", f.outcome, f.job, coalesce(f.note, ''), " + rfc3339("f.at") + " from " +
          schema() + "schedule_fire f where f.schedule = $1 order by f.tick desc limit $2::pg_catalog.int4",
      pg::Params().text(name).int8(n));
  std::vector<ScheduleFire> list;
  for (int row = 0; row < rows.rows(); ++row) {
    list.push_back(
        {rows.text(row, 0), rows.text(row, 1), maybe_int8(rows, row, 2), rows.text(row, 3), rows.text(row, 4)});
  }
  return list;
}

}  // namespace posthouse::store
