// SPDX-License-Identifier: Apache-2.0
// See pooler.hpp.
#include "dev/pooler.hpp"

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <thread>

#include <posthouse/error.hpp>

#include "base/unique_fd.hpp"
#include "dev/folder.hpp"
#include "dev/process.hpp"
#include "dev/programs.hpp"

namespace posthouse::dev {

namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

constexpr auto start_within = 30s;

bool answers(fs::path const& socket) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  auto const path = socket.string();
  std::memcpy(address.sun_path, path.c_str(), std::min(path.size() + 1, sizeof address.sun_path - 1));
  base::UniqueFd const fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return ::connect(fd.get(), reinterpret_cast<sockaddr const*>(&address), sizeof address) == 0;
}

std::string quoted(std::string const& value) {
  std::string text = "'";
  for (char const c : value) text += c == '\'' ? std::string("''") : std::string(1, c);
  return text + "'";
}

}  // namespace

std::optional<fs::path> find_pgbouncer() {
  if (auto const found = find_on_path("pgbouncer")) return found;
  for (char const* path : {"/usr/sbin/pgbouncer", "/usr/local/sbin/pgbouncer"}) {
    if (::access(path, X_OK) == 0) return path;
  }
  return std::nullopt;
}

Pooler::Pooler(PoolerOptions const& options) : program_(options.program), owner_(::getpid()) {
  // It refuses to run as root; the owner of the server's socket gets to it.
  as_ = options.host.starts_with('/') ? owner_identity(options.host) : std::nullopt;
  if (!as_) as_ = unprivileged_identity();
  folder_ = make_short_folder(as_);
  guard_ = std::make_unique<Guard>(folder_);
  std::string server = "host=" + options.host + " port=" + options.port;
  if (!options.user.empty()) server += " user=" + quoted(options.user);
  if (!options.password.empty()) server += " password=" + quoted(options.password);
  write_file(
      folder_ / "pgbouncer.ini",
      "[databases]\n* = " + server + "\n[pgbouncer]\nlisten_addr =\nlisten_port = " + std::to_string(port()) +
          "\nunix_socket_dir = " + folder_.string() +
          "\nunix_socket_mode = 0777\nauth_type = any\npool_mode = transaction\nserver_reset_query =\n"
          "server_login_retry = 1\nmax_client_conn = 1000\nignore_startup_parameters = extra_float_digits,options\n"
          "default_pool_size = " +
          std::to_string(options.pool_size) + "\n",
      as_);
  start();
}

void Pooler::start() {
  auto const log = folder_ / "pooler.log";
  SpawnOptions spawned;
  spawned.argv = {program_.string(), (folder_ / "pgbouncer.ini").string()};
  spawned.environment = plain_environment();
  spawned.as = as_;
  spawned.log = log;
  spawned.announce = guard_->announce();
  pid_ = spawn(spawned);
  // Its socket is there before it listens.
  auto const socket = folder_ / (".s.PGSQL." + std::to_string(port()));
  for (auto const until = std::chrono::steady_clock::now() + start_within; !answers(socket);) {
    if (alive(pid_) && std::chrono::steady_clock::now() < until) {
      std::this_thread::sleep_for(5ms);
      continue;
    }
    std::ifstream file(log);
    std::string const said{std::istreambuf_iterator<char>(file), {}};
    throw Unavailable("PgBouncer did not start: " + last_lines(said, 3));
  }
}

void Pooler::kill() {
  ::kill(pid_, SIGKILL);
  wait_gone(pid_, 10s);
  std::error_code ignored;
  fs::remove(folder_ / (".s.PGSQL." + std::to_string(port())), ignored);
}

Pooler::~Pooler() {
  if (owner_ != ::getpid()) return;
  kill();
  guard_->forget();
}

}  // namespace posthouse::dev
