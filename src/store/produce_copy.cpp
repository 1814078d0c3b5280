// SPDX-License-Identifier: Apache-2.0
// Many jobs by COPY in binary form: lanes and ids first, then the rows, then the bells, all in one transaction.
#include <algorithm>
#include <limits>
#include <map>
#include <tuple>

#include "store/block.hpp"
#include "store/produce.hpp"

namespace posthouse::store {
namespace {

constexpr std::size_t buffer_bytes = 256 * 1024;
constexpr std::size_t most_lanes_copied = 100;    ///< each is asked for; of more tenants the jobs are sent as JSON
constexpr std::size_t reserve_at_once = 100'000;  ///< the function allows a million; replies stay small

template <class Integer>
void append_integer(std::string& out, Integer value) {
  using Unsigned = std::make_unsigned_t<Integer>;
  auto const bits = static_cast<Unsigned>(value);
  for (int shift = static_cast<int>(sizeof(Integer)) * 8 - 8; shift >= 0; shift -= 8) {
    out += static_cast<char>(static_cast<unsigned char>(bits >> static_cast<unsigned>(shift)));
  }
}

void append_null(std::string& out) { append_integer<std::int32_t>(out, -1); }

void append_bytes(std::string& out, std::string_view bytes) {
  append_integer(out, static_cast<std::int32_t>(bytes.size()));
  out += bytes;
}

void append_jsonb(std::string& out, std::string_view text) {
  append_integer(out, static_cast<std::int32_t>(text.size() + 1));
  out += '\1';  // version of jsonb's binary form
  out += text;
}

/// Rows of the COPY, a buffer at a time.
class Rows {
 public:
  Rows(JobList const& jobs, std::vector<std::size_t> const& order, std::vector<std::int64_t> const& lanes,
       std::vector<std::int64_t> const& ids)
      : jobs_(jobs), order_(order), lanes_(lanes), ids_(ids) {
    buffer_.reserve(buffer_bytes + 64 * 1024);
  }

  std::string_view operator()() {
    buffer_.clear();
    if (next_ == 0) buffer_.append("PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", 19);
    while (next_ < order_.size() && buffer_.size() < buffer_bytes) append_row();
    if (next_ == order_.size() && !ended_) {
      append_integer<std::int16_t>(buffer_, -1);
      ended_ = true;
    }
    return buffer_;
  }

 private:
  void append_row() {
    std::size_t const index = order_[next_];
    NewJob const job = jobs_.at(index);
    append_integer<std::int16_t>(buffer_, 6);
    append_integer<std::int32_t>(buffer_, 8);
    append_integer(buffer_, ids_[index]);
    append_integer<std::int32_t>(buffer_, 8);
    append_integer(buffer_, lanes_[next_]);
    bool const is_bytes = job.payload != nullptr && job.payload->is_bytes();
    bool const is_json = job.payload != nullptr && job.payload->is_json();
    if (is_json) {
      append_jsonb(buffer_, job.payload->data());
    } else {
      append_null(buffer_);
    }
    if (is_bytes) {
      append_bytes(buffer_, job.payload->data());
    } else {
      append_null(buffer_);
    }
    if (job.headers.empty()) {
      append_null(buffer_);
    } else {
      append_jsonb(buffer_, job.headers);
    }
    if (job.max_attempts) {
      append_jsonb(buffer_, "{\"max_attempts\":" + std::to_string(*job.max_attempts) + "}");
    } else {
      append_null(buffer_);
    }
    ++next_;
  }

