// SPDX-License-Identifier: Apache-2.0
// The one development server of a user: what `posthouse dev` starts, and how every other command finds it.
//
// A note in a well-known folder, $POSTHOUSE_DEV_HOME or $XDG_STATE_HOME/posthouse/dev or ~/.local/state/posthouse/dev,
// names the server's folder; whether it runs is read from the server's own files. Data outlive a stop.
// Thread safety: free functions, callable from any thread and from several processes at once.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace posthouse::dev {

struct DevOptions {
  std::filesystem::path folder{};  ///< for the data; empty: the one of before, or one in dev_home(); relative: below
                                   ///< the working folder
  bool fast = false;               ///< no fsync: quicker, and not for data that matter
};

/// What became of a start.
struct DevStart {
  std::string url{};
  std::filesystem::path folder{};
  bool started = false;  ///< false: it ran already
};

/// Throws Unavailable when neither POSTHOUSE_DEV_HOME, XDG_STATE_HOME, HOME nor the user database names a folder.
std::filesystem::path dev_home();

/// Starts the development server, or finds it running. Throws Unavailable with the mend (no PostgreSQL on this machine,
/// no room, …) and InvalidArgument (a folder that cannot be used, another one runs).
DevStart dev_start(DevOptions const& options = {});

/// Stops it; the data stay. False: it was not running.
bool dev_stop();

/// Stops it and removes its data. False: there was none.
bool dev_remove();

/// The URL of the running development server. Throws Unavailable that names the command to start it.
std::string dev_url();

/// The same for callers who can go on without; nullopt when it does not run. Never throws for a damaged note.
std::optional<std::string> running_dev_url();

/// The program and arguments of an interactive psql on it, `more` appended. Throws as dev_url(), and when there is no
/// psql on this machine.
std::vector<std::string> dev_psql_argv(std::vector<std::string> const& more = {});

}  // namespace posthouse::dev
