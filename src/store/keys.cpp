// SPDX-License-Identifier: Apache-2.0
// See keys.hpp.
#include "store/keys.hpp"

#include "store/depends.hpp"

#include "store/admin_sql.hpp"

namespace posthouse::store {
namespace {

/// Columns 6 to 8 of what info_of reads.
std::string pace_columns() { return rfc3339("paused_at") + ", " + rfc3339("held_until") + ", " + rfc3339("free_at"); }

KeyInfo info_of(pg::Result const& rows, int row) {
  KeyInfo info{.kind = rows.text(row, 0), .key = rows.text(row, 1), .paused = rows.field(row, 2) == "t"};
  if (!rows.is_null(row, 3)) info.limit = rows.int8(row, 3);
  info.holders = numbers_in(rows.text(row, 4));
  info.parked = rows.int8(row, 5);
  info.paused_at = rows.maybe(row, 6);
  info.held_until = rows.maybe(row, 7);
  info.free_at = rows.maybe(row, 8);
  return info;
}

}  // namespace

std::vector<KeyInfo> Keys::list(std::string const& kind, int most) {
  auto const rows = connection_.query(
      "select kind, key, paused, \"limit\", pg_catalog.array_to_string(holders, ' '), parked, " + pace_columns() +
          ", " + rfc3339("since") + " from " + function("key_list(nullif($1, ''), $2::int)"),
      pg::Params().text(kind).int8(most));
  std::vector<KeyInfo> list;
  for (int row = 0; row < rows.rows(); ++row) {
    list.push_back(info_of(rows, row));
    list.back().since = rows.maybe(row, 9);
  }
  return list;
}

void Keys::pause(std::string const& kind, std::string const& key) {
  connection_.query("select " + function("pause_key($1, $2)"), pg::Params().text(kind).text(key));
}

void Keys::resume(std::string const& kind, std::string const& key) {
  connection_.query("select " + function("resume_key($1, $2)"), pg::Params().text(kind).text(key));
}

std::optional<KeyInfo> Keys::of_job(std::int64_t id) {
  auto const rows = connection_.query(
      "select kind, key, paused, \"limit\", pg_catalog.array_to_string(holders, ' '), ahead, " + pace_columns() +
          ", pg_catalog.trim_scale(per_second)::text from " + function("key_of_job($1)"),
      pg::Params().int8(id));
  if (rows.rows() == 0) return std::nullopt;
  auto info = info_of(rows, 0);
  info.per_second = rows.maybe(0, 9);
  return info;
}

std::vector<KeyHolder> Keys::holders(std::vector<std::int64_t> const& ids) {
  std::vector<KeyHolder> holders;
  for (auto const id : ids) {
    auto const rows =
        connection_.query("select state, worker from " + function("jobs where id = $1"), pg::Params().int8(id));
    if (rows.rows() == 0) continue;
    KeyHolder holder{.id = id, .state = rows.text(0, 0)};
    if (!rows.is_null(0, 1)) holder.worker = rows.int8(0, 1);
    holders.push_back(std::move(holder));
  }
  return holders;
}

}  // namespace posthouse::store