  JobList const& jobs_;
  std::vector<std::size_t> const& order_;   ///< indexes of the jobs to copy
  std::vector<std::int64_t> const& lanes_;  ///< of order_
  std::vector<std::int64_t> const& ids_;    ///< of all jobs
  std::string buffer_{};
  std::size_t next_ = 0;
  bool ended_ = false;
};

void reserve_ids(pg::Connection& connection, std::vector<std::size_t> const& order, std::vector<std::int64_t>& ids) {
  std::string const sql =
      "select pg_catalog.unnest(" + connection.quoted_schema() + ".reserve_ids($1::pg_catalog.int4))";
  for (std::size_t done = 0; done < order.size();) {
    std::size_t const want = std::min(reserve_at_once, order.size() - done);
    pg::Result const rows =
        connection.query(sql, pg::Params().int8(static_cast<std::int64_t>(want)), pg::Format::binary);
    if (static_cast<std::size_t>(rows.rows()) != want) {
      throw ServerError("the server reserved " + std::to_string(rows.rows()) + " ids instead of " +
                        std::to_string(want));
    }
    for (int row = 0; row < rows.rows(); ++row) ids[order[done++]] = rows.binary_int8(row, 0);
  }
}

/// Kind, queue, priority, and, where the kind's jobs are shared out by a header, the headers.
using Names = std::tuple<std::string_view, std::string_view, int, std::string_view>;
using Known = std::map<Names, std::int64_t>;

struct OpenLane {
  std::int64_t id = 0;
  bool by_header = false;
};

OpenLane open_lane(pg::Connection& connection, std::string const& schema, Names const& names) {
  auto const& [kind, queue, priority, headers] = names;
  pg::Params params;
  params.text(kind).text(queue).int8(priority);
  if (headers.empty()) {
    return {.id =
                connection.prepared("select " + schema + ".open_lane($1, $2, $3::pg_catalog.int4)", params).int8(0, 0)};
  }
  params.text(headers);
  auto const row = connection.prepared("select lane, pg_catalog.starts_with(fair_by, 'header:') from " + schema +
                                           ".open_lane_for($1, $2, $3::pg_catalog.int4, $4::pg_catalog.jsonb)",
                                       params);
  return {.id = row.int8(0, 0), .by_header = row.field(0, 1) == "t"};
}

}  // namespace

std::vector<EnqueueOutcome> copy_many(pg::Connection& connection, JobList const& jobs) {
  if (!connection.can_copy()) return enqueue_many(connection, jobs);
  for (std::size_t i = 0; i < jobs.size; ++i) {
    if (!jobs.at(i).depends_on_elements.empty()) return enqueue_many(connection, jobs);
  }
  std::string const schema = connection.quoted_schema();
  std::vector<std::int64_t> ids(jobs.size);
  std::optional<Block> block;
  if (!connection.in_transaction()) block.emplace(connection);
  // The server's limit is for one statement of usual size; the copy has a deadline of progress on our side.
  connection.script("set local statement_timeout = 0");

  std::vector<std::size_t> order;
  std::vector<std::size_t> later;
  std::vector<std::int64_t> lanes;
  order.reserve(jobs.size);
  lanes.reserve(jobs.size);
  Known known;
  Names last{{}, {}, std::numeric_limits<int>::min(), {}};
  std::int64_t last_lane = 0;
  bool many = false;
  std::map<std::string_view, bool> by_header;  // kinds whose jobs are shared out by a header
  for (std::size_t i = 0; i < jobs.size; ++i) {
    NewJob const job = jobs.at(i);
    if (job.deferred() || job.special()) {
      later.push_back(i);
      continue;
    }
    auto const fair = job.headers.empty() ? by_header.end() : by_header.find(job.kind);
    // A kind that nothing is known of is asked for with the headers at hand.
    bool const by = !job.headers.empty() && (fair == by_header.end() || fair->second);
    many = many || (by && known.size() >= most_lanes_copied);
    if (by && many) {
      later.push_back(i);  // and all that come after, so that those of a tenant stay in order
      continue;
    }
    Names key{job.kind, job.queue, job.priority, by ? job.headers : std::string_view{}};
    if (order.empty() || key != last) {
      auto it = known.find(key);
      if (it == known.end()) {
        auto const lane = open_lane(connection, schema, key);
        if (by && fair == by_header.end() && !(by_header[job.kind] = lane.by_header)) std::get<3>(key) = {};
        it = known.try_emplace(key, lane.id).first;
      }
      last = key;
      last_lane = it->second;
    }
    order.push_back(i);
    lanes.push_back(last_lane);
  }
  if (!order.empty()) {
    reserve_ids(connection, order, ids);
    connection.copy_in(
        "copy " + schema + ".job (id, lane, payload, payload_bytes, headers, options) from stdin (format binary)",
        Rows(jobs, order, lanes, ids));
    std::vector<std::int64_t> rung;
    for (auto const& [key, lane] : known) rung.push_back(lane);
    connection.query("select " + schema + ".ring(l) from pg_catalog.unnest($1::pg_catalog.int8[]) l",
                     pg::Params().int8_array(rung));
  }
  std::vector<EnqueueOutcome> outcomes(jobs.size);
  for (std::size_t i = 0; i < jobs.size; ++i) outcomes[i].id = ids[i];
  if (!later.empty()) {
    JobList const rest{later.size(), [&](std::size_t i) { return jobs.at(later[i]); }};
    std::vector<EnqueueOutcome> const more = enqueue_many(connection, rest);
    for (std::size_t i = 0; i < later.size(); ++i) outcomes[later[i]] = more[i];
  }
  if (block) block->commit();
  return outcomes;
}

}  // namespace posthouse::store
