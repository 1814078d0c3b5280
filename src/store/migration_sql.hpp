// SPDX-License-Identifier: Apache-2.0
// The SQL of the migrator in pieces: the program runs them one by one, --print-sql prints them in a row.
//
// Thread safety: pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace posthouse::store {

struct Migration {
  int version = 0;
  std::string_view name{};  ///< file name
  std::string_view text{};
  std::string checksum{};
  bool breaking = false;  ///< its first line is "-- breaking": programs that do not know it must not run
};

/// The embedded migrations, in order.
std::vector<Migration> const& known_migrations();
int known_version();
/// The newest breaking migration; programs that know less must not use the schema.
int breaking_version();
/// Of all files of functions together.
std::string const& functions_checksum();

/// Waits for other installs of the same schema; first statement of each transaction of the migrator.
std::string lock_sql(std::string_view schema);
/// Waits for installs alone: for those who only look.
std::string shared_lock_sql(std::string_view schema);
std::string create_sql(std::string_view schema);
/// Pins search_path and what DDL depends on; after create_sql.
std::string settings_sql(std::string_view schema);
/// Before the first migration.
std::string ledger_sql();
std::string apply_sql(Migration const& migration);
/// Makes functions and views anew, takes away old ones of ours and PUBLIC's rights, and notes the versions.
std::string functions_sql(std::string_view schema);

/// Groups of rights, and the broker's names in another schema (empty: none).
std::string extras_sql(bool roles, std::string_view broker_schema);

/// Before the schema is dropped: what stands outside of it.
std::string unpublish_sql();

}  // namespace posthouse::store
