// SPDX-License-Identifier: Apache-2.0
// The longer statements of admin.cpp.
#include "store/admin_sql.hpp"

namespace posthouse::store {
namespace {

/// The newest ids of one table, by its primary key or index on id. A kind or queue turns into lanes first.
std::string from_table(std::string_view source, std::string_view condition) {
  return "(select t.id from " + std::string(source) + " where ($3::bigint is null or t.id < $3) " +
         (condition.empty() ? std::string() : "and " + std::string(condition) + " ") +
         "and (($1::text is null and $2::text is null) or t.lane in (select l.lane from lanes l)) "
         "order by t.id desc limit $4::int)";
}

std::string with_lanes(std::string const& schema, std::string const& body) {
  return "with lanes as materialized (select l.lane from " + schema +
         "lane l where ($1::text is null or l.kind = $1) and ($2::text is null or l.queue = $2) "
         "union all select s.lane from " +
         schema + "lane_seen s where ($1::text is null or s.kind = $1) and ($2::text is null or s.queue = $2)) " + body;
}

}  // namespace

std::string rfc3339(std::string_view column) {
  return "pg_catalog.to_char(" + std::string(column) + " at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
}

std::string const& job_columns() {
  static std::string const text = "j.id, j.kind, j.queue, j.priority, j.state, j.attempt, j.max_attempts, " +
                                  rfc3339("j.enqueued_at") + ", " + rfc3339("j.run_at") + ", " +
                                  rfc3339("j.started_at") + ", " + rfc3339("j.finished_at") +
                                  ", j.worker, j.payload::text, pg_catalog.encode(j.payload_bytes, 'hex'), "
                                  "j.headers::text, j.last_error, j.dedupe_key, " +
                                  rfc3339("j.expires_at") +
                                  ", pg_catalog.array_to_string(j.depends_on, ' '), "
                                  "pg_catalog.array_to_string(j.waits_for, ' '), j.key";
  return text;
}

std::string candidates_sql(std::string const& schema, std::string_view state) {
  if (state == "scheduled" || state == "blocked" || state == "retryable") {
    return with_lanes(schema, from_table(schema + "deferred t", "t.state = '" + std::string(state) + "'"));
  }
  if (state == "failed" || state == "cancelled" || state == "expired") {
    return with_lanes(schema, from_table(schema + "dead t", "t.state = '" + std::string(state) + "'"));
  }
  if (state == "dead") return with_lanes(schema, from_table(schema + "dead t", {}));
  if (state == "running") return with_lanes(schema, from_table(schema + "held() t", {}));
  if (state == "succeeded") {
    // Backwards through the log, asking each row's lane for its cursor; the limit keeps the join from being turned
    // round.
    return with_lanes(schema,
                      "select t.id from " + schema +
                          "job t cross join lateral (select b.lo, b.hi, b.pos_txid, b.pos_id from " + schema +
                          "batch b where b.lane = t.lane order by b.seq desc limit 1) c "
                          "where ($3::bigint is null or t.id < $3) and " +
                          schema +
                          "is_claimed(t.txid, t.id, c.lo, c.hi, c.pos_txid, c.pos_id) "
                          "and (($1::text is null and $2::text is null) or t.lane in (select l.lane from lanes l)) "
                          "and t.id not in (select o.id from " +
                          schema + "held() o) order by t.id desc limit $4::int");
  }
  if (state == "available") {
    // Above each lane's cursor, on the index of lanes.
    return with_lanes(
        schema,
        "select t.id from (select q.lane from " + schema + "lane q union select s.lane from " + schema +
            "lane_seen s) q left join lateral (select b.lo, b.hi, b.pos_txid, b.pos_id from " + schema +
            "batch b where b.lane = q.lane order by b.seq desc limit 1) c on true, lateral (select j.id, j.lane from " +
            schema +
            "job j where j.lane = q.lane and j.txid >= coalesce(pg_catalog.pg_snapshot_xmin(c.lo), '0'::xid8) and "
            "not " +
            schema +
            "is_claimed(j.txid, j.id, c.lo, c.hi, c.pos_txid, c.pos_id)) t "
            "where ($3::bigint is null or t.id < $3) "
            "and (($1::text is null and $2::text is null) or t.lane in (select l.lane from lanes l)) "
            "order by t.id desc limit $4::int");
  }
  return {};
}

std::string candidates_sql(std::string const& schema) {
  return with_lanes(schema, from_table(schema + "job t", {}) + " union all " + from_table(schema + "deferred t", {}) +
                                " union all " + from_table(schema + "dead t", {}) + " order by 1 desc limit $4::int");
}

std::string workers_sql(std::string const& schema) {
  return "select w.id, w.name, w.host, w.pid, w.version, pg_catalog.array_to_string(w.queues, ','), "
         "pg_catalog.array_to_string(w.kinds, ','), w.slots, (extract(epoch from w.lease) * 1000)::bigint, " +
         rfc3339("w.started_at") + ", " + rfc3339("w.ended_at") + ", w.end_reason, " + rfc3339("h.at") +
         ", (extract(epoch from pg_catalog.clock_timestamp() - h.at) * 1000)::bigint, h.free, h.running, "
         "w.ended_at is null and w.id = (select l.worker from " +
         schema +
         "leader l where l.at > pg_catalog.clock_timestamp() - interval '10 s' order by l.id desc limit 1), "
         "h.rss_bytes, h.cpu_ms, "
         "h.children from " +
         schema + "worker w left join lateral (select * from " + schema +
         "heartbeat q where q.worker = w.id order by q.at desc limit 1) h on true "
         "where $1 or w.ended_at is null order by w.id";
}

}  // namespace posthouse::store
