// SPDX-License-Identifier: Apache-2.0
// What is wrong with a schema and its server, as the server and a client of it see it.
//
// Thread safety: as the Connection, one thread at a time.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "pg/connection.hpp"

namespace posthouse::store {

struct Finding {
  std::string subject{};
  std::string level{};  ///< error, warning or notice
  std::string finding{};
  std::string mend{};
};

/// The SQL function doctor(): worst first.
std::vector<Finding> doctor(pg::Connection& connection);

/// What connections of this role may take of the server.
struct Room {
  std::int64_t free = 0;  ///< the least that the server, the database and the role leave
  std::int64_t most = 0;  ///< of which: max_connections without the reserved ones, or a lower limit
  std::string limit{};    ///< in words: where `most` comes from, and what is in use
};
Room room(pg::Connection& connection);

/// How this connection goes.
struct Transport {
  bool remote = false;  ///< over a network
  bool encrypted = false;
};
Transport transport(pg::Connection& connection);

/// Whether a NOTIFY of `sender` arrives at `session` within the time.
bool hears(pg::Connection& session, pg::Connection& sender, std::chrono::milliseconds within);

}  // namespace posthouse::store
