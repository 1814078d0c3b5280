// SPDX-License-Identifier: Apache-2.0
// The public functions of schema.hpp: a connection of its own for each call.
#include <posthouse/schema.hpp>

#include "pg/connection.hpp"
#include "store/migrate.hpp"

namespace posthouse {

bool install(DatabaseOptions const& database) { return store::install(*pg::Connection::open(database)).changed; }

std::string install_sql(DatabaseOptions const& database) { return store::install_sql(database.schema); }

std::vector<std::string> verify(DatabaseOptions const& database) {
  return store::sentences(store::verify(*pg::Connection::open(database)));
}

void uninstall(DatabaseOptions const& database) { store::uninstall(*pg::Connection::open(database)); }

void adopt(DatabaseOptions const& database) { store::adopt(*pg::Connection::open(database)); }

}  // namespace posthouse
