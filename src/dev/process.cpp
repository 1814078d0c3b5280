// SPDX-License-Identifier: Apache-2.0
#include "dev/process.hpp"

#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <poll.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <system_error>
#include <thread>
#include <utility>

#include <posthouse/error.hpp>

namespace posthouse::dev {
namespace {

using namespace std::chrono_literals;

std::optional<Identity> find_user(passwd const* entry) {
  if (entry == nullptr || entry->pw_uid == 0) return std::nullopt;
  return Identity{entry->pw_uid, entry->pw_gid, entry->pw_name};
}

struct Pipe {
  std::array<int, 2> ends{-1, -1};
  Pipe() {
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
      throw Unavailable(std::string("no pipe: ") + std::strerror(errno));
    }
    // A program whose standard streams are closed gets descriptors 0 to 2, which the child is going to overwrite.
    for (int& end : ends) {
      if (end > 2) continue;
      int const moved = ::fcntl(end, F_DUPFD_CLOEXEC, 3);
      ::close(end);
      end = moved;
    }
  }
  Pipe(Pipe const&) = delete;
  Pipe& operator=(Pipe const&) = delete;
  ~Pipe() {
    close_end(0);
    close_end(1);
  }
  void close_end(std::size_t which) {
    if (ends[which] >= 0) ::close(std::exchange(ends[which], -1));
  }
};

std::vector<char*> pointers(std::vector<std::string> const& strings) {
  std::vector<char*> result;
  result.reserve(strings.size() + 1);
  for (auto const& s : strings) result.push_back(const_cast<char*>(s.c_str()));
  result.push_back(nullptr);
  return result;
}

enum Step : int { step_session, step_identity, step_folder, step_log, step_streams, step_exec };

struct Report {
  int step;
  int error;
};

// What the child needs, prepared before the fork: no allocation may happen after it.
struct Plan {
  char* const* argv;
  char* const* environment;
  char const* folder;
  char const* log;  // nullptr: none
  Identity const* as;
  int in, out, err, announce, report, parent_death_signal;
  pid_t parent;
  bool new_session;
};

void announce_pid(int fd) {
  std::array<char, 24> text{};
  std::size_t at = text.size();
  text[--at] = '\n';
  for (pid_t pid = ::getpid(); pid > 0; pid /= 10) text[--at] = static_cast<char>('0' + pid % 10);
  // A failure means that nobody listens any more.
  static_cast<void>(::send(fd, text.data() + at, text.size() - at, MSG_NOSIGNAL));
}

bool become(Identity const& as) {
  // setgroups() of the C library is not safe after fork, the system call is.
  gid_t const groups[] = {as.gid};
  return ::syscall(SYS_setgroups, 1, groups) == 0 && ::setgid(as.gid) == 0 && ::setuid(as.uid) == 0;
}

void close_others_on_exec() {
  if (::syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) == 0) return;
  long const most = std::min(::sysconf(_SC_OPEN_MAX), 65536L);
  for (int fd = 3; fd < most; ++fd) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
}

[[noreturn]] void run_child(Plan const& plan) {
  auto fail = [&](Step step) {
    Report const report{step, errno};
    if (::write(plan.report, &report, sizeof report) < 0) ::_exit(126);
    ::_exit(127);
  };
  struct sigaction plain {};
  plain.sa_handler = SIG_DFL;
  for (int signal = 1; signal < 32; ++signal) ::sigaction(signal, &plain, nullptr);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);

  if (plan.new_session && ::setsid() < 0) fail(step_session);
  if (plan.as != nullptr && !become(*plan.as)) fail(step_identity);
  if (::chdir(plan.folder) != 0) fail(step_folder);
  ::umask(077);

  int const null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  int log = null;
  if (plan.log != nullptr) {
    log = ::open(plan.log, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (log < 0) fail(step_log);
  }
  int const sources[] = {plan.in >= 0 ? plan.in : null, plan.out >= 0 ? plan.out : log, plan.err >= 0 ? plan.err : log};
  for (int target = 0; target < 3; ++target) {
    int const source = sources[target];
    // dup2 of a descriptor onto itself would keep close-on-exec.
    if (source == target ? ::fcntl(target, F_SETFD, 0) != 0 : ::dup2(source, target) < 0) fail(step_streams);
  }
  close_others_on_exec();
  // After the change of user, which clears it.
  if (plan.parent_death_signal != 0) {
    ::prctl(PR_SET_PDEATHSIG, plan.parent_death_signal);
    if (::getppid() != plan.parent) ::_exit(127);  // it died before we could ask to be told
  }
  if (plan.announce >= 0) announce_pid(plan.announce);
  ::execve(plan.argv[0], plan.argv, plan.environment);
  fail(step_exec);
  ::_exit(127);
}

