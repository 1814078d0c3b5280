// SPDX-License-Identifier: Apache-2.0
// See broker_instance.hpp.
#include "store/broker_instance.hpp"

#include "store/admin_sql.hpp"

namespace posthouse::store {

std::int64_t BrokerInstances::register_instance(BrokerRegistration const& registration) {
  return connection_
      .query("select " + connection_.quoted_schema() + ".broker_register_instance($1, $2, $3::int, $4, $5::int)",
             pg::Params()
                 .text(registration.name)
                 .text(registration.host)
                 .int8(registration.pid)
                 .text(registration.version)
                 .int8(registration.queue_count))
      .int8(0, 0);
}

bool BrokerInstances::ping(std::int64_t id, bool hold_session, int queue_count) {
  return connection_
             .prepared("select " + connection_.quoted_schema() + ".broker_ping_instance($1, $2::bool, $3::int)",
                       pg::Params().int8(id).text(hold_session ? "t" : "f").int8(queue_count))
             .field(0, 0) == "t";
}

bool BrokerInstances::shut_down(std::int64_t id) {
  return connection_
             .query("select " + connection_.quoted_schema() + ".broker_shutdown_instance($1)", pg::Params().int8(id))
             .field(0, 0) == "t";
}

std::optional<BrokerInstance> BrokerInstances::current() {
  auto const rows = connection_.query("select id, name, host, pid, version, queue_count, status, " +
                                      rfc3339("started_at") + ", " + rfc3339("last_ping_at") + " from " +
                                      connection_.quoted_schema() + ".broker_queueinstance where shutdown_at is null");
  if (rows.rows() == 0) return std::nullopt;
  return BrokerInstance{.id = rows.int8(0, 0),
                        .name = rows.text(0, 1),
                        .host = rows.text(0, 2),
                        .version = rows.text(0, 4),
                        .status = rows.text(0, 6),
                        .pid = static_cast<int>(rows.int8(0, 3)),
                        .queue_count = static_cast<int>(rows.int8(0, 5)),
                        .started_at = rows.text(0, 7),
                        .last_ping_at = rows.text(0, 8)};
}

}  // namespace posthouse::store
