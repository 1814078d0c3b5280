// SPDX-License-Identifier: Apache-2.0
// A database for one test: cloned from a template that has the schema, dropped with the object.
//
//   class ClaimTest : public DatabaseTest {};
//   TEST_F(ClaimTest, …) { sql.exec("select posthouse.enqueue('k')"); Client client{{.database_url = url()}}; … }
// Thread safety: every function may be called from any thread.
#pragma once

#include <gtest/gtest.h>

#include <posthouse/options.hpp>
#include <string>

#include "support/server.hpp"
#include "support/sql.hpp"

namespace posthouse::test {

class TestDatabase {
 public:
  enum Empty { empty };

  /// With the schema, under this name.
  explicit TestDatabase(std::string schema = "posthouse", TestServer& server = TestServer::shared());
  /// Without any schema.
  explicit TestDatabase(Empty, TestServer& server = TestServer::shared());
  ~TestDatabase();
  TestDatabase(TestDatabase const&) = delete;
  TestDatabase& operator=(TestDatabase const&) = delete;

  /// Stays the same when the server is restarted.
  [[nodiscard]] std::string const& url() const noexcept { return url_; }
  [[nodiscard]] std::string const& name() const noexcept { return name_; }
  [[nodiscard]] std::string const& schema() const noexcept { return schema_; }
  /// As producers and workers reach it: with POSTHOUSE_TEST_POOLER=N through a PgBouncer in transaction mode with N server
  /// connections (LISTEN alone goes to the server itself); else as url(). A server of the test's own has no pooler.
  [[nodiscard]] DatabaseOptions options() const;
  /// A new connection.
  [[nodiscard]] Sql connect() const { return Sql(url_); }

 private:
  std::string schema_;
  TestServer& server_;
  std::string name_;
  std::string url_;
  int owner_process_;
};

/// A database, and a connection to it, for each test.
class DatabaseTest : public ::testing::Test {
 protected:
  [[nodiscard]] std::string const& url() const noexcept { return database.url(); }
  [[nodiscard]] DatabaseOptions options() const { return database.options(); }

  TestDatabase database{};
  Sql sql{database.url()};
};

}  // namespace posthouse::test
