// SPDX-License-Identifier: Apache-2.0
// See children.hpp; and what the children do.
#include "bench/children.hpp"

#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <system_error>

#include "bench/scenarios.hpp"

extern char** environ;

namespace posthouse::bench {

namespace {

using std::chrono::milliseconds;

constexpr char const* prefix = "POSTHOUSE_BENCH_";
constexpr double register_within_s = 30;
constexpr double leave_within_s = 30;
constexpr std::size_t most_said = 2000;

/// The database as variables; the names are without the prefix.
std::vector<std::pair<std::string, std::string>> variables_of(DatabaseOptions const& database) {
  return {{"PARENT", std::to_string(::getpid())},
          {"URL", database.database_url},
          {"SESSION_URL", database.session_database_url},
          {"SCHEMA", database.schema},
          {"APPLICATION", database.application_name},
          {"CONNECT_MS", std::to_string(database.connect_timeout.count())},
          {"STATEMENT_MS", std::to_string(database.statement_timeout.count())},
          {"POOLED", database.pgbouncer_transaction_mode ? "1" : "0"},
          {"KEEPALIVES", database.tcp_keepalives ? "1" : "0"},
          {"KEEPALIVES_IDLE", std::to_string(database.tcp_keepalives_idle)},
          {"KEEPALIVES_INTERVAL", std::to_string(database.tcp_keepalives_interval)},
          {"KEEPALIVES_COUNT", std::to_string(database.tcp_keepalives_count)}};
}

std::string variable(std::string const& name) {
  char const* const value = std::getenv((prefix + name).c_str());
  return value == nullptr ? "" : value;
}

int number(std::string const& name) { return static_cast<int>(std::strtol(variable(name).c_str(), nullptr, 10)); }

DatabaseOptions database_of_variables() {
  DatabaseOptions database;
  database.database_url = variable("URL");
  database.session_database_url = variable("SESSION_URL");
  database.schema = variable("SCHEMA");
  database.application_name = variable("APPLICATION");
  database.connect_timeout = milliseconds(number("CONNECT_MS"));
  database.statement_timeout = milliseconds(number("STATEMENT_MS"));
  database.pgbouncer_transaction_mode = number("POOLED") != 0;
  database.tcp_keepalives = number("KEEPALIVES") != 0;
  database.tcp_keepalives_idle = number("KEEPALIVES_IDLE");
  database.tcp_keepalives_interval = number("KEEPALIVES_INTERVAL");
  database.tcp_keepalives_count = number("KEEPALIVES_COUNT");
  return database;
}

std::string said_in(base::UniqueFd const& file) {
  std::string text(most_said, '\0');
  auto const size = ::lseek(file.get(), 0, SEEK_END);
  auto const from = std::max<off_t>(0, size - static_cast<off_t>(most_said));
  auto const got = ::pread(file.get(), text.data(), text.size(), from);
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.empty() ? "it said nothing" : "it said: " + text;
}

std::string ending(int status) {
  if (WIFSIGNALED(status)) return fmt::format("was killed by signal {}", WTERMSIG(status));
  return fmt::format("ended with status {}", WEXITSTATUS(status));
}

}  // namespace

Children::Children(Site& site, int count) : site_(site) {
  auto const registered = [&] {
    return site.sql().query("select count(*) from " + site.name("worker") + " where ended_at is null").int8(0, 0);
  };
  try {
    auto const goal = registered() + count;
    for (int n = 0; n < count; ++n) start(site);
    double const until = now_seconds() + register_within_s;
    while (registered() < goal) {
      check();
      if (now_seconds() > until) {
        throw Timeout(fmt::format("{} of {} worker processes have not registered within {} s; the first: {}",
                                  goal - registered(), count, register_within_s, said_in(children_.front().said)),
                      {.sqlstate = {},
                       .in_doubt = false,
                       .hint = "each needs three connections: look at max_connections of the server"});
      }
      site.interrupt().sleep(milliseconds(20));
    }
  } catch (...) {
    kill();
    throw;
  }
}

Children::~Children() { kill(); }

void Children::start(Site& site) {
  Child child;
  child.said.reset(::memfd_create("posthouse-bench", MFD_CLOEXEC));
  if (!child.said) throw std::system_error(errno, std::generic_category(), "memfd_create");
  std::vector<std::string> texts;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!std::string_view(*variable).starts_with(prefix)) texts.emplace_back(*variable);
  }
  for (auto const& [name, value] : variables_of(site.database())) texts.push_back(prefix + name + "=" + value);
  std::vector<char*> variables;
  for (auto& text : texts) variables.push_back(text.data());
  variables.push_back(nullptr);

  std::string program = "/proc/self/exe";
  std::string verb = "bench-drain-process";
  char* const argv[] = {program.data(), verb.data(), nullptr};
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_t actions;
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setsigmask(&attributes, &site.interrupt().outer_mask());
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, child.said.get(), STDERR_FILENO);
  int const problem = ::posix_spawn(&child.pid, program.c_str(), &actions, &attributes, argv, variables.data());
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (problem != 0) throw std::system_error(problem, std::generic_category(), "a worker process could not be started");
  children_.push_back(std::move(child));
}

void Children::check() {
  for (std::size_t i = 0; i < children_.size(); ++i) {
    auto& child = children_[i];
    int status = 0;
    if (child.pid == 0 || ::waitpid(child.pid, &status, WNOHANG) != child.pid) continue;
    child.pid = 0;
    throw Unavailable(
        fmt::format("worker process {} of {} {}; {}", i + 1, children_.size(), ending(status), said_in(child.said)));
  }
}

void Children::stop() {
  for (auto const& child : children_) {
    if (child.pid != 0) ::kill(child.pid, SIGTERM);
  }
  double const until = now_seconds() + leave_within_s;
  for (auto& child : children_) {
    while (child.pid != 0 && now_seconds() < until) {
      if (::waitpid(child.pid, nullptr, WNOHANG) != 0) {
        child.pid = 0;
      } else {
        site_.interrupt().sleep(milliseconds(5));
      }
    }
  }
  kill();
}

void Children::kill() noexcept {
  for (auto const& child : children_) {
    if (child.pid != 0) ::kill(child.pid, SIGKILL);
  }
  for (auto& child : children_) {
    if (child.pid != 0) ::waitpid(child.pid, nullptr, 0);
    child.pid = 0;
  }
}

double Children::peak_mib(std::size_t child) const {
  std::ifstream status(fmt::format("/proc/{}/status", children_[child].pid));
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) / 1024;
  }
  return 0;
}

int run_drain_process() {
  // The kernel ends this process when its parent dies; it may have died before this.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != number("PARENT")) return 1;
  Worker worker(drain_options(database_of_variables(), 4 * claim_size));
  worker.on(bench_kind, [](Job const&) {});
  worker.run();
  return 0;
}

}  // namespace posthouse::bench
