// SPDX-License-Identifier: Apache-2.0
// A second server of the same cluster: a streaming standby, or a copy; to be promoted.
//
// Gone with the process, killed or not. Thread safety: one thread at a time.
#pragma once

#include <memory>
#include <string>

#include "dev/private_server.hpp"
#include "support/server.hpp"

namespace posthouse::test {

class Twin {
 public:
  /// By pg_basebackup from a running primary, which it follows from then on.
  static Twin streaming(TestServer& primary) { return Twin(primary, true); }
  /// A copy of a stopped server, as a standby that follows nobody.
  static Twin copy(TestServer& stopped) { return Twin(stopped, false); }

  [[nodiscard]] std::string url(std::string_view database = "postgres") const { return server_->url(database); }
  [[nodiscard]] dev::PrivateServer& server() noexcept { return *server_; }
  /// Returns when it takes writes.
  void promote() const;

 private:
  Twin(TestServer& of, bool streams);

  std::unique_ptr<dev::PrivateServer> server_;
};

/// One URL of both, in this order, for a server that takes writes.
std::string either(std::string const& first, std::string const& second);

}  // namespace posthouse::test
