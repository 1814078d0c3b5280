// SPDX-License-Identifier: Apache-2.0
#include "support/database.hpp"

#include <unistd.h>

#include <utility>

#include "support/pooler.hpp"

namespace posthouse::test {

TestDatabase::TestDatabase(std::string schema, TestServer& server)
    : schema_(std::move(schema)),
      server_(server),
      name_(server.databases().create(schema_)),
      url_(server.url(name_)),
      owner_process_(::getpid()) {}

TestDatabase::TestDatabase(Empty /*tag*/, TestServer& server)
    : schema_("posthouse"),
      server_(server),
      name_(server.databases().create_empty()),
      url_(server.url(name_)),
      owner_process_(::getpid()) {}

TestDatabase::~TestDatabase() {
  if (owner_process_ == ::getpid()) server_.databases().drop(name_);
}

DatabaseOptions TestDatabase::options() const {
  DatabaseOptions result;
  result.database_url = url_;
  result.schema = schema_;
  if (&server_ == &TestServer::shared()) {
    if (auto const pooled = pooled_url(name_); !pooled.empty()) {
      result.database_url = pooled;
      result.session_database_url = url_;
      result.pgbouncer_transaction_mode = true;
    }
  }
  return result;
}

}  // namespace posthouse::test
