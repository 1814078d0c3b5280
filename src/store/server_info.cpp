// SPDX-License-Identifier: Apache-2.0
#include "store/server_info.hpp"

namespace posthouse::store {

std::int64_t wal_position(pg::Connection& connection) {
  return connection.query("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::int8").int8(0, 0);
}

}  // namespace posthouse::store
