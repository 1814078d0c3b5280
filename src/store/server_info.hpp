// SPDX-License-Identifier: Apache-2.0
// What the server says of itself.
//
// Thread safety: as the Connection behind it, one thread at a time.
#pragma once

#include <cstdint>

#include "pg/connection.hpp"

namespace posthouse::store {

/// Bytes of WAL that the server has written since it was initialised.
std::int64_t wal_position(pg::Connection& connection);

}  // namespace posthouse::store
