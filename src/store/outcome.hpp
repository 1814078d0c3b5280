// SPDX-License-Identifier: Apache-2.0
// How jobs stand, and what they brought back.
//
// Thread safety: as the Connection behind it, one thread at a time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <posthouse/client.hpp>

#include "pg/connection.hpp"

namespace posthouse::store {

/// One an id, in order. A state "unknown" says: ask again.
std::vector<JobOutcome> outcomes(pg::Connection& connection, std::span<std::int64_t const> ids);

}  // namespace posthouse::store
