// SPDX-License-Identifier: Apache-2.0
// Watching jobs until an attempt of them ends: session locks and LISTEN on a connection of its own.
//
// Thread safety: as the Connection behind it, one thread at a time.
#pragma once

#include <cstdint>
#include <span>

#include "pg/connection.hpp"

namespace posthouse::store {

/// Listens for jobs that are watched; a notification's payload is the job's id.
void listen_done(pg::Connection& connection);
/// Notifies itself; every listener ignores it. False: the server's queue of notifications fills up.
bool notify_done_self(pg::Connection& connection);
/// 1 to 1,000 ids. Each counts once for each time that it is named.
void watch_jobs(pg::Connection& connection, std::span<std::int64_t const> ids);
void unwatch_jobs(pg::Connection& connection, std::span<std::int64_t const> ids);

}  // namespace posthouse::store
