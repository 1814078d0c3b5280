// SPDX-License-Identifier: Apache-2.0
// Enqueue through the functions: one job, or many as one JSON array.
#include "store/produce.hpp"

#include "core/time_format.hpp"
#include "pg/text.hpp"
#include "store/block.hpp"
#include "store/json_text.hpp"

namespace posthouse::store {
namespace {

constexpr std::size_t chunk_jobs = 5000;
/// jsonb ends at 256 MiB; long before that a statement is better sent in parts.
constexpr std::size_t chunk_bytes = 16 * 1024 * 1024;

/// $1 kind, $2 payload, $3 queue, $4 priority, $5 run_at, $6 delay, $7 headers, $8 max_attempts
std::string enqueue_sql(std::string const& quoted_schema, bool is_bytes) {
  return "select " + quoted_schema +
         (is_bytes ? ".enqueue_bytes(kind => $1, payload => $2::pg_catalog.bytea"
                   : ".enqueue(kind => $1, payload => $2::pg_catalog.jsonb") +
         ", queue => $3, priority => $4::pg_catalog.int4, run_at => $5::pg_catalog.timestamptz, "
         "delay => $6::pg_catalog.interval, headers => $7::pg_catalog.jsonb, max_attempts => $8::pg_catalog.int4)";
}

/// A job without anything special, which is most of them, goes by a shorter statement.
std::string plain_sql(std::string const& quoted_schema) {
  return "select " + quoted_schema +
         ".enqueue(kind => $1, payload => $2::pg_catalog.jsonb, queue => $3, priority => $4::pg_catalog.int4)";
}

/// $1 kind, $2 payload, $3 payload_bytes, $4 queue, $5 priority, $6 run_at, $7 delay, $8 headers, $9 max_attempts,
/// $10 dedupe_key, $11 on_duplicate, $12 dedupe_scope, $13 dedupe_window, $14 token,
/// $15 expires_at, $16 expires_in, $17 timeout, $18 key, $19 depends_on, $20 depends_on_all_ok
std::string outcome_sql(std::string const& quoted_schema) {
  return "select id, status from " + quoted_schema +
         ".enqueue_outcome(kind => $1, payload => $2::pg_catalog.jsonb, payload_bytes => $3::pg_catalog.bytea, "
         "queue => $4, priority => $5::pg_catalog.int4, run_at => $6::pg_catalog.timestamptz, "
         "delay => $7::pg_catalog.interval, headers => $8::pg_catalog.jsonb, max_attempts => $9::pg_catalog.int4, "
         "dedupe_key => $10, on_duplicate => $11, dedupe_scope => $12, dedupe_window => $13::pg_catalog.interval, "
         "token => $14::pg_catalog.uuid, expires_at => $15::pg_catalog.timestamptz, "
         "expires_in => $16::pg_catalog.interval, timeout => $17::pg_catalog.interval, key => $18, "
         "depends_on => $19::pg_catalog.int8[], depends_on_all_ok => $20::pg_catalog.bool)";
}

EnqueueStatus status_of(std::string_view name) {
  if (name == "duplicate") return EnqueueStatus::duplicate;
  if (name == "mismatch") return EnqueueStatus::mismatch;
  if (name == "replaced") return EnqueueStatus::replaced;
  if (name == "rescheduled") return EnqueueStatus::rescheduled;
  return EnqueueStatus::created;  // "replayed" is the same answer once more
}

std::optional<std::string> interval_text(std::optional<std::chrono::milliseconds> const& time) {
  if (!time) return std::nullopt;
  return std::to_string(time->count()) + " milliseconds";
}

std::optional<std::string> unless_empty(std::string_view text) {
  if (text.empty()) return std::nullopt;
  return std::string(text);
}

std::optional<std::string> run_at_text(NewJob const& job) {
  if (!job.run_at) return std::nullopt;
  return core::format_time(*job.run_at);
}

std::optional<std::string> delay_text(NewJob const& job) { return interval_text(job.delay); }

std::optional<std::string> id_array(std::span<std::int64_t const> ids) {
  if (ids.empty()) return std::nullopt;
  std::string text;
  for (auto const id : ids) text += (text.empty() ? "{" : ",") + std::to_string(id);
  return text + '}';
}

/// Elements that were sent before have ids by now; `first` is the first of those that have not.
void append_dependencies(std::string& json, NewJob const& job, std::vector<EnqueueOutcome> const& sent,
                         std::size_t first) {
  std::string ids;
  std::string elements;
  for (auto const id : job.depends_on) ids += (ids.empty() ? "" : ",") + std::to_string(id);
  for (auto const index : job.depends_on_elements) {
    auto& list = index < first ? ids : elements;
    list +=
        (list.empty() ? "" : ",") + (index < first ? std::to_string(sent[index].id) : std::to_string(index - first));
  }
  if (!ids.empty()) json += ",\"depends_on\":[" + ids + ']';
  if (!elements.empty()) json += ",\"depends_on_elements\":[" + elements + ']';
  if (!job.depends_on_all_ok) json += ",\"depends_on_all_ok\":false";
}

std::string hex(std::string_view bytes) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string text = "\\x";
  text.reserve(2 + bytes.size() * 2);
  for (char const c : bytes) {
    auto const byte = static_cast<unsigned char>(c);
    text += digits[byte >> 4U];
    text += digits[byte & 15U];
  }
  return text;
}

void append_element(std::string& json, NewJob const& job, std::vector<EnqueueOutcome> const& sent, std::size_t first) {
  json += "{\"kind\":";
  append_json_string(json, job.kind);
  if (job.payload != nullptr && job.payload->is_json()) {
    json += ",\"payload\":";
    json += job.payload->data();
  } else if (job.payload != nullptr && job.payload->is_bytes()) {
    json += ",\"payload_bytes\":";
    append_base64_string(json, job.payload->data());
  }
  if (job.queue != "default") {
    json += ",\"queue\":";
    append_json_string(json, job.queue);
  }
  if (job.priority != 0) json += ",\"priority\":" + std::to_string(job.priority);
  if (job.run_at) json += ",\"run_at\":\"" + core::format_time(*job.run_at) + "\"";
  if (job.delay) json += ",\"delay_ms\":" + std::to_string(job.delay->count());
  if (!job.headers.empty()) {
    json += ",\"headers\":";
    json += job.headers;
  }
  if (job.max_attempts) json += ",\"max_attempts\":" + std::to_string(*job.max_attempts);
  if (!job.dedupe_key.empty()) {
    json += ",\"dedupe_key\":";
    append_json_string(json, job.dedupe_key);
    json += ",\"on_duplicate\":\"";
    json += name_of(job.on_duplicate);
    json += "\",\"dedupe_scope\":\"";
    json += name_of(job.dedupe_scope);
    json += '"';
    if (job.dedupe_window) json += ",\"dedupe_window\":\"" + interval_text(job.dedupe_window).value() + '"';
  }
  if (!job.token.empty()) {
    json += ",\"token\":";
    append_json_string(json, job.token);
  }
  if (job.expires_at) json += ",\"expires_at\":\"" + core::format_time(*job.expires_at) + '"';
  if (job.expires_in) json += ",\"expires_in\":\"" + interval_text(job.expires_in).value() + '"';
  if (job.timeout) json += ",\"timeout\":\"" + interval_text(job.timeout).value() + '"';
  if (!job.key.empty()) {
    json += ",\"key\":";
    append_json_string(json, job.key);
  }
  if (job.dependent()) append_dependencies(json, job, sent, first);
  json += '}';
}

/// Calls `send` with one JSON array after the other; it adds to `sent` what became of them.
template <class Send>
void in_chunks(JobList const& jobs, std::size_t most, std::vector<EnqueueOutcome> const& sent, Send send) {
  std::string json = "[";
  std::size_t count = 0;
  for (std::size_t i = 0; i < jobs.size; ++i) {
    if (count > 0) json += ',';
    append_element(json, jobs.at(i), sent, i - count);
    ++count;
    if (count == most || json.size() >= chunk_bytes || i + 1 == jobs.size) {
      json += ']';
      send(json);
      json.assign(1, '[');
      count = 0;
    }
  }
}

std::string many_sql(std::string const& quoted_schema) {
  return "select pg_catalog.unnest(" + quoted_schema + ".enqueue_many($1::pg_catalog.jsonb))";
}

std::string many_outcome_sql(std::string const& quoted_schema) {
  return "select id, status from " + quoted_schema + ".enqueue_many_outcome($1::pg_catalog.jsonb)";
}

bool any_special(JobList const& jobs) {
  for (std::size_t i = 0; i < jobs.size; ++i) {
    if (NewJob const job = jobs.at(i); job.special()) return true;
  }
  return false;
}

/// Parameters of outcome_sql as text.
std::vector<std::optional<std::string>> outcome_values(NewJob const& job) {
  bool const is_bytes = job.payload != nullptr && job.payload->is_bytes();
  bool const is_json = job.payload != nullptr && job.payload->is_json();
  return {std::string(job.kind),
          is_json ? std::optional(std::string(job.payload->data())) : std::nullopt,
          is_bytes ? std::optional(hex(job.payload->data())) : std::nullopt,
          std::string(job.queue),
          std::to_string(job.priority),
          run_at_text(job),
          delay_text(job),
          unless_empty(job.headers),
          job.max_attempts ? std::optional(std::to_string(*job.max_attempts)) : std::nullopt,
          unless_empty(job.dedupe_key),
          std::string(name_of(job.on_duplicate)),
          std::string(name_of(job.dedupe_scope)),
          interval_text(job.dedupe_window),
          unless_empty(job.token),
          job.expires_at ? std::optional(core::format_time(*job.expires_at)) : std::nullopt,
          interval_text(job.expires_in),
          interval_text(job.timeout),
          unless_empty(job.key),
          id_array(job.depends_on),
          job.depends_on_all_ok ? "t" : "f"};
}

EnqueueOutcome parse_outcome(Executor::Row const& row) {
  if (row.size() != 2 || !row[1]) return {parse_id({}), EnqueueStatus::created};
  return {parse_id({row}), status_of(*row[1])};
}

}  // namespace

