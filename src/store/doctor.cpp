// SPDX-License-Identifier: Apache-2.0
// See doctor.hpp.
#include "store/doctor.hpp"

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
  auto const rows = connection.query(
      "select count(*) filter (where a.backend_type = 'client backend'), current_setting('max_connections')::bigint - "
      "current_setting('superuser_reserved_connections')::bigint from pg_catalog.pg_stat_activity a");
  return {.taken = rows.int8(0, 0), .most = rows.int8(0, 1)};
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
