// SPDX-License-Identifier: Apache-2.0
// From an error of the server or of libpq to a typed exception.
//
// Thread safety: free functions.
#pragma once

#include <string>
#include <string_view>

struct pg_result;
struct pg_conn;

namespace posthouse::pg {

/// What the server said, taken out of a result.
struct ServerMessage {
  std::string sqlstate{};
  std::string text{};     ///< primary message
  std::string detail{};   ///< DETAIL and HINT as one text
  std::string context{};  ///< position and context, a line each
};

ServerMessage message_of(pg_result const* result);

/// Throws the exception that fits. A broken connection decides first, the SQLSTATE second. `schema` is ours: its
/// absence gets a message that names the command which mends it.
[[noreturn]] void throw_error(ServerMessage message, bool connection_bad, bool in_doubt, std::string_view schema);

}  // namespace posthouse::pg
