// SPDX-License-Identifier: Apache-2.0
#include "dev/private_server.hpp"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <system_error>
#include <thread>
#include <utility>

#include <posthouse/error.hpp>

#include "dev/folder.hpp"
#include "dev/guard.hpp"

namespace posthouse::dev {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr int port = 5432;
constexpr std::string_view superuser = "postgres";

// What this class makes in its folder.
bool is_ours(std::string_view name) {
  return name == "data" || name == "data.new" || name == "server.log" || name == "server.log.old" || name == "lock" ||
         name == "socket_folder" || name.starts_with(".s.PGSQL.");
}

/// sun_path holds 108 bytes, the last of them zero; characters that are special in postgresql.conf or in a list of
/// folders are not worth the quoting.
bool fits_socket(fs::path const& folder) {
  auto const text = folder.string();
  constexpr std::string_view plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+~=";
  return text.size() + std::strlen("/.s.PGSQL.5432") <= 107 && text.find_first_not_of(plain) == std::string::npos;
}

std::vector<std::string> lines_of(fs::path const& file) {
  std::vector<std::string> lines;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

/// True when `pid` runs with `data` among its arguments. Where /proc hides that, a living process is taken for ours.
bool serves(pid_t pid, fs::path const& data) {
  if (!alive(pid)) return false;
  std::ifstream in("/proc/" + std::to_string(pid) + "/cmdline", std::ios::binary);
  if (!in) return true;
  std::string const arguments{std::istreambuf_iterator<char>(in), {}};
  return arguments.find('\0' + data.string() + '\0') != std::string::npos;
}

std::optional<int> cluster_version(fs::path const& data) {
  auto const lines = lines_of(data / "PG_VERSION");
  if (lines.empty()) return std::nullopt;
  return std::atoi(lines.front().c_str());
}

/// C.UTF-8 sorts by bytes and knows UTF-8; C does the first alone, where the system lacks the other.
std::string locale_name() {
  locale_t const locale = ::newlocale(LC_ALL_MASK, "C.UTF-8", static_cast<locale_t>(nullptr));
  if (locale == static_cast<locale_t>(nullptr)) return "C";
  ::freelocale(locale);
  return "C.UTF-8";
}

std::string percent_encoded(std::string_view text) {
  constexpr std::string_view safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
  constexpr char const* digits = "0123456789ABCDEF";
  std::string result;
  for (char const c : text) {
    if (safe.find(c) != std::string_view::npos) {
      result += c;
    } else {
      auto const byte = static_cast<unsigned char>(c);
      result += {'%', digits[byte >> 4U], digits[byte & 15U]};
    }
  }
  return result;
}

}  // namespace

std::string socket_url(fs::path const& socket_folder, int socket_port, std::string_view database) {
  return "postgresql://" + std::string(superuser) + "@/" + percent_encoded(database) +
         "?host=" + percent_encoded(socket_folder.string()) + "&port=" + std::to_string(socket_port);
}

PrivateServer::PrivateServer(ServerOptions options) : options_(std::move(options)), owner_process_(::getpid()) {
  if (!options_.folder.is_absolute()) {
    throw InvalidArgument("the folder of a private server must be an absolute path, not '" + options_.folder.string() +
                          "'");
  }
  // One name for one folder, however it is spelt: the server is recognised by its arguments.
  std::error_code error;
  auto const canonical = fs::weakly_canonical(options_.folder, error);
  if (!error) options_.folder = canonical;
  if (!options_.folder.has_filename()) options_.folder = options_.folder.parent_path();
}

PrivateServer::PrivateServer(PrivateServer&&) noexcept = default;

PrivateServer::~PrivateServer() {
  if (!guard_ || owner_process_ != ::getpid()) return;
  try {
    destroy();
  } catch (std::exception const&) {
    // The guard's shell, which leaves after this, kills and removes what is left.
  }
}

ServerStatus PrivateServer::status() const {
  ServerStatus result;
  std::error_code ignored;
  if (!fs::exists(data() / "PG_VERSION", ignored)) return result;
  result.state = ServerState::stopped;
  // pid, data folder, start time, port, socket folder, address, shared memory, state
  auto const lines = lines_of(data() / "postmaster.pid");
  if (lines.empty()) return result;
  auto const pid = static_cast<pid_t>(std::atoi(lines[0].c_str()));
  if (!serves(pid, data())) return result;
  result.state = ServerState::starting;
  result.pid = pid;
  if (lines.size() < 8 || !lines[7].starts_with("ready")) return result;
  result.state = ServerState::running;
  result.port = std::atoi(lines[3].c_str());
  result.socket_folder = lines[4];
  return result;
}

std::string PrivateServer::url(std::string_view database) const {
  auto const now = status();
  if (now.state != ServerState::running) {
    throw Unavailable("the private PostgreSQL in " + folder().string() + " is not running", {.hint = "start it first"});
  }
  return socket_url(now.socket_folder, now.port, database);
}

std::vector<pid_t> PrivateServer::processes() const {
  std::vector<pid_t> result;
  auto const now = status();
  if (now.pid == 0) return result;
  result.push_back(now.pid);
  std::error_code error;
  for (auto it = fs::directory_iterator("/proc", error); !error && it != fs::directory_iterator();
       it.increment(error)) {
    auto const pid = static_cast<pid_t>(std::atoi(it->path().filename().c_str()));
    if (pid <= 0) continue;
    std::ifstream stat(it->path() / "stat");
    std::string line;
    std::getline(stat, line);
    auto const after_name = line.rfind(") ");  // "pid (name) state parent …"
    if (after_name == std::string::npos || after_name + 4 >= line.size()) continue;
    if (std::atoi(line.c_str() + after_name + 4) == now.pid) result.push_back(pid);
  }
  return result;
}

bool PrivateServer::start() {
  if (status().state == ServerState::running) return false;
  prepare_folder();
  FolderLock const lock(folder() / "lock", as_, options_.start_timeout);
  auto const before = status();
  if (before.state == ServerState::running) return false;
  if (before.state == ServerState::starting) {  // its starter is gone, it is not
    auto const end = std::chrono::steady_clock::now() + options_.start_timeout;
    while (status().state == ServerState::starting) {
      if (std::chrono::steady_clock::now() >= end)
        throw Timeout("the PostgreSQL in " + folder().string() + " does not come up");
      std::this_thread::sleep_for(20ms);
    }
    if (status().state == ServerState::running) return false;
  }
  auto const version = cluster_version(data());
  auto const programs = options_.programs ? *options_.programs : find_programs(version);
  if (version && *version != programs.major) {
    throw InvalidArgument("the folder " + data().string() + " holds a PostgreSQL " + std::to_string(*version) +
                              " and the programs in " + programs.folder.string() + " are of version " +
                              std::to_string(programs.major),
                          {.hint = "use programs of that version, or remove the folder"});
  }
  if (options_.ephemeral && !guard_) guard_ = std::make_unique<Guard>(folder());
  if (!version) initialise(programs);
  auto const socket_folder = choose_socket_folder();
  // Nobody serves this folder. PostgreSQL itself would believe a stale file whose number is another process's by now.
  std::error_code ignored;
  fs::remove(data() / "postmaster.pid", ignored);
  fs::remove(socket_folder / (".s.PGSQL." + std::to_string(port)), ignored);
  fs::remove(socket_folder / (".s.PGSQL." + std::to_string(port) + ".lock"), ignored);
  write_settings(socket_folder);
  launch(programs);
  return true;
}

void PrivateServer::prepare_folder() {
  as_ = owner_identity(data());
  if (!as_) as_ = unprivileged_identity();
  make_private_folder(folder(), as_, is_ours);
}

void PrivateServer::initialise(Programs const& programs) {
  // Made beside and renamed, so that an initdb that was killed leaves nothing that looks like a cluster.
  auto const unfinished = folder() / "data.new";
  fs::remove_all(unfinished);
  SpawnOptions initdb;
  initdb.argv = {programs.program("initdb").string(),
                 "-D",
                 unfinished.string(),
                 "-U",
                 std::string(superuser),
                 "--auth-local=trust",
                 "--auth-host=reject",
                 "--encoding=UTF8",
                 "--locale=" + locale_name(),
                 "--lc-messages=C",
                 "--no-instructions"};
  if (options_.fast) initdb.argv.emplace_back("--no-sync");
  initdb.environment = plain_environment();
  initdb.as = as_;
  if (guard_) initdb.announce = guard_->announce();
  auto const result = run(initdb, 5min);
  if (guard_) guard_->forget();
  if (result.status != 0) {
    fs::remove_all(unfinished);
    throw Unavailable("initdb could not make a PostgreSQL cluster in " + folder().string() + ": " +
                      last_lines(result.output, 6));
  }
  fs::rename(unfinished, data());
  sync_folder(folder());
}

fs::path PrivateServer::choose_socket_folder() {
  if (fits_socket(folder())) return folder();
  // A short one elsewhere; remembered, so that a second start finds the same place.
  auto const note = folder() / "socket_folder";
  if (auto const lines = lines_of(note); !lines.empty() && is_private_folder(lines.front(), as_)) return lines.front();
  auto const made = make_short_folder(as_);
  write_file(note, made.string() + "\n", as_);
  return made;
}

void PrivateServer::write_settings(fs::path const& socket_folder) {
  std::string text =
      "# Written anew at each start. Settings of your own belong into custom.conf in this folder.\n"
      "listen_addresses = ''\n"
      "port = " +
      std::to_string(port) +
      "\n"
      "unix_socket_directories = '" +
      socket_folder.string() +
      "'\n"
      "unix_socket_permissions = 0700\n"
      "max_connections = 200\n"
      "max_prepared_transactions = 20\n"
      "shared_buffers = 128MB\n"
      "max_wal_size = 1GB\n"
      "dynamic_shared_memory_type = posix\n"
      "logging_collector = off\n"
      "log_destination = 'stderr'\n"
      "log_line_prefix = '%m [%p] %q%a '\n"
      "log_timezone = 'UTC'\n"
      "timezone = 'UTC'\n"
      "datestyle = 'iso, mdy'\n"
      "cluster_name = 'posthouse-dev'\n";
  text += options_.fast ? "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n"
                        : "fsync = on\nsynchronous_commit = on\nfull_page_writes = on\n";
  text += options_.settings;
  if (!text.ends_with('\n')) text += '\n';
  text += "include_if_exists = 'custom.conf'\n";
  write_file(data() / "postgresql.conf", text, as_);

  std::error_code error;
  if (auto const size = fs::file_size(log(), error); !error && size > 10U * 1024 * 1024) {
    fs::rename(log(), folder() / "server.log.old", error);
  }
}

void PrivateServer::launch(Programs const& programs) {
  auto const end = std::chrono::steady_clock::now() + options_.start_timeout;
  for (;;) {
    std::error_code error;
    auto const log_size = fs::file_size(log(), error);
    std::uintmax_t const offset = error ? 0 : log_size;

    SpawnOptions postgres;
    postgres.argv = {programs.program("postgres").string(), "-D", data().string()};
    postgres.environment = plain_environment();
    postgres.as = as_;
    postgres.log = log();
    if (guard_) postgres.announce = guard_->announce();
    pid_t const pid = spawn(postgres);
    for (;;) {
      bool const ended = !alive(pid);
      auto const now = status();
      if (now.state == ServerState::running && now.pid == pid) return;
      if (ended) break;
      if (std::chrono::steady_clock::now() >= end) {
        ::kill(pid, SIGQUIT);
        if (!wait_gone(pid, 10s)) ::kill(pid, SIGKILL);
        throw Timeout("the PostgreSQL in " + folder().string() + " did not come up in " +
                          std::to_string(options_.start_timeout.count() / 1000) + " s",
                      {.hint = "read " + log().string()});
      }
      std::this_thread::sleep_for(10ms);
    }
    if (guard_) guard_->forget();
    auto const said = log_after(offset);
    // Children of a postmaster that was killed are still on their way out.
    bool const again = said.find("shared memory block") != std::string::npos && std::chrono::steady_clock::now() < end;
    if (!again) {
      throw Unavailable("the PostgreSQL in " + folder().string() + " does not start: " + last_lines(said, 4),
                        {.hint = "read " + log().string()});
    }
    std::this_thread::sleep_for(100ms);
  }
}

bool PrivateServer::stop(StopMode mode) {
  std::error_code ignored;
  if (!fs::exists(folder() / "lock", ignored)) return false;  // never started
  FolderLock const lock(folder() / "lock", as_, options_.start_timeout);
  auto const now = status();
  if (now.pid == 0) return false;
  bool gone = false;
  if (mode == StopMode::fast) {
    ::kill(now.pid, SIGINT);
    gone = wait_gone(now.pid, 60s);
  }
  if (!gone) {
    if (::kill(now.pid, SIGQUIT) != 0 && errno == EPERM) {
      throw Unavailable(
          "no right to stop the PostgreSQL in " + folder().string() + " (process " + std::to_string(now.pid) + ")",
          {.hint = "call this as the user who started it"});
    }
    ::kill(now.pid, SIGCONT);
    gone = wait_gone(now.pid, 20s);
  }
  if (!gone) {
    for (pid_t const pid : processes()) ::kill(pid, SIGKILL);
    wait_gone(now.pid, 10s);
  }
  if (guard_) guard_->forget();
  return true;
}

void PrivateServer::kill() {
  auto const all = processes();
  for (pid_t const pid : all) ::kill(pid, SIGKILL);
  for (pid_t const pid : all) wait_gone(pid, 10s);
  if (guard_) guard_->forget();
}

void PrivateServer::destroy() {
  stop(StopMode::immediate);
  std::error_code error;
  if (auto const lines = lines_of(folder() / "socket_folder");
      !lines.empty() && is_private_folder(lines.front(), as_)) {
    fs::remove_all(lines.front(), error);
  }
  std::vector<fs::path> made;
  for (auto it = fs::directory_iterator(folder(), error); !error && it != fs::directory_iterator();
       it.increment(error)) {
    if (is_ours(it->path().filename().string())) made.push_back(it->path());
  }
  for (auto const& path : made) fs::remove_all(path, error);
  fs::remove(folder(), error);  // stays when it holds something else
}

std::string PrivateServer::log_after(std::uintmax_t offset) const {
  std::ifstream in(log(), std::ios::binary);
  in.seekg(static_cast<std::streamoff>(offset));
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace posthouse::dev
