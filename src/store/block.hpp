// SPDX-License-Identifier: Apache-2.0
// Small parts that several files of this room share: a transaction as a scope, and reading an id. Private to src/store.
//
// Thread safety: as the connection, one thread at a time.
#pragma once

#include <charconv>
#include <cstdint>
#include <vector>

#include <posthouse/error.hpp>
#include <posthouse/transaction.hpp>

#include "pg/connection.hpp"

namespace posthouse::store {

/// A transaction that is rolled back unless committed.
class Block {
 public:
  explicit Block(pg::Connection& connection) : connection_(connection) { connection_.begin(); }
  Block(Block const&) = delete;
  Block& operator=(Block const&) = delete;
  ~Block() {
    if (!committed_) connection_.rollback();
  }
  void commit() {
    connection_.commit();
    committed_ = true;
  }

 private:
  pg::Connection& connection_;
  bool committed_ = false;
};

/// The one bigint that an Executor brought back.
inline std::int64_t parse_id(std::vector<Executor::Row> const& rows) {
  if (!rows.empty() && !rows.front().empty() && rows.front().front()) {
    std::string const& text = *rows.front().front();
    std::int64_t value = 0;
    auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error == std::errc() && end == text.data() + text.size()) return value;
  }
  throw ServerError("the server sent no job id back",
                    {.sqlstate = {}, .in_doubt = true, .hint = "check that schema and program are of one version"});
}

}  // namespace posthouse::store
