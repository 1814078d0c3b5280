// SPDX-License-Identifier: Apache-2.0
// See doctor.hpp.
#include "store/doctor.hpp"

#include <algorithm>

namespace posthouse::store {

std::vector<Finding> doctor(pg::Connection& connection) {
  auto const rows =
      connection.query("select subject, level, finding, mend from " + connection.quoted_schema() + ".doctor()");
  std::vector<Finding> findings;
  for (int row = 0; row < rows.rows(); ++row) {
    findings.push_back({rows.text(row, 0), rows.text(row, 1), rows.text(row, 2), rows.text(row, 3)});
  }
  return findings;
}

Room room(pg::Connection& connection) {
  // Of others' sessions a role without pg_read_all_stats sees database and user alone. Reserved slots: 16 and later know
  // a second kind of them.
  auto const rows = connection.query(
      "with a as (select s.datname = pg_catalog.current_database() as here, s.usesysid from "
      "pg_catalog.pg_stat_activity s"
      "  where coalesce(s.backend_type = 'client backend', s.datid is not null and s.usesysid is not null)), "
      "reserved as (select current_setting('superuser_reserved_connections')::bigint + "
      "  coalesce(current_setting('reserved_connections', true)::bigint, 0) as n), "
      "me as (select r.oid, r.rolconnlimit from pg_catalog.pg_roles r where r.rolname = current_user) "
      "select 1 as place, current_setting('max_connections')::bigint - r.n as most, (select count(*) from a) as taken, "
      "  'max_connections ' || current_setting('max_connections') || ', ' || r.n || ' reserved' as said from reserved "
      "r "
      "union all select 2, d.datconnlimit, (select count(*) from a where here), 'connection limit of the database' "
      "  from pg_catalog.pg_database d where d.datname = pg_catalog.current_database() and d.datconnlimit >= 0 "
      "union all select 3, me.rolconnlimit, (select count(*) from a where a.usesysid = me.oid), "
      "  'connection limit of the role' from me where me.rolconnlimit >= 0 "
      "order by place");
  Room room;
  for (int row = 0; row < rows.rows(); ++row) {
    auto const most = rows.int8(row, 1);
    auto const taken = rows.int8(row, 2);
    auto const free = std::max<std::int64_t>(0, most - taken);
    if (row > 0 && free >= room.free) continue;
    room = {.free = free, .most = most, .limit = rows.text(row, 3) + ", " + std::to_string(taken) + " in use"};
  }
  return room;
}

Transport transport(pg::Connection& connection) {
  auto const rows = connection.query(
      "select coalesce(not (pg_catalog.inet_client_addr() <<= '127.0.0.0/8' or pg_catalog.inet_client_addr() = '::1'), "
      "false), coalesce((select s.ssl from pg_catalog.pg_stat_ssl s where s.pid = pg_catalog.pg_backend_pid()), "
      "false)");
  return {.remote = rows.field(0, 0) == "t", .encrypted = rows.field(0, 1) == "t"};
}

bool hears(pg::Connection& session, pg::Connection& sender, std::chrono::milliseconds within) {
  auto const until = pg::Clock::now() + within;
  std::string const channel = "posthouse_doctor_" + std::to_string(session.backend_pid());
  session.script("listen " + session.quote_identifier(channel));
  sender.query("select pg_catalog.pg_notify($1, '')", pg::Params().text(channel));
  while (pg::Clock::now() < until) {
    for (auto const& notification : session.wait(-1, until)) {
      if (notification.channel == channel) return true;
    }
  }
  return false;
}

}  // namespace posthouse::store
