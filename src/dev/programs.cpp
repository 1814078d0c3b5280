// SPDX-License-Identifier: Apache-2.0
#include "dev/programs.hpp"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <functional>
#include <map>
#include <string_view>
#include <system_error>

#include <posthouse/error.hpp>

#include "dev/process.hpp"

namespace posthouse::dev {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

bool executable(fs::path const& file) {
  std::error_code ignored;
  return fs::is_regular_file(file, ignored) && ::access(file.c_str(), X_OK) == 0;
}

std::vector<fs::path> path_folders() {
  std::vector<fs::path> result;
  char const* const path = std::getenv("PATH");
  std::string_view rest = path != nullptr ? path : "";
  while (!rest.empty()) {
    auto const colon = rest.find(':');
    auto const one = rest.substr(0, colon);
    // An empty or relative entry means the working folder, which is no place to take a server from.
    if (one.starts_with('/')) result.emplace_back(one);
    rest = colon == std::string_view::npos ? std::string_view{} : rest.substr(colon + 1);
  }
  return result;
}

std::string trimmed(std::string text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) text.pop_back();
  return text;
}

/// "…/NAME<number>…/bin" below `parent`, highest number first.
void add_numbered(std::vector<fs::path>& result, fs::path const& parent, std::string_view prefix) {
  std::map<int, fs::path, std::greater<>> found;
  std::error_code error;
  for (auto it = fs::directory_iterator(parent, error); !error && it != fs::directory_iterator(); it.increment(error)) {
    std::string const name = it->path().filename().string();
    if (!name.starts_with(prefix)) continue;
    int const number = std::atoi(name.c_str() + prefix.size());
    if (number > 0) found.emplace(number, it->path() / "bin");
  }
  for (auto const& entry : found) result.push_back(entry.second);
}

/// 15 from "postgres (PostgreSQL) 15.4 (Debian …)"; 0 when the program does not say.
int major_of(fs::path const& postgres) {
  SpawnOptions options;
  options.argv = {postgres.string(), "--version"};
  options.environment = plain_environment();
  auto const said = run(options, 10s);
  auto const bracket = said.output.find(") ");
  if (said.status != 0 || bracket == std::string::npos) return 0;
  return std::atoi(said.output.c_str() + bracket + 2);
}

}  // namespace

std::optional<fs::path> find_on_path(std::string const& name) {
  for (auto const& folder : path_folders()) {
    if (executable(folder / name)) return folder / name;
  }
  return std::nullopt;
}

std::vector<fs::path> program_folders() {
  std::vector<fs::path> result;
  if (char const* chosen = std::getenv("POSTHOUSE_PG_BIN"); chosen != nullptr && *chosen == '/') {
    result.emplace_back(chosen);
  }
  if (auto const pg_config = find_on_path("pg_config")) {
    SpawnOptions options;
    options.argv = {pg_config->string(), "--bindir"};
    options.environment = plain_environment();
    auto const said = run(options, 10s);
    if (auto folder = trimmed(said.output); said.status == 0 && folder.starts_with('/')) result.emplace_back(folder);
  }
  add_numbered(result, "/usr/lib/postgresql", "");           // Debian, Ubuntu
  add_numbered(result, "/usr", "pgsql-");                    // packages of postgresql.org for RPM systems
  add_numbered(result, "/opt/homebrew/opt", "postgresql@");  // Homebrew
  result.emplace_back("/usr/local/pgsql/bin");               // built from source
  for (auto& folder : path_folders()) result.push_back(std::move(folder));

  std::vector<fs::path> unique;
  for (auto& folder : result) {
    if (std::find(unique.begin(), unique.end(), folder) == unique.end()) unique.push_back(std::move(folder));
  }
  return unique;
}

Programs find_programs(std::optional<int> major, std::vector<fs::path> const& folders) {
  std::string found;
  std::string looked;
  for (auto const& folder : folders) {
    looked += (looked.empty() ? "" : ", ") + folder.string();
    if (!executable(folder / "postgres") || !executable(folder / "initdb")) continue;
    int const version = major_of(folder / "postgres");
    if (version >= oldest_postgresql && (!major || *major == version)) return {folder, version};
    found += (found.empty() ? "" : ", ") + std::to_string(version) + " in " + folder.string();
  }
  std::string const wanted =
      major ? "of version " + std::to_string(*major) : "of version " + std::to_string(oldest_postgresql) + " or later";
  std::string const package = std::to_string(major.value_or(15));
  throw Unavailable(
      "no PostgreSQL server " + wanted + " on this machine (" +
          (found.empty() ? "looked for postgres and initdb in " + looked : "found " + found) + ")",
      {.hint = "install the package postgresql-" + package + " (Debian, Ubuntu: apt-get install postgresql-" + package +
               "; Fedora: dnf install postgresql-server), or put the folder that holds " +
               "postgres and initdb on PATH"});
}

Programs find_programs(std::optional<int> major) { return find_programs(major, program_folders()); }

}  // namespace posthouse::dev
