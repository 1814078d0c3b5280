// SPDX-License-Identifier: Apache-2.0
#include "execute/program.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <memory>
#include <system_error>
#include <utility>

#include "base/event_fd.hpp"
#include "base/sigpipe_blocked.hpp"
#include "base/unique_fd.hpp"

namespace posthouse::execute {
namespace {

using Clock = std::chrono::steady_clock;

struct Pipe {
  base::UniqueFd read;
  base::UniqueFd write;

  // Never 0, 1 or 2: the child's dup2 calls would otherwise overwrite one end with another.
  bool make() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return false;
    read = above_standard(base::UniqueFd(ends[0]));
    write = above_standard(base::UniqueFd(ends[1]));
    return read && write;
  }

  static base::UniqueFd above_standard(base::UniqueFd fd) {
    if (fd.get() > 2) return fd;
    return base::UniqueFd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3));
  }
};

void set_nonblocking(int fd) { (void)::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

std::string error_text(int code) { return std::generic_category().message(code); }

/// Full path of argv[0]; empty with errno set when there is none that may be executed.
std::string find_program(std::string const& name, std::vector<std::string> const& environment) {
  if (name.find('/') != std::string::npos) return name;
  std::string_view path;
  for (auto const& entry : environment) {
    if (entry.starts_with("PATH=")) path = std::string_view(entry).substr(5);
  }
  int failure = ENOENT;
  while (!path.empty() && !name.empty()) {
    auto const colon = path.find(':');
    std::string candidate(path.substr(0, colon));
    path = colon == std::string_view::npos ? std::string_view{} : path.substr(colon + 1);
    // An empty entry would mean the current directory, which nobody wants of a daemon.
    if (candidate.empty()) continue;
    candidate += '/';
    candidate += name;
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
    if (errno != ENOENT && errno != ENOTDIR) failure = errno;
  }
  errno = failure;
  return {};
}

struct Prepared {
  char const* path = nullptr;
  char* const* argv = nullptr;
  char* const* environment = nullptr;
  int input = -1;
  int output = -1;
  int error = -1;
  int report = -1;
  pid_t parent = 0;
};

[[noreturn]] void report_and_exit(int report) {
  int const code = errno;
  // Nothing can be done if this fails: the parent then sees an exit status of 127.
  [[maybe_unused]] auto const written = ::write(report, &code, sizeof code);
  ::_exit(127);
}

/// Between fork and exec in a process with threads: async-signal-safe calls alone.
[[noreturn]] void become(Prepared const& p) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != p.parent) ::_exit(127);
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  if (::dup2(p.input, 0) < 0 || ::dup2(p.output, 1) < 0 || ::dup2(p.error, 2) < 0) report_and_exit(p.report);
  // Descriptors that some other library of this process opened without close-on-exec. Kernels before 5.11 refuse;
  // there the libraries' own flags have to do.
  (void)::syscall(SYS_close_range, 3U, ~0U, static_cast<unsigned>(CLOSE_RANGE_CLOEXEC));
  ::execve(p.path, p.argv, p.environment);
  report_and_exit(p.report);
}

std::vector<char*> pointers(std::vector<std::string> const& texts) {
  std::vector<char*> result;
  result.reserve(texts.size() + 1);
  // execve's signature predates const; it changes nothing.
  for (auto const& text : texts) result.push_back(const_cast<char*>(text.c_str()));  // NOLINT
  result.push_back(nullptr);
  return result;
}

/// One run: the pipes, the process and the loop around them.
class Process {
 public:
  Process(Program const& program, std::string_view input, std::optional<Clock::time_point> deadline,
          std::stop_token const& stop)
      : program_(program), input_(input), deadline_(deadline), stop_(stop) {}

  ProgramEnd go() {
    if (!start()) return std::move(end_);
    {
      std::stop_callback const on_stop(stop_, [this] { wake_.signal(); });
      base::SigpipeBlocked const guard;
      watch();
    }
    finish();
    return std::move(end_);
  }

 private:
  bool refuse(int code, std::string problem) {
    end_.how = ProgramEnd::How::not_started;
    end_.code = code;
    end_.problem = std::move(problem);
    return false;
  }

