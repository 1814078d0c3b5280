// SPDX-License-Identifier: Apache-2.0
// Where PostgreSQL's programs are on this machine.
//
// Thread safety: free functions, callable from any thread.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace posthouse::dev {

inline constexpr int oldest_postgresql = 14;

/// One installed PostgreSQL server.
struct Programs {
  std::filesystem::path folder{};  ///< holds postgres, initdb and mostly psql
  int major = 0;

  [[nodiscard]] std::filesystem::path program(std::string const& name) const { return folder / name; }
};

/// The folders to look in, best first: $POSTHOUSE_PG_BIN, that of `pg_config --bindir`, the usual places of packages
/// (newest first), and those on PATH.
std::vector<std::filesystem::path> program_folders();

/// The first folder that holds postgres and initdb of version 14 or later; of exactly `major` when given. Throws
/// Unavailable that names the package to install.
Programs find_programs(std::optional<int> major = std::nullopt);
Programs find_programs(std::optional<int> major, std::vector<std::filesystem::path> const& folders);

/// A program on PATH; nullopt: none.
std::optional<std::filesystem::path> find_on_path(std::string const& name);

}  // namespace posthouse::dev
