// SPDX-License-Identifier: Apache-2.0
#include "support/pgbouncer.hpp"

#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <stdexcept>
#include <vector>

#include "support/eventually.hpp"

namespace posthouse::test {
namespace {

std::string program() {
  for (std::string const path : {"/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"}) {
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  return {};
}

}  // namespace

bool Pgbouncer::installed() { return !program().empty(); }

Pgbouncer::Pgbouncer(Sql& sql, int pool_size) {
  std::string pattern = (std::filesystem::temp_directory_path() / "posthouse-pooler-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no folder for a pooler");
  folder_ = pattern;
  auto const facts =
      sql.rows("select current_user, current_setting('unix_socket_directories'), current_setting('port')").at(0);
  std::ofstream(folder_ / "pgbouncer.ini")
      << "[databases]\n* = host=" << *facts[1] << " port=" << *facts[2] << " user=" << *facts[0]
      << "\n[pgbouncer]\nlisten_addr =\nlisten_port = 6432\nunix_socket_dir = " << folder_.string()
      << "\nunix_socket_mode = 0777\nauth_type = any\npool_mode = transaction\ndefault_pool_size = " << pool_size
      << "\nserver_reset_query =\nserver_login_retry = 1\n";
  struct stat owner {};
  if (::stat(facts[1]->c_str(), &owner) != 0) throw std::runtime_error("no socket folder");
  if (::geteuid() == 0) {
    // It refuses to run as root; the server's own user may reach the server's socket.
    passwd const* user = ::getpwuid(owner.st_uid == 0 ? 65534 : owner.st_uid);
    if (user == nullptr || ::chown(folder_.c_str(), user->pw_uid, user->pw_gid) != 0)
      throw std::runtime_error("no user for a pooler");
    user_ = user->pw_name;
  }
  start();
}

Pgbouncer::~Pgbouncer() {
  process_.reset();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

std::string Pgbouncer::url(std::string const& database) const {
  return "host=" + folder_.string() + " port=6432 user=anyone dbname=" + database;
}

void Pgbouncer::kill() {
  process_->kill();
  process_->wait();
  std::error_code ignored;
  std::filesystem::remove(folder_ / ".s.PGSQL.6432", ignored);
}

void Pgbouncer::start() {
  std::vector<std::string> argv{program()};
  if (!user_.empty()) argv.insert(argv.end(), {"-u", user_});
  argv.push_back((folder_ / "pgbouncer.ini").string());
  process_ = std::make_unique<ChildProcess>(argv);
  // Its socket is there before it listens.
  auto const answers = eventually([&] {
    try {
      Sql(url("postgres")).one("select 1");
      return true;
    } catch (SqlError const&) {
      return false;
    }
  });
  if (!answers) throw std::runtime_error("the pooler does not answer: " + process_->errors());
}

}  // namespace posthouse::test