  bool start() {
    if (program_.argv.empty() || program_.argv[0].empty()) return refuse(EINVAL, "there is no program to run");
    std::string const path = find_program(program_.argv[0], program_.environment);
    if (path.empty()) {
      int const code = errno;
      return refuse(code, "cannot find the program '" + program_.argv[0] + "' in PATH: " + error_text(code));
    }
    Pipe in;
    Pipe out;
    Pipe err;
    Pipe report;
    if (!in.make() || !out.make() || !err.make() || !report.make()) {
      int const code = errno;
      return refuse(code, "cannot make a pipe: " + error_text(code));
    }
    auto const argv = pointers(program_.argv);
    auto const environment = pointers(program_.environment);
    Prepared const prepared{path.c_str(),    argv.data(),     environment.data(), in.read.get(),
                            out.write.get(), err.write.get(), report.write.get(), ::getpid()};
    // No signal handler of ours may run in the child before its dispositions are reset.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    child_ = ::fork();
    if (child_ == 0) become(prepared);
    int const fork_error = errno;
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (child_ < 0) return refuse(fork_error, "cannot start another process: " + error_text(fork_error));

    in.read.reset();
    out.write.reset();
    err.write.reset();
    report.write.reset();
    int code = 0;
    ssize_t got = 0;
    do {
      got = ::read(report.read.get(), &code, sizeof code);
    } while (got < 0 && errno == EINTR);
    if (got == static_cast<ssize_t>(sizeof code)) {
      reap();
      return refuse(code, "cannot run '" + path + "': " + error_text(code) +
                              (code == ENOEXEC ? " (a script needs a first line such as #!/bin/sh)" : ""));
    }
    stdin_ = std::move(in.write);
    stdout_ = std::move(out.read);
    stderr_ = std::move(err.read);
    set_nonblocking(stdin_.get());
    set_nonblocking(stdout_.get());
    set_nonblocking(stderr_.get());
    if (input_.empty()) stdin_.reset();
    pidfd_ = base::UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, child_, 0U)));
    return true;
  }

  void watch() {
    while (!ended()) {
      std::array<pollfd, 5> fds{pollfd{stdin_.get(), POLLOUT, 0}, pollfd{stdout_.get(), POLLIN, 0},
                                pollfd{stderr_.get(), POLLIN, 0}, pollfd{pidfd_.get(), POLLIN, 0},
                                pollfd{told_ ? -1 : wake_.fd(), POLLIN, 0}};
      (void)::poll(fds.data(), fds.size(), wait_ms());
      if (fds[0].revents != 0) feed();
      if (fds[1].revents != 0) read_output();
      if (fds[2].revents != 0) read_error();
      enforce();
    }
  }

  /// The zombie is kept: as long as it is there, its process group's number belongs to nobody else.
  bool ended() const {
    siginfo_t info{};
    return ::waitid(P_PID, static_cast<id_t>(child_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0;
  }

  int wait_ms() const {
    auto until = Clock::time_point::max();
    if (!told_ && deadline_) until = *deadline_;
    if (told_ && !killed_) until = kill_at_;
    // Without pidfd_open (kernels before 5.3) nothing wakes us at the program's end.
    int const longest = pidfd_ ? 60'000 : 20;
    if (until == Clock::time_point::max()) return longest;
    auto const left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
    return static_cast<int>(std::clamp<decltype(left)>(left, 0, longest));
  }

  void enforce() {
    auto const now = Clock::now();
    if (!told_) {
      if (deadline_ && now >= *deadline_) {
        end_.timed_out = true;
      } else if (stop_.stop_requested()) {
        end_.stopped = true;
      } else {
        return;
      }
      told_ = true;
      kill_at_ = now + program_.kill_grace;
      ::kill(-child_, SIGTERM);
      // A stopped process would keep the signal to itself until it is continued.
      ::kill(-child_, SIGCONT);
    }
    if (!killed_ && now >= kill_at_) {
      killed_ = true;
      ::kill(-child_, SIGKILL);
    }
  }

  void feed() {
    while (!input_.empty()) {
      auto const written = ::write(stdin_.get(), input_.data(), input_.size());
      if (written > 0) {
        input_.remove_prefix(static_cast<std::size_t>(written));
        continue;
      }
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return;
      break;  // EPIPE: it does not want the rest, which is its good right
    }
    stdin_.reset();
  }

  /// False at the end of the file.
  template <class Keep>
  bool read_some(int fd, Keep keep) {
    auto const got = ::read(fd, buffer_->data(), buffer_->size());
    if (got > 0) {
      keep(std::string_view(buffer_->data(), static_cast<std::size_t>(got)));
      return true;
    }
    return got < 0 && (errno == EAGAIN || errno == EINTR);
  }

  void read_output() {
    if (!read_some(stdout_.get(), [this](std::string_view chunk) {
          end_.output_bytes += chunk.size();
          end_.output.append(chunk.substr(0, program_.output_limit - end_.output.size()));
        })) {
      stdout_.reset();
    }
  }

  void read_error() {
    if (!read_some(stderr_.get(), [this](std::string_view chunk) {
          end_.error_bytes += chunk.size();
          end_.error_tail.append(chunk);
          // Cut rarely, so that a flood costs no move a chunk.
          if (end_.error_tail.size() > 4 * program_.error_limit + buffer_->size()) cut_error();
        })) {
      stderr_.reset();
    }
  }

  void cut_error() {
    if (end_.error_tail.size() > program_.error_limit) {
      end_.error_tail.erase(0, end_.error_tail.size() - program_.error_limit);
    }
  }

  void finish() {
    ::kill(-child_, SIGKILL);
    int const status = reap();
    // What it wrote last is still in the pipes. Bounded, because a descendant that left the group may write for ever.
    for (int i = 0; i < 32 && stdout_; ++i) read_output();
    for (int i = 0; i < 32 && stderr_; ++i) read_error();
    cut_error();
    if (WIFSIGNALED(status)) {
      end_.how = ProgramEnd::How::signalled;
      end_.code = WTERMSIG(status);
    } else {
      end_.how = ProgramEnd::How::exited;
      end_.code = WEXITSTATUS(status);
    }
  }

  int reap() const {
    int status = 0;
    while (::waitpid(child_, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
  }

  Program const& program_;
  std::string_view input_;
  std::optional<Clock::time_point> deadline_;
  std::stop_token const& stop_;

  ProgramEnd end_;
  pid_t child_ = -1;
  base::UniqueFd stdin_;
  base::UniqueFd stdout_;
  base::UniqueFd stderr_;
  base::UniqueFd pidfd_;
  base::EventFd wake_;
  bool told_ = false;
  bool killed_ = false;
  Clock::time_point kill_at_{};
  std::unique_ptr<std::array<char, 64 * 1024>> buffer_ = std::make_unique<std::array<char, 64 * 1024>>();
};

}  // namespace

ProgramEnd run_program(Program const& program, std::string_view input,
                       std::optional<std::chrono::steady_clock::time_point> deadline, std::stop_token const& stop) {
  try {
    return Process(program, input, deadline, stop).go();
  } catch (std::system_error const& error) {
    ProgramEnd end;
    end.code = error.code().value();
    end.problem = error.what();
    return end;
  }
}

}  // namespace posthouse::execute
