// SPDX-License-Identifier: Apache-2.0
// What to do about an error of the server: the one table from SQLSTATE to action.
//
// Thread safety: pure functions.
#pragma once

#include <string_view>

namespace posthouse::core {

enum class Action {
  retry,         ///< the same statement in a new transaction, at most 5 times, jittered
  reconnect,     ///< drop the connection; back off up to 5 s
  wrong_server,  ///< read-only: reconnect to another host, never retry here
  overloaded,    ///< back off, smaller batches
  storage,       ///< typed error, alert, slow retry
  caller,        ///< the caller's fault: no retry, typed error
  corruption,    ///< stop claiming, tell a human
  other
};

/// `connection_bad`: an established connection broke; it comes before any SQLSTATE, as libpq may hide that. While
/// connecting pass false, so that "too many connections" is told from a broken line. `message` tells PgBouncer's
/// query_wait_timeout from other protocol errors. 26000 and 42P05 are for those who have prepared again once in vain.
Action classify(std::string_view sqlstate, bool connection_bad, std::string_view message = {}) noexcept;

/// True for SQLSTATEs which say that nobody knows whether the statement took effect. A connection that is lost between
/// a statement and its answer leaves the same doubt without any SQLSTATE; the caller knows that alone.
bool outcome_unknown(std::string_view sqlstate) noexcept;

std::string_view to_string(Action action) noexcept;

}  // namespace posthouse::core
