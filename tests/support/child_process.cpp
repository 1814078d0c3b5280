// SPDX-License-Identifier: Apache-2.0
#include "support/child_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <stdexcept>
#include <stop_token>
#include <thread>

#include "base/unique_fd.hpp"
#include "dev/process.hpp"
#include "dev/programs.hpp"

extern char** environ;

namespace posthouse::test {
namespace {

using base::UniqueFd;

struct Ends {
  UniqueFd read, write;
};

Ends make_pipe() {
  std::array<int, 2> ends{-1, -1};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

std::vector<std::string> environment_with(std::map<std::string, std::string> const& changes) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    std::string const text = *entry;
    if (!changes.contains(text.substr(0, text.find('=')))) result.push_back(text);
  }
  for (auto const& [name, value] : changes) {
    if (!value.empty()) result.push_back(name + "=" + value);
  }
  return result;
}

}  // namespace

struct ChildProcess::State {
  pid_t pid = 0;
  std::optional<int> status;
  mutable std::mutex mutex;
  std::condition_variable changed;
  std::string output, errors;
  int open_streams = 2;
  std::jthread writer, output_reader, error_reader;

  void read_all(std::stop_token const& stop, UniqueFd fd, std::string State::*into) {
    std::array<char, 8192> buffer{};
    while (!stop.stop_requested()) {
      // A grandchild may hold the stream open for ever, so look up now and then.
      pollfd readable{fd.get(), POLLIN, 0};
      if (::poll(&readable, 1, 100) <= 0) continue;
      ssize_t const got = ::read(fd.get(), buffer.data(), buffer.size());
      if (got < 0 && errno == EINTR) continue;
      std::lock_guard const lock(mutex);
      if (got <= 0) --open_streams;
      if (got > 0) (this->*into).append(buffer.data(), static_cast<std::size_t>(got));
      changed.notify_all();
      if (got <= 0) return;
    }
  }

  std::optional<int> poll_status() {
    if (status) return status;
    int raw = 0;
    if (::waitpid(pid, &raw, WNOHANG) == pid) status = WIFEXITED(raw) ? WEXITSTATUS(raw) : 128 + WTERMSIG(raw);
    return status;
  }
};

ChildProcess::ChildProcess(Options options) : state_(std::make_unique<State>()) {
  auto in = make_pipe();
  auto out = make_pipe();
  auto err = make_pipe();
  dev::SpawnOptions spawn;
  spawn.argv = std::move(options.argv);
  if (spawn.argv.at(0).find('/') == std::string::npos) {
    auto const found = dev::find_on_path(spawn.argv[0]);
    if (!found) throw std::runtime_error("there is no program " + spawn.argv[0] + " on PATH");
    spawn.argv[0] = found->string();
  }
  spawn.environment = environment_with(options.environment);
  std::array<char, 4096> folder{};
  if (::getcwd(folder.data(), folder.size()) != nullptr) spawn.working_folder = folder.data();
  spawn.in = in.read.get();
  spawn.out = out.write.get();
  spawn.err = err.write.get();
  spawn.parent_death_signal = SIGKILL;
  state_->pid = dev::spawn(spawn);

  auto* const state = state_.get();
  state->output_reader = std::jthread([state, fd = std::move(out.read)](std::stop_token const& stop) mutable {
    state->read_all(stop, std::move(fd), &State::output);
  });
  state->error_reader = std::jthread([state, fd = std::move(err.read)](std::stop_token const& stop) mutable {
    state->read_all(stop, std::move(fd), &State::errors);
  });
  if (!options.input.empty()) {
    state->writer = std::jthread([input = std::move(options.input), fd = std::move(in.write)] {
      // A reader that leaves early must not kill the test.
      sigset_t pipe;
      sigemptyset(&pipe);
      sigaddset(&pipe, SIGPIPE);
      ::pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
      for (std::size_t at = 0; at < input.size();) {
        ssize_t const n = ::write(fd.get(), input.data() + at, input.size() - at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return;
        at += static_cast<std::size_t>(n);
      }
    });
  }
}

ChildProcess::ChildProcess(ChildProcess&&) noexcept = default;

ChildProcess::~ChildProcess() {
  if (!state_) return;
  kill();
  wait();
}

pid_t ChildProcess::pid() const { return state_->pid; }

void ChildProcess::send(int signal) {
  // Not reaped yet, so the number cannot be another's.
  if (!state_->poll_status()) ::kill(state_->pid, signal);
}

bool ChildProcess::running() { return !state_->poll_status(); }

std::optional<int> ChildProcess::wait(std::chrono::milliseconds deadline) {
  auto const end = std::chrono::steady_clock::now() + deadline;
  while (!state_->poll_status()) {
    if (std::chrono::steady_clock::now() >= end) return std::nullopt;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  // What it wrote last. A grandchild may hold the streams open, so not for ever.
  std::unique_lock lock(state_->mutex);
  state_->changed.wait_for(lock, std::chrono::seconds(1), [&] { return state_->open_streams == 0; });
  return state_->status;
}

std::string ChildProcess::output() const {
  std::lock_guard const lock(state_->mutex);
  return state_->output;
}

std::string ChildProcess::errors() const {
  std::lock_guard const lock(state_->mutex);
  return state_->errors;
}

bool ChildProcess::said(std::string const& text, std::chrono::milliseconds deadline) {
  std::unique_lock lock(state_->mutex);
  auto const found = [&] {
    return state_->output.find(text) != std::string::npos || state_->errors.find(text) != std::string::npos;
  };
  state_->changed.wait_for(lock, deadline, [&] { return found() || state_->open_streams == 0; });
  return found();
}

std::string posthouse_program() {
  char const* const program = std::getenv("POSTHOUSE_TEST_PROGRAM");
  if (program == nullptr || *program == '\0') {
    throw std::runtime_error("POSTHOUSE_TEST_PROGRAM does not name the posthouse program; ctest sets it");
  }
  return program;
}

}  // namespace posthouse::test
