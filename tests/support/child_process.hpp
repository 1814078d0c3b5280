// SPDX-License-Identifier: Apache-2.0
// Another program under the control of a test: started, stopped, killed, waited for, its output caught.
//
// Killed when the object goes, and when the test's thread that started it dies.
// Thread safety: one thread at a time; output() may be called from any.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <csignal>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace posthouse::test {

class ChildProcess {
 public:
  struct Options {
    std::vector<std::string> argv{};                   ///< argv[0] without a slash is looked up on PATH
    std::map<std::string, std::string> environment{};  ///< added to ours; an empty value removes the variable
    std::string input{};                               ///< given on standard input, which is then closed
  };

  explicit ChildProcess(Options options);
  explicit ChildProcess(std::vector<std::string> argv) : ChildProcess(Options{.argv = std::move(argv)}) {}
  ~ChildProcess();
  ChildProcess(ChildProcess&&) noexcept;
  ChildProcess& operator=(ChildProcess&&) = delete;

  [[nodiscard]] pid_t pid() const;
  /// Nothing happens when it has ended already.
  void send(int signal);
  void kill() { send(SIGKILL); }
  void terminate() { send(SIGTERM); }
  void pause() { send(SIGSTOP); }
  void resume() { send(SIGCONT); }

  /// Exit status, 128 + signal when killed; nullopt: still running at the deadline.
  std::optional<int> wait(std::chrono::milliseconds deadline = std::chrono::seconds(60));
  [[nodiscard]] bool running();

  /// What it wrote up to now.
  [[nodiscard]] std::string output() const;
  [[nodiscard]] std::string errors() const;
  /// True when standard output or error holds `text` before the deadline, or when it ends.
  bool said(std::string const& text, std::chrono::milliseconds deadline = std::chrono::seconds(20));

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The program under test (POSTHOUSE_TEST_PROGRAM, which ctest sets); throws when it is not known.
std::string posthouse_program();

}  // namespace posthouse::test
