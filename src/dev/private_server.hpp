// SPDX-License-Identifier: Apache-2.0
// A PostgreSQL server of one's own in a folder: initialised, started, stopped, found again by any process.
//
// It listens on a Unix socket only. The socket's folder admits its owner (and root) alone, and whoever comes through is
// trusted. Called as root, everything runs as an unprivileged user, who owns the folder.
// What is known of a running server is read from its own postmaster.pid, so that a stale file, a crash and a server
// started by another process are all the same case.
// Thread safety: one thread at a time on an object; different processes may use one folder at once (start and stop
// take a lock file).
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dev/process.hpp"
#include "dev/programs.hpp"

namespace posthouse::dev {

/// Kills the server and removes its folder when this process is gone, however it ended. See guard.hpp.
class Guard;

struct ServerOptions {
  std::filesystem::path folder{};  ///< absolute; made when missing; must be empty or such a folder otherwise
  bool fast = false;       ///< no fsync, no synchronous commit: for tests, a crash of the machine ruins the data
  bool ephemeral = false;  ///< the server ends, and the folder goes, with this process, kill -9 included
  std::optional<Programs> programs{};                ///< nullopt: find_programs()
  std::string settings{};                            ///< further lines for postgresql.conf
  std::chrono::milliseconds start_timeout{120'000};  ///< crash recovery included
};

enum class ServerState { absent, stopped, starting, running };

struct ServerStatus {
  ServerState state = ServerState::absent;
  pid_t pid = 0;                          ///< of the postmaster, 0 unless starting or running
  std::filesystem::path socket_folder{};  ///< as above
  int port = 0;                           ///< part of the socket's name
};

enum class StopMode {
  fast,      ///< open transactions are rolled back, a checkpoint is written
  immediate  ///< as a crash: recovery at the next start
};

class PrivateServer {
 public:
  /// Touches nothing. Throws InvalidArgument when the folder's path is not absolute.
  explicit PrivateServer(ServerOptions options);
  /// Stops and removes an ephemeral server; leaves any other running.
  ~PrivateServer();
  PrivateServer(PrivateServer&&) noexcept;
  PrivateServer& operator=(PrivateServer&&) = delete;

  /// Initialises the folder if need be, and starts the server if it is not running; returns when it takes connections.
  /// True when this call started it.
  bool start();
  /// Stops it if it runs; returns when it has ended. True when there was one to stop.
  bool stop(StopMode mode = StopMode::fast);
  /// kill -9 to the postmaster and all its children, as in a power cut.
  void kill();
  /// Stops it and removes all that this class made in the folder, data included.
  void destroy();

  [[nodiscard]] ServerStatus status() const;
  /// The postmaster and its children, postmaster first; empty when it does not run.
  [[nodiscard]] std::vector<pid_t> processes() const;
  /// A URL of the running server. Throws Unavailable with the mend when it does not run.
  [[nodiscard]] std::string url(std::string_view database = "postgres") const;
  [[nodiscard]] std::filesystem::path const& folder() const noexcept { return options_.folder; }
  [[nodiscard]] std::filesystem::path data() const { return options_.folder / "data"; }
  [[nodiscard]] std::filesystem::path log() const { return options_.folder / "server.log"; }

 private:
  void prepare_folder();
  void initialise(Programs const& programs);
  std::filesystem::path choose_socket_folder();
  void write_settings(std::filesystem::path const& socket_folder);
  void launch(Programs const& programs);
  [[nodiscard]] std::string log_after(std::uintmax_t offset) const;

  ServerOptions options_;
  std::optional<Identity> as_{};  ///< who runs the programs, for root
  pid_t owner_process_;           ///< a forked child must not stop its parent's server
  std::unique_ptr<Guard> guard_{};
};

/// libpq's URL of a Unix socket. The user is always postgres, the cluster's one superuser.
std::string socket_url(std::filesystem::path const& socket_folder, int port, std::string_view database);

}  // namespace posthouse::dev
