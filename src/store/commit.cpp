// SPDX-License-Identifier: Apache-2.0
#include "store/commit.hpp"

#include "store/block.hpp"

namespace posthouse::store {

void in_known_transaction(pg::Connection& connection, std::string& transaction, std::function<void()> const& work) {
  transaction.clear();
  Block block(connection);
  work();
  transaction = connection.query("select pg_catalog.pg_current_xact_id()::text").text(0, 0);
  block.commit();
}

Fate fate_of(pg::Connection& connection, std::string const& transaction) {
  pg::Result const rows =
      connection.query("select pg_catalog.pg_xact_status($1::pg_catalog.xid8)", pg::Params().text(transaction));
  if (rows.is_null(0, 0)) return Fate::unknown;
  if (rows.field(0, 0) == "committed") return Fate::committed;
  if (rows.field(0, 0) == "aborted") return Fate::aborted;
  return Fate::in_progress;
}

}  // namespace posthouse::store
