// SPDX-License-Identifier: Apache-2.0
// Which broker serves a database. See sql/functions/24_broker_instance.sql.
//
// Thread safety: as the Connection behind it, one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "pg/connection.hpp"

namespace posthouse::store {

struct BrokerRegistration {
  std::string name{}, host{}, version{};
  int pid = 0;
  int queue_count = 0;
};

struct BrokerInstance {
  std::int64_t id = 0;
  std::string name{}, host{}, version{}, status{};
  int pid = 0;
  int queue_count = 0;
  std::string started_at{}, last_ping_at{};  ///< RFC 3339
};

class BrokerInstances {
 public:
  explicit BrokerInstances(pg::Connection& connection) noexcept : connection_(connection) {}

  /// Throws ServerError with SQLSTATE 55006 that names the holder while another one is alive.
  std::int64_t register_instance(BrokerRegistration const& registration);
  /// False: it is not the broker any more. `hold_session`: the end of this connection means its end.
  bool ping(std::int64_t id, bool hold_session, int queue_count);
  bool shut_down(std::int64_t id);
  /// The one that holds the database, dead or alive.
  std::optional<BrokerInstance> current();

 private:
  pg::Connection& connection_;
};

}  // namespace posthouse::store
