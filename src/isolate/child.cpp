// SPDX-License-Identifier: Apache-2.0
// See child.hpp.
#include "isolate/child.hpp"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <system_error>

#include "base/process_usage.hpp"

namespace posthouse::isolate {

namespace {

constexpr int child_fd = 3;
constexpr std::size_t most_at_once = 64 * 1024;

[[noreturn]] void fail(int code, char const* what) { throw std::system_error(code, std::generic_category(), what); }

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  result.reserve(texts.size() + 1);
  for (auto& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

// posix_spawn is vfork and exec in the C library: nothing of a process with threads is copied.
class Spawn {
 public:
  Spawn() {
    check(::posix_spawn_file_actions_init(&actions_));
    if (int const code = ::posix_spawnattr_init(&attributes_); code != 0) {
      ::posix_spawn_file_actions_destroy(&actions_);
      check(code);
    }
  }
  Spawn(Spawn const&) = delete;
  Spawn& operator=(Spawn const&) = delete;
  ~Spawn() {
    ::posix_spawnattr_destroy(&attributes_);
    ::posix_spawn_file_actions_destroy(&actions_);
  }

  pid_t start(int socket, std::vector<std::string> argv, std::vector<std::string> environment) {
    check(::posix_spawn_file_actions_adddup2(&actions_, socket, child_fd));
    // Descriptors that some library has opened without close-on-exec, our own sockets to other children among them.
    check(::posix_spawn_file_actions_addclosefrom_np(&actions_, child_fd + 1));
    // What a child does not listen to waits until it has said so itself.
    sigset_t blocked;
    sigset_t all;
    sigemptyset(&blocked);
    for (int const signal : parents_signals) sigaddset(&blocked, signal);
    sigfillset(&all);
    check(::posix_spawnattr_setsigmask(&attributes_, &blocked));
    check(::posix_spawnattr_setsigdefault(&attributes_, &all));
    check(::posix_spawnattr_setpgroup(&attributes_, 0));
    check(::posix_spawnattr_setflags(
        &attributes_, static_cast<short>(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP)));
    auto const arguments = pointers(argv);
    auto const variables = pointers(environment);
    pid_t pid = -1;
    // The file that this process runs, also when another version lies at its path by now.
    check(::posix_spawn(&pid, "/proc/self/exe", &actions_, &attributes_, arguments.data(), variables.data()));
    return pid;
  }

 private:
  static void check(int code) {
    if (code != 0) fail(code, "cannot start a child process");
  }
  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
};

std::vector<std::string> child_environment() {
  std::vector<std::string> result;
  std::string const ours = std::string(child_variable) + "=";
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    if (std::strncmp(*entry, ours.c_str(), ours.size()) != 0) result.emplace_back(*entry);
  }
  result.push_back(ours + std::to_string(child_fd) + ":" + std::to_string(::getpid()));
  return result;
}

std::string signal_name(int signal) {
  char const* const name = ::sigabbrev_np(signal);
  return "signal " + std::to_string(signal) + (name == nullptr ? "" : " (SIG" + std::string(name) + ")");
}

}  // namespace

std::vector<std::string> own_arguments() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::string const all{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  std::vector<std::string> result;
  for (std::size_t at = 0; at < all.size();) {
    auto const end = std::min(all.find('\0', at), all.size());
    result.push_back(all.substr(at, end - at));
    at = end + 1;
  }
  return result;
}

Child::Child(std::vector<std::string> const& argv) {
  std::array<int, 2> ends{-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) fail(errno, "cannot make a socket");
  socket_ = base::UniqueFd(ends[0]);
  base::UniqueFd const theirs(ends[1]);
  pid_ = Spawn().start(theirs.get(), argv, child_environment());
  pidfd_ = base::UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0U)));
}

Child::~Child() {
  if (!reaped_ && pid_ > 0) reap();
}

bool Child::dead() const {
  if (reaped_) return true;
  siginfo_t info{};
  return ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0;
}

void Child::kill() const {
  if (reaped_) return;
  ::kill(-pid_, SIGKILL);
  // A handler may have left the group.
  ::kill(pid_, SIGKILL);
}

std::string Child::reap() {
  // As long as the zombie is there, its number and its group's belong to nobody else.
  kill();
  int status = 0;
  pid_t ended = -1;
  do {
    ended = ::waitpid(pid_, &status, 0);
  } while (ended < 0 && errno == EINTR);
  reaped_ = true;
  auto const who = "child process " + std::to_string(pid_);
  if (ended < 0) return who + " has ended";
  if (WIFSIGNALED(status)) return who + " was killed by " + signal_name(WTERMSIG(status));
  return who + " ended with exit status " + std::to_string(WEXITSTATUS(status));
}

std::int64_t Child::memory_mb() const { return base::memory_of(std::to_string(pid_)).resident_bytes / (1024 * 1024); }

bool Child::send_some(std::string_view& rest) const {
  while (!rest.empty()) {
    auto const sent = ::send(socket_.get(), rest.data(), rest.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
      if (errno == EINTR) continue;
      return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS;
    }
    rest.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

bool Child::receive() {
  std::array<char, most_at_once> buffer;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  for (;;) {
    auto const got = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got > 0) {
      frames.add(std::string_view(buffer.data(), static_cast<std::size_t>(got)));
      if (static_cast<std::size_t>(got) < buffer.size()) return true;
      continue;
    }
    if (got < 0 && errno == EINTR) continue;
    return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
  }
}

}  // namespace posthouse::isolate
