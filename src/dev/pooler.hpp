// SPDX-License-Identifier: Apache-2.0
// A PgBouncer of one's own in transaction mode, for benchmarks and tests.
//
// It listens on a Unix socket in a private folder, admits everybody who gets there, and logs in to the server as one
// user. It ends with the object, and with the process, however that ends.
// Thread safety: one thread at a time.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "dev/guard.hpp"
#include "dev/process.hpp"

namespace posthouse::dev {

struct PoolerOptions {
  std::filesystem::path program{};
  std::string host{};  ///< of the server: a name, or the folder of its socket
  std::string port{};
  std::string user{};
  std::string password{};
  int pool_size = 4;  ///< server connections a database
};

/// PgBouncer on PATH or where packages put it; nullopt: it is not installed.
std::optional<std::filesystem::path> find_pgbouncer();

class Pooler {
 public:
  /// Returns when it takes connections. Throws Unavailable, with what it said.
  explicit Pooler(PoolerOptions const& options);
  ~Pooler();
  Pooler(Pooler const&) = delete;
  Pooler& operator=(Pooler const&) = delete;

  [[nodiscard]] std::filesystem::path const& socket_folder() const noexcept { return folder_; }
  [[nodiscard]] static constexpr int port() noexcept { return 6432; }
  /// To be signalled: SIGUSR1 pauses it, SIGUSR2 goes on.
  [[nodiscard]] int pid() const noexcept { return pid_; }
  /// As a crash does; its clients lose their connections.
  void kill();
  /// After kill(): as the constructor.
  void start();

 private:
  std::filesystem::path const program_;
  std::optional<Identity> as_{};  ///< to become, for root
  std::filesystem::path folder_{};
  std::unique_ptr<Guard> guard_{};
  int pid_ = 0;
  int owner_ = 0;  ///< a forked child's copy stops nothing
};

}  // namespace posthouse::dev
