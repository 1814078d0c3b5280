// SPDX-License-Identifier: Apache-2.0
// How a daemon logs in as another role, to run that role's SQL jobs: databases[].run_as.ROLE of the configuration.
//
// Thread safety: plain values.
#pragma once

#include <map>
#include <string>

namespace posthouse::node {

/// One entry. An entry in which nothing is set counts as absent: the role's jobs fail, naming the key.
struct RunAsLogin {
  std::string password{};       ///< secret; not together with password_file
  std::string password_file{};  ///< read at each login; its first line is the password
  std::string sslcert{};        ///< client certificate, with sslkey
  std::string sslkey{};
  bool peer = false;  ///< no secret: the server knows the daemon's operating system user (pg_hba.conf: peer with a map)

  [[nodiscard]] bool empty() const noexcept {
    return password.empty() && password_file.empty() && sslcert.empty() && sslkey.empty() && !peer;
  }
};

/// By role name, as the server spells it.
using RunAsLogins = std::map<std::string, RunAsLogin, std::less<>>;

}  // namespace posthouse::node
