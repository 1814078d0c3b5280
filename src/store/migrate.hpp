// SPDX-License-Identifier: Apache-2.0
// Brings the schema into a database, up to date and out again.
//
// Migrations are forward only and run once; functions and views are made anew whenever they differ from ours. All of it
// happens in one transaction under an advisory lock named after the schema, so that any number of installs may run at
// once and a killed one leaves nothing.
// Thread safety: as the Connection behind it, one thread at a time. The connection must not be inside a transaction.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "pg/connection.hpp"
#include "store/catalogue.hpp"

namespace posthouse::store {

struct InstallReport {
  bool changed = false;
  std::vector<std::string> applied{};   ///< names of migrations, and "functions"
  std::vector<std::string> warnings{};  ///< a newer, compatible schema was left as it is
  std::vector<Difference> left{};       ///< with Look::closely: what an upgrade does not mend
};

/// How an install finds out that there is nothing to do.
enum class Look {
  at_versions,  ///< the versions that the schema notes: one small read, for programs that install at each start
  closely       ///< compares as verify() does, and makes functions, views and rights anew where they differ
};

/// What is done once and remembered in the schema, so that every later install and upgrade keeps it up.
struct InstallExtras {
  bool roles = false;           ///< groups of rights, see install_roles() in SQL
  std::string broker_schema{};  ///< where the broker's names are put as well; empty: nowhere new
};

/// Throws SchemaMissing when the installed schema needs a newer program, InvalidArgument when the name is taken by
/// something else, ServerError for an older PostgreSQL than 14.
InstallReport install(pg::Connection& connection, InstallExtras const& extras = {}, Look look = Look::at_versions);

/// What installing into a database without the schema runs; psql takes it as it is.
std::string install_sql(std::string_view schema, InstallExtras const& extras = {});
/// The same for what is missing or differs in this database, as install() with Look::closely; empty when nothing is.
std::string upgrade_sql(pg::Connection& connection);
std::string uninstall_sql(std::string_view schema);

/// Compares with a schema that is installed under another name and rolled back.
std::vector<Difference> verify(pg::Connection& connection);
/// The same as SQL that psql takes as it is: one row a difference, and nothing stays.
std::string verify_sql(std::string_view schema);

/// Throws SchemaMissing when there is no schema of ours by that name.
void uninstall(pg::Connection& connection);

/// For a program that needs the schema for itself: false when another session has it so. Held until the session ends.
bool reserve_schema(pg::Connection& connection);

/// For programs that start: throws SchemaMissing when the schema is absent, older than this program or needs a newer
/// one; returns warnings about a newer, compatible one.
std::vector<std::string> check_version(pg::Connection& connection);

void adopt(pg::Connection& connection);

/// The installed schema as text, for the golden test.
std::string describe_schema(pg::Connection& connection);

}  // namespace posthouse::store
