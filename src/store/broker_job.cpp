// SPDX-License-Identifier: Apache-2.0
#include "store/broker_job.hpp"

namespace posthouse::store {

std::optional<BrokerJobInfo> broker_job(pg::Connection& connection, std::int64_t job) {
  auto const row = connection.query("select name, statement, run_as, made_by, user_login, schedule from " +
                                        connection.quoted_schema() + ".broker_job where job = $1",
                                    pg::Params().int8(job));
  if (row.rows() == 0) return std::nullopt;
  BrokerJobInfo info{.name = row.text(0, 0),
                     .statement = row.text(0, 1),
                     .run_as = row.maybe(0, 2),
                     .made_by = row.text(0, 3),
                     .user_login = row.maybe(0, 4)};
  if (!row.is_null(0, 5)) info.schedule = row.int8(0, 5);
  return info;
}

BrokerJob broker_start(pg::Connection& connection, std::int64_t job) {
  auto const row =
      connection.query("select b.name, b.statement, b.run_as, b.user_login, b.is_own_login, b.problem from " +
                           connection.quoted_schema() + ".broker_start($1) b",
                       pg::Params().int8(job));
  return {.name = row.text(0, 0),
          .statement = row.text(0, 1),
          .run_as = row.text(0, 2),
          .user_login = row.text(0, 3),
          .is_own_login = row.field(0, 4) == "t",
          .problem = row.text(0, 5)};
}

std::string session_user(pg::Connection& connection) {
  return connection.query("select session_user::pg_catalog.text").text(0, 0);
}

std::string transaction_id(pg::Connection& connection) {
  return connection.query("select pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text").text(0, 0);
}

}  // namespace posthouse::store
