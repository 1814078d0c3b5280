// SPDX-License-Identifier: Apache-2.0
// What a worker asks of the database. The calls of the hot path are prepared and claims come back in binary, so that
// payloads stay where libpq put them.
#include "store/work.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

#include "core/text.hpp"
#include "store/json_text.hpp"

namespace posthouse::store {
namespace {

/// "{1,2}" as the server writes bigint[].
std::vector<std::int64_t> numbers(std::string_view text) {
  std::vector<std::int64_t> values;
  char const* at = text.data();
  char const* const end = text.data() + text.size();
  while (at != end) {
    std::int64_t value = 0;
    auto const [next, error] = std::from_chars(at, end, value);
    if (error == std::errc()) {
      values.push_back(value);
      at = next;
    } else {
      ++at;
    }
  }
  return values;
}

std::string call(pg::Connection const& connection, std::string_view rest) {
  return connection.quoted_schema() + "." + std::string(rest);
}

void add_acks(pg::Params& params, std::span<BatchAck const> acks) {
  std::vector<std::int64_t> tokens;
  std::vector<std::optional<std::string>> acked;
  std::vector<int> started;
  tokens.reserve(acks.size());
  acked.reserve(acks.size());
  started.reserve(acks.size());
  for (BatchAck const& ack : acks) {
    tokens.push_back(ack.token);
    acked.push_back(ack.acked);
    started.push_back(ack.started);
  }
  params.int8_array(tokens).text_array(std::span<std::optional<std::string> const>(acked)).int4_array(started);
}

void add_moves(pg::Params& params, std::span<Move const> moves) {
  if (moves.empty()) {
    params.null();
    return;
  }
  constexpr std::size_t type_bytes = 200;
  constexpr std::size_t text_bytes = 64 * 1024;
  enum Column { token, position, id, outcome, delay_ms, type, message, stack, hold_ms, crashes };
  JsonColumns columns{"token", "pos", "id", "outcome", "delay_ms", "type", "message", "stack", "hold_ms", "crashes"};
  for (Move const& move : moves) {
    columns.add(token, move.token);
    columns.add(position, move.position);
    columns.add(id, move.id);
    columns.add(outcome, move.outcome);
    columns.add(delay_ms, move.delay_ms);
    if (move.crashes > 0) columns.add(crashes, move.crashes);
    if (move.hold_ms > 0) columns.add(hold_ms, move.hold_ms);
    auto const text = [&](Column column, std::string const& value, std::size_t most) {
      // Whatever a handler threw must be storable, or the job could never end.
      if (!value.empty()) columns.add(column, core::sanitise(value, most));
    };
    text(type, move.type, type_bytes);
    text(message, move.message, text_bytes);
    text(stack, move.stack, text_bytes);
    columns.end_row();
  }
  params.text(columns.object());
}

void add_results(pg::Params& params, std::span<JobResult const> results) {
  if (results.empty()) {
    params.null();
    return;
  }
  enum Column { token, position, id, value, bytes, problem };
  JsonColumns columns{"token", "pos", "id", "value", "bytes", "problem"};
  for (JobResult const& result : results) {
    columns.add(token, result.token);
    columns.add(position, result.position);
    columns.add(id, result.id);
    if (result.has_value && result.is_bytes) {
      columns.add_base64(bytes, result.data);
    } else if (result.has_value) {
      // As text, so that a value which jsonb refuses is refused alone.
      columns.add(value, result.data);
    }
    if (!result.problem.empty()) columns.add(problem, result.problem);
    columns.end_row();
  }
  params.text(columns.object());
}

/// The time of day of an expiry is turned into time that is left, for the jobs that have one.
std::string claim_sql(pg::Connection const& connection, std::string_view rest = "claim($1, $2, $3, $4, $5)") {
  return "select token, lane, pos, id, attempt, payload, payload_bytes, headers, "
         "case when pg_catalog.jsonb_exists(options, 'expires_at') then " +
         call(connection, "with_time_left(options) else options end from ") + call(connection, rest);
}

pg::Params claim_params(std::int64_t worker, ClaimRequest const& request) {
  pg::Params params;
  params.int8(worker).int8(request.token).int8_array(request.lanes).int8(request.jobs).int8(request.start);
  return params;
}

std::string finish_sql(pg::Connection const& connection) {
  return "select " + call(connection, "finish($1, $2, $3, $4, $5, $6)");
}

pg::Params finish_params(std::int64_t worker, std::span<BatchAck const> acks, std::span<Move const> moves,
                         std::span<JobResult const> results) {
  pg::Params params;
  params.int8(worker);
  add_acks(params, acks);
  add_moves(params, moves);
  add_results(params, results);
  return params;
}

bool wants_one(ClaimRequest const& request) {
  return request.lanes.size() == 1 && request.jobs == 1 && request.start == 1;
}

Claim decode(pg::Result result) {
  enum Column { token, lane, position, id, attempt, payload, payload_bytes, headers, options };
  Claim claim;
  int const rows = result.rows();
  claim.jobs.reserve(static_cast<std::size_t>(rows));
  auto const now = std::chrono::steady_clock::now();
  for (int row = 0; row < rows; ++row) {
    int const place = result.binary_int4(row, position);
    if (place == -2) {
      claim.blocked.push_back({.lane = result.binary_int8(row, lane), .wait_ms = result.binary_int8(row, token)});
      continue;
    }
    if (place < 0) {
      claim.lost.push_back(result.binary_int8(row, token));
      continue;
    }
    ClaimedJob job;
    job.received = now;
    job.token = result.binary_int8(row, token);
    job.lane = result.binary_int8(row, lane);
    job.position = place;
    job.id = result.binary_int8(row, id);
    job.attempt = result.binary_int4(row, attempt);
    if (!result.is_null(row, payload)) {
      job.is_null = false;
      job.payload = result.binary_jsonb(row, payload);
    } else if (!result.is_null(row, payload_bytes)) {
      job.is_null = false;
      job.is_bytes = true;
      job.payload = result.field(row, payload_bytes);
    }
    if (!result.is_null(row, headers)) job.headers = result.binary_jsonb(row, headers);
    if (!result.is_null(row, options)) job.options = result.binary_jsonb(row, options);
    claim.jobs.push_back(job);
  }
  auto const in_order = [](ClaimedJob const& a, ClaimedJob const& b) {
    return std::pair(a.token, a.position) < std::pair(b.token, b.position);
  };
  if (!std::is_sorted(claim.jobs.begin(), claim.jobs.end(), in_order)) {
    std::sort(claim.jobs.begin(), claim.jobs.end(), in_order);
  }
  claim.results.push_back(std::move(result));
  return claim;
}

}  // namespace

std::int64_t Work::register_worker(Registration const& registration) {
  pg::Params params;
  params.text(registration.name)
      .text(registration.host)
      .int8(registration.pid)
      .text(registration.version)
      .text_array(std::span<std::string const>(registration.queues))
      .text_array(std::span<std::string const>(registration.kinds))
      .int8(registration.lease_ms)
      .int8(registration.slots);
  if (registration.max_attempts.empty()) {
    params.null();
  } else {
    params.int4_array(registration.max_attempts);
  }
  return connection_.query("select " + call(connection_, "register_worker($1, $2, $3, $4, $5, $6, $7, $8, $9)"), params)
      .int8(0, 0);
}

Beat Work::beat(std::int64_t worker, std::int64_t low_token, int free, int running, base::ProcessUsage const& usage) {
  pg::Result const row = connection_.prepared(
      "select d ->> 'alive', d ->> 'leader_vacant', array(select pg_catalog.jsonb_array_elements_text(d -> 'open')), "
      "array(select pg_catalog.jsonb_array_elements_text(d -> 'cancel')) from " +
          call(connection_, "beat($1, $2, $3, $4, $5, $6, $7) d"),
      pg::Params()
          .int8(worker)
          .int8(low_token)
          .int8(free)
          .int8(running)
          .int8(usage.rss_bytes)
          .int8(usage.cpu_ms)
          .int8(usage.children));
  Beat beat;
  beat.alive = row.field(0, 0) == "true";
  beat.leader_vacant = row.field(0, 1) == "true";
  beat.open = numbers(row.field(0, 2));
  beat.cancel = numbers(row.field(0, 3));
  return beat;
}

std::vector<std::int64_t> Work::look(std::int64_t worker) {
  return numbers(
      connection_.prepared("select " + call(connection_, "look($1)"), pg::Params().int8(worker)).field(0, 0));
}

std::vector<LaneInfo> Work::lanes(std::span<std::int64_t const> ids) {
  pg::Result const rows = connection_.prepared(
      "select lane, queue, kind, priority, queue_priority, weight from " + call(connection_, "lane_turns($1)"),
      pg::Params().int8_array(ids));
  std::vector<LaneInfo> lanes;
  lanes.reserve(static_cast<std::size_t>(rows.rows()));
  for (int row = 0; row < rows.rows(); ++row) {
    lanes.push_back({rows.int8(row, 0), rows.text(row, 1), rows.text(row, 2), static_cast<int>(rows.int8(row, 3)),
                     static_cast<int>(rows.int8(row, 4)), static_cast<int>(rows.int8(row, 5))});
  }
  return lanes;
}

std::vector<std::int64_t> Work::eligible(std::int64_t worker) {
  pg::Result const rows =
      connection_.prepared("select lane from " + call(connection_, "lanes_of_worker($1)"), pg::Params().int8(worker));
  std::vector<std::int64_t> lanes;
  lanes.reserve(static_cast<std::size_t>(rows.rows()));
  for (int row = 0; row < rows.rows(); ++row) lanes.push_back(rows.int8(row, 0));
  return lanes;
}

Claim Work::claim_one(std::int64_t worker, BatchAck const* ended, ClaimRequest const& request) {
  pg::Params params;
  params.int8(worker);
  if (ended != nullptr) {
    params.int8(ended->token);
  } else {
    params.null();
  }
  params.int8(request.token).int8(request.lanes[0]).boolean(request.wake);
  return decode(connection_.prepared(claim_sql(connection_, "finish_and_claim_one($1, $2, $3, $4, $5)"), params,
                                     pg::Format::binary));
}

Claim Work::claim(std::int64_t worker, ClaimRequest const& request) {
  if (wants_one(request)) return claim_one(worker, nullptr, request);
  return decode(connection_.prepared(claim_sql(connection_), claim_params(worker, request), pg::Format::binary));
}

bool Work::send_claim(std::int64_t worker, ClaimRequest const& request) {
  return connection_.send_prepared(claim_sql(connection_), claim_params(worker, request), pg::Format::binary);
}

Claim Work::decode_claim(pg::Result rows) { return decode(std::move(rows)); }

std::vector<std::int64_t> Work::finish(std::int64_t worker, std::span<BatchAck const> acks, std::span<Move const> moves,
                                       std::span<JobResult const> results) {
  return numbers(
      connection_.prepared(finish_sql(connection_), finish_params(worker, acks, moves, results)).field(0, 0));
}

bool Work::send_finish(std::int64_t worker, std::span<BatchAck const> acks, std::span<Move const> moves,
                       std::span<JobResult const> results) {
  return connection_.send_prepared(finish_sql(connection_), finish_params(worker, acks, moves, results));
}

bool Work::pipe_claim(std::int64_t worker, ClaimRequest const& request) {
  return connection_.pipe(claim_sql(connection_), claim_params(worker, request), pg::Format::binary);
}

bool Work::pipe_finish(std::int64_t worker, std::span<BatchAck const> acks, std::span<Move const> moves,
                       std::span<JobResult const> results) {
  return connection_.pipe(finish_sql(connection_), finish_params(worker, acks, moves, results));
}

bool Work::pipe_look(std::int64_t worker) {
  return connection_.pipe("select " + call(connection_, "look($1)"), pg::Params().int8(worker));
}

std::vector<std::int64_t> Work::decode_ids(pg::Result const& rows) { return numbers(rows.field(0, 0)); }

std::vector<std::int64_t> Work::receive_finish() { return numbers(connection_.receive().field(0, 0)); }

Claim Work::finish_and_claim(std::int64_t worker, std::span<BatchAck const> acks, std::span<Move const> moves,
                             ClaimRequest const& request, std::span<JobResult const> results) {
  bool const plain = acks.size() == 1 && !acks[0].acked && moves.empty() && results.empty();
  if (plain && wants_one(request)) return claim_one(worker, &acks[0], request);
  pg::Params params;
  params.int8(worker);
  add_acks(params, acks);
  add_moves(params, moves);
  params.int8(request.token).int8_array(request.lanes).int8(request.jobs).int8(request.start);
  add_results(params, results);
  return decode(connection_.prepared(
      claim_sql(connection_, "finish_and_claim($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"), params, pg::Format::binary));
}

void Work::report_progress(std::int64_t worker, std::span<ProgressReport const> reports) {
  std::string json = "[";
  for (ProgressReport const& report : reports) {
    json += json.size() > 1 ? ",{" : "{";
    json += "\"token\":" + std::to_string(report.token) + ",\"pos\":" + std::to_string(report.position) +
            ",\"id\":" + std::to_string(report.id) + ",\"fraction\":" + std::to_string(report.fraction);
    if (!report.text.empty()) append_json_string(json += ",\"text\":", report.text);
    json += '}';
  }
  connection_.prepared("select " + call(connection_, "report_progress($1, $2)"),
                       pg::Params().int8(worker).text(json += ']'));
}

void Work::give_back(std::int64_t worker, std::span<std::int64_t const> tokens) {
  connection_.query("select " + call(connection_, "give_back($1, $2)"), pg::Params().int8(worker).int8_array(tokens));
}

void Work::leave(std::int64_t worker, bool keeper) {
  connection_.query(
      "select " + call(connection_, "leave($1)") + (keeper ? ", " + call(connection_, "wake('keep')") : ""),
      pg::Params().int8(worker));
}

std::vector<std::int64_t> Work::cancels(std::int64_t worker) {
  return numbers(
      connection_.prepared("select " + call(connection_, "cancels_of($1)"), pg::Params().int8(worker)).field(0, 0));
}

void Work::wake_one(std::int64_t worker) {
  connection_.prepared("select " + call(connection_, "wake_one($1)"), pg::Params().int8(worker));
}

bool Work::notify(std::string const& payload) {
  return connection_
             .query("select pg_catalog.pg_notify(" + call(connection_, "channel()") +
                        ", $1) where pg_catalog.pg_notification_queue_usage() <= 0.25",
                    pg::Params().text(payload))
             .rows() > 0;
}

void Work::wake(std::int64_t worker) {
  connection_.query("select " + call(connection_, "wake('w' || $1::bigint)"), pg::Params().int8(worker));
}

void Work::listen() {
  std::string const channel = connection_.query("select " + call(connection_, "channel()")).text(0, 0);
  connection_.script("listen " + connection_.quote_identifier(channel));
}

bool Work::notify_self() {
  return connection_
             .prepared("select pg_notify(" + call(connection_, "channel()") +
                       ", 'here') where pg_notification_queue_usage() <= 0.25")
             .rows() > 0;
}

int Work::keep(std::string_view profile, std::int64_t worker) {
  auto const row = connection_.prepared("select case when " + call(connection_, "keep($1)") +
                                            " then 0 else greatest(1, " + call(connection_, "peers($2)") + ") end",
                                        pg::Params().text(profile).int8(worker));
  return static_cast<int>(row.int8(0, 0));
}

std::vector<std::int64_t> Work::bell(std::span<std::int64_t const> lanes) {
  return numbers(
      connection_.prepared("select " + call(connection_, "bell($1)"), pg::Params().int8_array(lanes)).field(0, 0));
}

void Work::let_go() { connection_.query("select pg_catalog.pg_advisory_unlock_all()"); }

void Work::limit_bell(bool on) {
  connection_.query("select " + call(connection_, "limit_bell($1)"), pg::Params().boolean(on));
}

void Work::buffer_bell(std::int64_t worker, bool on) {
  connection_.query("select " + call(connection_, "buffer_bell($1, $2)"), pg::Params().int8(worker).boolean(on));
}

void Work::unbell(std::span<std::int64_t const> lanes) {
  connection_.prepared("select " + call(connection_, "unbell($1)"), pg::Params().int8_array(lanes));
}

std::string Work::fence() { return connection_.prepared("select " + call(connection_, "fence()")).text(0, 0); }

bool Work::fence_passed(std::string const& fence) {
  return connection_.prepared("select " + call(connection_, "fence_passed($1)"), pg::Params().text(fence))
             .field(0, 0) == "t";
}

std::int64_t Work::lead(std::int64_t worker) {
  pg::Result const row = connection_.prepared("select " + call(connection_, "lead($1)"), pg::Params().int8(worker));
  return row.is_null(0, 0) ? 0 : row.int8(0, 0);
}

DutiesReport Work::duties(std::int64_t worker) {
  pg::Result const row = connection_.prepared(
      "select d ->> 'promoted', d ->> 'rescued', d ->> 'next_due_ms' from " + call(connection_, "duties($1) d"),
      pg::Params().int8(worker));
  DutiesReport report;
  if (row.rows() == 0 || row.is_null(0, 0)) return report;  // the term has ended
  report.leads = true;
  report.promoted = row.int8(0, 0);
  report.rescued = row.int8(0, 1);
  report.next_due_ms = row.int8(0, 2);
  return report;
}

std::int64_t Work::promote_reap_and_fire() {
  return connection_.query("select " + call(connection_, "drain_duties()")).int8(0, 0);
}

}  // namespace posthouse::store