std::string describe(Report const& report, SpawnOptions const& options) {
  std::string const reason = std::strerror(report.error);
  switch (report.step) {
    case step_identity:
      return "cannot become the user " + (options.as ? options.as->name : std::string()) + ": " + reason;
    case step_folder:
      return "cannot enter the folder " + options.working_folder.string() + ": " + reason;
    case step_log:
      return "cannot open the log file " + options.log.string() + ": " + reason;
    default:
      return reason;
  }
}

int exit_status(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

}  // namespace

std::optional<Identity> unprivileged_identity() {
  if (::geteuid() != 0) return std::nullopt;
  for (char const* name : {"postgres", "nobody"}) {
    if (auto user = find_user(::getpwnam(name))) return user;
  }
  throw Unavailable(
      "PostgreSQL's programs refuse to run as root, and there is no user postgres or nobody to run them as",
      {.hint = "create the user postgres, or call this as an ordinary user"});
}

std::optional<Identity> owner_identity(std::filesystem::path const& path) {
  struct stat facts {};
  if (::geteuid() != 0 || ::stat(path.c_str(), &facts) != 0 || facts.st_uid == 0) return std::nullopt;
  if (auto user = find_user(::getpwuid(facts.st_uid))) return user;
  return Identity{facts.st_uid, facts.st_gid, "number " + std::to_string(facts.st_uid)};
}

bool reachable(std::filesystem::path const& folder, std::optional<Identity> const& as) {
  if (!as) return ::access(folder.c_str(), X_OK) == 0;
  pid_t const child = ::fork();
  if (child == 0) ::_exit(become(*as) && ::access(folder.c_str(), X_OK) == 0 ? 0 : 1);
  int status = 1;
  if (child < 0) return false;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status == 0;
}

pid_t spawn(SpawnOptions const& options) {
  auto const argv = pointers(options.argv);
  auto const environment = pointers(options.environment);
  Pipe report;
  Plan const plan{.argv = argv.data(),
                  .environment = environment.data(),
                  .folder = options.working_folder.c_str(),
                  .log = options.log.empty() ? nullptr : options.log.c_str(),
                  .as = options.as ? &*options.as : nullptr,
                  .in = options.in,
                  .out = options.out,
                  .err = options.err,
                  .announce = options.announce,
                  .report = report.ends[1],
                  .parent_death_signal = options.parent_death_signal,
                  .parent = ::getpid(),
                  .new_session = options.new_session};
  // No handler of ours may run in the child before it has become the program.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  pid_t const child = ::fork();
  if (child == 0) run_child(plan);
  int const error = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (child < 0) throw Unavailable("cannot start " + options.argv.front() + ": " + std::strerror(error));

  report.close_end(1);
  Report problem{};
  ssize_t got = 0;
  while ((got = ::read(report.ends[0], &problem, sizeof problem)) < 0 && errno == EINTR) {
  }
  if (got == 0) return child;
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  throw Unavailable("cannot start " + options.argv.front() + ": " + describe(problem, options));
}

Finished run(SpawnOptions options, std::chrono::milliseconds deadline) {
  Pipe output;
  options.out = options.err = output.ends[1];
  pid_t const child = spawn(options);
  output.close_end(1);

  Finished result;
  auto const end = std::chrono::steady_clock::now() + deadline;
  constexpr std::size_t most = std::size_t{1} << 20;
  std::array<char, 8192> buffer{};
  for (;;) {
    auto const left = std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    pollfd ready{output.ends[0], POLLIN, 0};
    int const n = ::poll(&ready, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
    if (n < 0 && errno == EINTR) continue;
    if (n == 0) {
      ::kill(child, SIGKILL);
      result.status = -1;
      break;
    }
    ssize_t const got = ::read(output.ends[0], buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    auto const keep = std::min(static_cast<std::size_t>(got), most - result.output.size());
    result.output.append(buffer.data(), keep);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (result.status == 0) result.status = exit_status(status);
  return result;
}

std::vector<std::string> plain_environment() {
  std::vector<std::string> result{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C",
                                  "TZ=UTC"};
  if (char const* libraries = std::getenv("LD_LIBRARY_PATH")) {
    result.push_back(std::string("LD_LIBRARY_PATH=") + libraries);
  }
  return result;
}

bool alive(pid_t pid) {
  if (pid <= 0) return false;
  if (::waitpid(pid, nullptr, WNOHANG) == pid) return false;
  if (::kill(pid, 0) != 0 && errno == ESRCH) return false;
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  if (!std::getline(stat, line)) return ::kill(pid, 0) == 0 || errno == EPERM;
  // "pid (name) state …"; the name may hold anything, so look from the right.
  auto const after_name = line.rfind(')');
  return after_name == std::string::npos || after_name + 2 >= line.size() || line[after_name + 2] != 'Z';
}

bool wait_gone(pid_t pid, std::chrono::milliseconds deadline) {
  auto const end = std::chrono::steady_clock::now() + deadline;
  for (auto pause = 2ms; alive(pid); pause = std::min(pause * 2, std::chrono::milliseconds(50))) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(pause);
  }
  return true;
}

}  // namespace posthouse::dev