std::string_view name_of(OnDuplicate value) {
  switch (value) {
    case OnDuplicate::skip:
      return "skip";
    case OnDuplicate::error:
      return "error";
    case OnDuplicate::replace:
      return "replace";
    case OnDuplicate::reschedule:
      return "reschedule";
  }
  return "skip";
}

std::string_view name_of(DedupeScope value) {
  return value == DedupeScope::until_claimed ? "until_claimed" : "unfinished";
}

EnqueueOutcome enqueue(pg::Connection& connection, NewJob const& job) {
  pg::Params params;
  if (job.special()) {
    for (auto const& value : outcome_values(job)) params.text(value);
    pg::Result const rows = connection.prepared(outcome_sql(connection.quoted_schema()), params);
    return {rows.int8(0, 0), status_of(rows.field(0, 1))};
  }
  params.text(job.kind);
  bool const is_bytes = job.payload != nullptr && job.payload->is_bytes();
  if (job.payload == nullptr || job.payload->is_null()) {
    params.null();
  } else if (is_bytes) {
    params.bytea(job.payload->data());
  } else {
    params.text(job.payload->data());
  }
  params.text(job.queue).int8(job.priority);
  std::string const schema = connection.quoted_schema();
  if (!is_bytes && !job.deferred() && job.headers.empty() && !job.max_attempts) {
    return {connection.prepared(plain_sql(schema), params).int8(0, 0), EnqueueStatus::created};
  }
  params.text(run_at_text(job)).text(delay_text(job));
  if (job.headers.empty()) {
    params.null();
  } else {
    params.text(job.headers);
  }
  if (job.max_attempts) {
    params.int8(*job.max_attempts);
  } else {
    params.null();
  }
  return {connection.prepared(enqueue_sql(schema, is_bytes), params).int8(0, 0), EnqueueStatus::created};
}

