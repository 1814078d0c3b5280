// SPDX-License-Identifier: Apache-2.0
// A database of its own for a user's test.
#include <unistd.h>

#include <posthouse/testing.hpp>

#include "testing/server.hpp"

namespace posthouse::testing {

Database::Database(std::string schema)
    : schema_(std::move(schema)),
      name_(Server::shared().create(schema_)),
      url_(Server::shared().url(name_)),
      owner_process_(::getpid()) {}

Database::~Database() {
  if (owner_process_ == ::getpid()) Server::shared().drop(name_);
}

DatabaseOptions Database::options() const {
  DatabaseOptions result;
  result.database_url = url_;
  result.schema = schema_;
  return result;
}

}  // namespace posthouse::testing
