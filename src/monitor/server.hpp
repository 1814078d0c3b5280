// SPDX-License-Identifier: Apache-2.0
// The HTTP server behind `http.listen`: /healthz, /readyz and /metrics. Nothing here changes anything.
//
//   /healthz   200 while the process answers; its body is one line
//   /readyz    200 while at least one database is served, else 503; JSON that names each with its state and problem
//   /metrics   the text format of Prometheus
//
// GET and HEAD alone; no body is taken; requests must name a host that is allowed (Host header), which keeps pages in a
// browser from reading it through a name that they control. Databases are asked at most every few seconds, one at a time,
// by a thread of the monitor's own: a scrape never waits longer than scrape_wait, whatever state they are in.
// Thread safety: all members.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/log.hpp"
#include "monitor/source.hpp"

namespace posthouse::monitor {

struct Listen {
  std::string address{};                     ///< "127.0.0.1:9187", "[::1]:9187", "localhost:0" (a free port)
  bool allow_remote = false;                 ///< false: a host that is not loopback is refused
  std::vector<std::string> allowed_hosts{};  ///< beside localhost, loopback addresses and the host of `address`
};

/// Throws InvalidArgument when `listen` cannot be: no port, or not loopback without allow_remote.
void check(Listen const& listen);

class Server {
 public:
  static constexpr std::chrono::seconds fresh_for{5};  ///< what was asked of a database is used so long
  static constexpr std::chrono::milliseconds scrape_wait{2000};

  /// Listens when it returns. Throws InvalidArgument as check() does, and when the address cannot be used.
  Server(Listen listen, std::shared_ptr<Sources> sources, base::Log log);
  /// Answers what has begun, at most for a few seconds.
  ~Server();
  Server(Server const&) = delete;
  Server& operator=(Server const&) = delete;

  [[nodiscard]] int port() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace posthouse::monitor
