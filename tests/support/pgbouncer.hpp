// SPDX-License-Identifier: Apache-2.0
// A PgBouncer of one's own in transaction mode, on a Unix socket, to be killed and paused.
//
// Thread safety: one thread at a time.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "support/child_process.hpp"
#include "support/sql.hpp"

namespace posthouse::test {

class Pgbouncer {
 public:
  static bool installed();

  /// Before the server that `sql` is connected to, as its user. Returns when it answers.
  explicit Pgbouncer(Sql& sql, int pool_size = 4);
  ~Pgbouncer();
  Pgbouncer(Pgbouncer const&) = delete;
  Pgbouncer& operator=(Pgbouncer const&) = delete;

  [[nodiscard]] std::string url(std::string const& database) const;
  /// SIGUSR1 pauses it, SIGUSR2 goes on.
  void send(int signal) { process_->send(signal); }
  void kill();
  void start();

 private:
  std::filesystem::path folder_;
  std::string user_{};  ///< to become, for root
  std::unique_ptr<ChildProcess> process_;
};

}  // namespace posthouse::test
