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

}  // namespace

std::vector<EnqueueOutcome> copy_many(pg::Connection& connection, JobList const& jobs) {
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
  std::map<std::tuple<std::string_view, std::string_view, int>, std::int64_t> known;
  std::tuple<std::string_view, std::string_view, int> last{{}, {}, std::numeric_limits<int>::min()};
  std::int64_t last_lane = 0;
  for (std::size_t i = 0; i < jobs.size; ++i) {
    NewJob const job = jobs.at(i);
    if (job.deferred() || job.special()) {
      later.push_back(i);
      continue;
    }
    std::tuple const key{job.kind, job.queue, job.priority};
    if (order.empty() || key != last) {
      auto const [it, fresh] = known.try_emplace(key, 0);
      if (fresh) {
        it->second = connection
                         .prepared("select " + schema + ".open_lane($1, $2, $3::pg_catalog.int4)",
                                   pg::Params().text(job.kind).text(job.queue).int8(job.priority))
                         .int8(0, 0);
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
