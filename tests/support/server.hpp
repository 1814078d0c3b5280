// SPDX-License-Identifier: Apache-2.0
// PostgreSQL servers for tests: a fast one that the whole program shares, and durable ones to crash.
//
//   TestServer::shared().url("postgres")       // POSTHOUSE_TEST_SERVER_URL instead, when that is set
//   TestServer durable{TestServer::durable};   // its own, for restarts and kills
// Both end with the process, killed or not.
// Thread safety: every function may be called from any thread; crash and restart from one at a time.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "testing/server.hpp"

namespace posthouse::test {

class TestServer {
 public:
  enum Durable { durable };

  static TestServer& shared();

  /// Keeps what was committed through crashes of its processes, though not of the machine. `settings`: further lines
  /// for postgresql.conf.
  explicit TestServer(Durable, std::string const& settings = {});

  [[nodiscard]] std::string url(std::string_view database = "postgres") const { return server_->url(database); }
  [[nodiscard]] testing::Server& databases() noexcept { return *server_; }

  // Only on a server of one's own; each throws on the shared one.
  void restart_immediate();  ///< as `pg_ctl restart -m immediate`: connections are lost, recovery runs
  void crash();              ///< kill -9 to every process of it; start() brings it back
  void stop();               ///< orderly
  void start();
  void freeze();  ///< SIGSTOP to every process of it: it neither answers nor closes
  void thaw();
  [[nodiscard]] int postmaster() const;  ///< its process id, 0 when it does not run

 private:
  explicit TestServer(testing::Server& shared) : server_(&shared) {}
  dev::PrivateServer& own() const;

  std::unique_ptr<testing::Server> own_{};
  testing::Server* server_;
};

}  // namespace posthouse::test
