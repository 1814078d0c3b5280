// SPDX-License-Identifier: Apache-2.0
// Child processes: handlers that crash, loop for ever or eat memory cost one attempt, and the worker goes on.
//
//   example_16_isolation --processes 4                       a service, until SIGTERM
//
// Without flags it enqueues jobs that do their worst, runs itself with --processes 2 --once, and ends with status 0 when
// each of them has failed with a reason and the others are done. Needs the schema (`posthouse install`).
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <posthouse/posthouse.hpp>
#include <string>
#include <vector>

using namespace std::chrono_literals;

namespace {

std::string greeting;

void register_handlers(posthouse::Worker& worker) {
  // In each child, before its first job: what handlers share there.
  worker.on_child_start([] { greeting = "hello from a child process"; });

  worker.on("example.greet", [](posthouse::Job const&) { return posthouse::json{'"' + greeting + '"'}; });
  worker.on("example.crash", {.backoff = posthouse::Backoff::fixed({0ms})}, [](posthouse::Job const&) {
    std::signal(SIGSEGV, SIG_DFL);
    std::raise(SIGSEGV);
  });
  // Asked to stop after 200 ms, which it does not hear; killed kill_grace later.
  worker.on("example.loop", {.max_attempts = 1, .timeout = 200ms}, [](posthouse::Job const&) {
    for (unsigned volatile n = 0;;) n = n + 1;
  });
}

/// Starts this program as a worker; its exit status.
int run_worker_once() {
  std::vector<std::string> arguments{"/proc/self/exe", "--processes", "2", "--once"};
  std::vector<char*> argv;
  for (auto& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_t pid = 0;
  int status = 0;
  if (::posix_spawn(&pid, argv[0], nullptr, nullptr, argv.data(), environ) != 0) return -1;
  return ::waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int show(std::string const& url) {
  ::setenv("POSTHOUSE_KILL_GRACE_MS", "100", 1);
  posthouse::Client client({.database_url = url});
  auto const crash = client.enqueue("example.crash").id;
  auto const loop = client.enqueue("example.loop").id;
  std::vector<std::int64_t> fine;
  for (int i = 0; i < 3; ++i) fine.push_back(client.enqueue("example.greet").id);

  bool right = run_worker_once() == 0;
  for (auto const id : {crash, loop}) {
    auto const job = client.find(id).value_or(posthouse::JobInfo{});
    std::cout << job.kind << ": " << job.state << " after " << job.attempt << " attempts\n  "
              << job.last_error.value_or("") << '\n';
    right = right && job.state == "failed";
  }
  for (auto const& outcome : client.wait_many(fine, 1s)) {
    std::cout << "example.greet: " << outcome.state << ' ' << outcome.result.data() << '\n';
    right = right && outcome.state == "succeeded";
  }
  return right ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  // A child is this program with the same arguments, so it comes by here as well.
  if (argc > 1 && argv[1][0] == '-') return posthouse::run_worker(argc, argv, register_handlers);
  try {
    // To the worker the URL goes in the environment: a command line is visible to every user of the machine.
    if (argc > 1) ::setenv("POSTHOUSE_DATABASE_URL", argv[1], 1);
    char const* const variable = std::getenv("DATABASE_URL");
    return show(argc > 1 ? argv[1] : variable != nullptr ? variable : "");
  } catch (posthouse::Error const& error) {
    std::cerr << error.what() << '\n' << error.hint() << '\n';
    return 1;
  }
}
