// SPDX-License-Identifier: Apache-2.0
// The PostgreSQL server of a test process, and databases cloned from one that has the schema already.
//
// Shared: started at first use, gone with the process whatever way that ends. POSTHOUSE_TEST_SERVER_URL names a server
// to use instead; its role needs the right to create databases. Thread safety: every function may be called from any
// thread.
#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "dev/private_server.hpp"

namespace posthouse::testing {

/// The same server, another database. Takes a postgresql:// URL or key=value text.
std::string with_database(std::string const& url, std::string_view database);

class Server {
 public:
  /// A private server of one's own in a temporary folder. `durable`: as in production, for tests of crashes.
  /// `settings`: further lines for postgresql.conf.
  explicit Server(bool durable, std::string const& settings = {});
  /// A server that is there.
  explicit Server(std::string url) : external_url_(std::move(url)) {}
  ~Server();
  Server(Server const&) = delete;
  Server& operator=(Server const&) = delete;

  /// The server of this process.
  static Server& shared();

  [[nodiscard]] std::string url(std::string_view database = "postgres") const;
  /// Null for a server that is not ours.
  [[nodiscard]] dev::PrivateServer* control() noexcept { return own_ ? own_.get() : nullptr; }

  /// A new database; its name. With the schema installed under this name (cloned, so it takes some 40 ms).
  std::string create(std::string const& schema);
  std::string create_empty();
  /// Throws open connections out. Never throws: what is left goes with the server.
  void drop(std::string const& database) noexcept;

 private:
  std::string new_name();
  void run(std::string const& sql) const;
  std::string const& template_of(std::string const& schema);

  std::unique_ptr<dev::PrivateServer> own_{};
  std::string external_url_{};
  pid_t owner_ = 0;
  std::mutex mutex_{};
  std::map<std::string, std::string> templates_{};  ///< schema → database
  int made_ = 0;
};

}  // namespace posthouse::testing
