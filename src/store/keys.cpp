// SPDX-License-Identifier: Apache-2.0
// See keys.hpp.
#include "store/keys.hpp"

#include "store/depends.hpp"

namespace posthouse::store {
namespace {

KeyInfo info_of(pg::Result const& rows, int row) {
  KeyInfo info{.kind = rows.text(row, 0), .key = rows.text(row, 1), .paused = rows.field(row, 2) == "t"};
  if (!rows.is_null(row, 3)) info.limit = rows.int8(row, 3);
  info.holders = numbers_in(rows.text(row, 4));
  info.parked = rows.int8(row, 5);
  return info;
}

}  // namespace

std::vector<KeyInfo> Keys::list(std::string const& kind, int most) {
  auto const rows = connection_.query(
      "select kind, key, paused, \"limit\", pg_catalog.array_to_string(holders, ' '), parked, "
      "pg_catalog.to_char(since at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from " +
          function("key_list(nullif($1, ''), $2::int)"),
      pg::Params().text(kind).int8(most));
  std::vector<KeyInfo> list;
  for (int row = 0; row < rows.rows(); ++row) {
    list.push_back(info_of(rows, row));
    list.back().since = rows.maybe(row, 6);
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
  auto const rows =
      connection_.query("select kind, key, paused, \"limit\", pg_catalog.array_to_string(holders, ' '), ahead from " +
                            function("key_of_job($1)"),
                        pg::Params().int8(id));
  if (rows.rows() == 0) return std::nullopt;
  return info_of(rows, 0);
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
