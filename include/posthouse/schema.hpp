// SPDX-License-Identifier: Apache-2.0
// Install, upgrade, verify and remove the schema from a program.
//
// Thread safety: free functions, each with a connection of its own; safe to call from many processes at once.
#pragma once

#include <string>
#include <vector>

#include <posthouse/options.hpp>

namespace posthouse {

/// Creates the schema or brings it up to this version. True when anything changed. Concurrent calls are safe.
/// Throws Unavailable, SchemaMissing (the installed schema is newer than this program), ServerError.
bool install(DatabaseOptions const& database);

/// The SQL that install would run in a database without the schema, for people who review it first.
std::string install_sql(DatabaseOptions const& database);

/// What differs between the installed schema and this version, one sentence each; empty: none.
std::vector<std::string> verify(DatabaseOptions const& database);

/// Removes the schema with all jobs.
void uninstall(DatabaseOptions const& database);

/// Accepts a database that was restored or copied into another cluster: unfinished jobs get new positions and will
/// run; nothing is claimed before this.
void adopt(DatabaseOptions const& database);

}  // namespace posthouse
