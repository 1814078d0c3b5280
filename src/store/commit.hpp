// SPDX-License-Identifier: Apache-2.0
// What became of a transaction whose COMMIT was not answered.
//
// Thread safety: as the Connection behind it, one thread at a time.
#pragma once

#include <functional>
#include <string>

#include "pg/connection.hpp"

namespace posthouse::store {

enum class Fate { committed, aborted, in_progress, unknown };

/// Runs `work` in a transaction of the connection and commits. `transaction` is its id as soon as only the COMMIT is
/// missing, to ask for its fate when that is in doubt; empty before.
void in_known_transaction(pg::Connection& connection, std::string& transaction, std::function<void()> const& work);

/// Asked on another connection to the same server; `unknown` when it is too old or the server does not know it.
Fate fate_of(pg::Connection& connection, std::string const& transaction);

}  // namespace posthouse::store
