// SPDX-License-Identifier: Apache-2.0
#include "dev/dev.hpp"

#include <pwd.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string_view>
#include <system_error>

#include <posthouse/error.hpp>

#include "dev/folder.hpp"
#include "dev/private_server.hpp"
#include "dev/programs.hpp"

namespace posthouse::dev {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

std::string_view variable(char const* name) {
  char const* const value = std::getenv(name);
  return value != nullptr ? std::string_view(value) : std::string_view();
}

fs::path note_file() { return dev_home() / "folder"; }

/// The folder of the last start; empty when there was none.
fs::path noted_folder() {
  std::ifstream in(note_file());
  std::string line;
  std::getline(in, line);
  return line.starts_with('/') ? fs::path(line) : fs::path();
}

/// FNV-1a: the same name for the same folder in every run of every build.
std::string short_hash(std::string_view text) {
  std::uint32_t hash = 2166136261U;
  for (char const c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  constexpr char const* digits = "0123456789abcdef";
  std::string result;
  for (int shift = 28; shift >= 0; shift -= 4) result += digits[(hash >> static_cast<unsigned>(shift)) & 15U];
  return result;
}

/// In dev_home(), or for root, whose home the server's user cannot enter, in a place of its own.
fs::path default_folder() {
  auto const home = dev_home();
  auto const as = unprivileged_identity();
  if (!as || reachable(home, as)) return home / "server";
  return fs::path("/var/lib/posthouse") / ("dev-" + short_hash(home.string()));
}

[[noreturn]] void not_running() {
  throw Unavailable("no development server is running", {.hint = "start one with: posthouse dev start"});
}

}  // namespace

fs::path dev_home() {
  if (auto const home = variable("POSTHOUSE_DEV_HOME"); !home.empty()) return fs::absolute(home).lexically_normal();
  if (auto const state = variable("XDG_STATE_HOME"); state.starts_with('/')) return fs::path(state) / "posthouse/dev";
  fs::path home = variable("HOME");
  if (!home.is_absolute()) {
    passwd const* const user = ::getpwuid(::geteuid());
    if (user != nullptr && user->pw_dir != nullptr) home = user->pw_dir;
  }
  if (!home.is_absolute()) {
    throw Unavailable("no home folder to keep a development server in",
                      {.hint = "set POSTHOUSE_DEV_HOME to a folder of your own"});
  }
  return home / ".local/state/posthouse/dev";
}

DevStart dev_start(DevOptions const& options) {
  auto const home = dev_home();
  std::error_code error;
  fs::create_directories(home, error);
  if (error) {
    throw Unavailable("cannot make the folder " + home.string() + ": " + error.message(),
                      {.hint = "set POSTHOUSE_DEV_HOME to a folder of your own"});
  }
  // Two starts at once: one note, one server.
  FolderLock const lock(home / "start.lock", std::nullopt, 3min);
  auto const noted = noted_folder();
  fs::path wanted = options.folder.empty() ? noted : fs::absolute(options.folder);
  if (wanted.empty()) wanted = default_folder();

  PrivateServer server({.folder = wanted, .fast = options.fast});
  if (!noted.empty() && noted != server.folder()) {
    if (PrivateServer const other({.folder = noted}); other.status().state == ServerState::running) {
      throw InvalidArgument("a development server runs already, in " + noted.string(),
                            {.hint = "use it, or stop it first with: posthouse dev stop"});
    }
  }
  bool const started = server.start();
  if (noted != server.folder()) write_file(note_file(), server.folder().string() + "\n", std::nullopt);
  return {server.url(), server.folder(), started};
}

bool dev_stop() {
  auto const folder = noted_folder();
  return !folder.empty() && PrivateServer({.folder = folder}).stop();
}

bool dev_remove() {
  auto const folder = noted_folder();
  if (folder.empty()) return false;
  PrivateServer({.folder = folder}).destroy();
  std::error_code ignored;
  fs::remove(note_file(), ignored);
  return true;
}

std::optional<std::string> running_dev_url() {
  try {
    auto const folder = noted_folder();
    if (folder.empty()) return std::nullopt;
    PrivateServer const server({.folder = folder});
    if (server.status().state != ServerState::running) return std::nullopt;
    return server.url();
  } catch (std::exception const&) {
    return std::nullopt;
  }
}

std::string dev_url() {
  auto url = running_dev_url();
  if (!url) not_running();
  return *url;
}

std::vector<std::string> dev_psql_argv(std::vector<std::string> const& more) {
  auto const url = dev_url();
  // The client that came with the server first: \d of an older one trips over newer catalogues.
  auto psql = find_programs().program("psql");
  if (::access(psql.c_str(), X_OK) != 0) {
    auto const found = find_on_path("psql");
    if (!found) {
      throw Unavailable("there is no psql on this machine",
                        {.hint = "install the package postgresql-client; the server's URL is " + url});
    }
    psql = *found;
  }
  std::vector<std::string> argv{psql.string(), url};
  argv.insert(argv.end(), more.begin(), more.end());
  return argv;
}

}  // namespace posthouse::dev
