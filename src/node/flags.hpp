// SPDX-License-Identifier: Apache-2.0
// The command-line flags that every program of posthouse shares, and how such a program ends.
//
// Thread safety: one thread at a time.
#pragma once

#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "node/config.hpp"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace posthouse::node {

/// Exit statuses, the same for every command.
struct ExitStatus {
  static constexpr int done = 0;
  static constexpr int failed = 1;
  static constexpr int usage = 2;        ///< wrong usage or configuration
  static constexpr int difference = 3;   ///< verification found one
  static constexpr int unreachable = 4;  ///< the database
  static constexpr int unfinished = 5;   ///< `jobs wait`: the time was over first
};

struct GlobalFlags {
  std::optional<std::string> config{};
  std::optional<std::string> database_url{};
  std::optional<std::string> schema{};
  std::optional<std::string> log_level{};
  std::optional<std::string> log_format{};
  std::optional<std::string> database{};
};

/// An option that keeps an empty value apart from no value, which CLI11's own std::optional does not.
CLI::Option& add_text(CLI::App& app, std::string const& name, std::optional<std::string>& value,
                      std::string const& description, std::string const& type);

/// --config, --database, --database-url, --schema, --log-level, --log-format.
void add_global_flags(CLI::App& app, GlobalFlags& flags);

/// Those flags, the environment and the usual files as sources of the configuration.
Sources sources_of(GlobalFlags const& flags);

/// load() that prints warnings, and where the URL comes from when nobody wrote it down, to standard error.
Config load_and_tell(Sources const& sources);

/// Throws InvalidArgument that says how to name a database when there is none.
void require_url(Config const& config);

/// Runs `body` and maps what it throws to a message on standard error and an exit status. `app` is the parser that may
/// throw in it.
int guarded(CLI::App const& app, std::string_view program, std::function<int()> const& body);

}  // namespace posthouse::node