EnqueueOutcome enqueue(Transaction const& transaction, std::string const& schema, NewJob const& job) {
  if (job.special()) {
    auto const rows = transaction.executor().query(outcome_sql(pg::quote_identifier(schema)), outcome_values(job));
    return parse_outcome(rows.empty() ? Executor::Row{} : rows.front());
  }
  bool const is_bytes = job.payload != nullptr && job.payload->is_bytes();
  std::optional<std::string> payload;
  if (is_bytes) {
    payload = hex(job.payload->data());
  } else if (job.payload != nullptr && job.payload->is_json()) {
    payload = std::string(job.payload->data());
  }
  std::vector<std::optional<std::string>> values{std::string(job.kind), std::move(payload), std::string(job.queue),
                                                 std::to_string(job.priority)};
  values.push_back(run_at_text(job));
  values.push_back(delay_text(job));
  values.push_back(job.headers.empty() ? std::nullopt : std::optional<std::string>(job.headers));
  values.push_back(job.max_attempts ? std::optional<std::string>(std::to_string(*job.max_attempts)) : std::nullopt);
  auto const rows = transaction.executor().query(enqueue_sql(pg::quote_identifier(schema), is_bytes), values);
  return {parse_id(rows), EnqueueStatus::created};
}

std::vector<EnqueueOutcome> enqueue_many(pg::Connection& connection, JobList const& jobs) {
  std::vector<EnqueueOutcome> outcomes;
  outcomes.reserve(jobs.size);
  bool const special = any_special(jobs);
  std::string const sql = special ? many_outcome_sql(connection.quoted_schema()) : many_sql(connection.quoted_schema());
  std::optional<Block> block;
  auto const send = [&](std::string const& json) {
    pg::Result const rows = connection.query(sql, pg::Params().text(json), pg::Format::binary);
    for (int row = 0; row < rows.rows(); ++row) {
      outcomes.push_back({rows.binary_int8(row, 0), special ? status_of(rows.field(row, 1)) : EnqueueStatus::created});
    }
  };
  // One statement is a transaction of its own; the block opens when a second one turns out to be needed.
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < jobs.size && bytes < chunk_bytes / 2; ++i) {
    NewJob const job = jobs.at(i);
    bytes += job.headers.size() + (job.payload == nullptr ? 0 : job.payload->data().size() * 4 / 3) + 256;
  }
  bool const several = jobs.size > chunk_jobs || bytes >= chunk_bytes / 2;
  if (several && !connection.in_transaction()) block.emplace(connection);
  in_chunks(jobs, chunk_jobs, outcomes, send);
  if (block) block->commit();
  return outcomes;
}

std::vector<EnqueueOutcome> enqueue_many(Transaction const& transaction, std::string const& schema,
                                         JobList const& jobs) {
  std::vector<EnqueueOutcome> outcomes;
  outcomes.reserve(jobs.size);
  bool const special = any_special(jobs);
  std::string const quoted = pg::quote_identifier(schema);
  std::string const sql = special ? many_outcome_sql(quoted) : many_sql(quoted);
  in_chunks(jobs, chunk_jobs, outcomes, [&](std::string const& json) {
    for (auto const& row : transaction.executor().query(sql, {json})) {
      outcomes.push_back(special ? parse_outcome(row) : EnqueueOutcome{parse_id({row}), EnqueueStatus::created});
    }
  });
  return outcomes;
}

}  // namespace posthouse::store
