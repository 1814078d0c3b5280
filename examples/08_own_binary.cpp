// SPDX-License-Identifier: Apache-2.0
// One binary with all handlers, deployed as two pools: many threads for the fast queue, few for the slow one.
//
//   example_08_own_binary --queue fast --concurrency 8       a service, until SIGTERM
//   example_08_own_binary --queue slow --concurrency 1       another one, perhaps on another machine
//   example_08_own_binary --help                             the flags are those of `posthouse work`
//
// Without flags it shows the deployment at work: it enqueues jobs, runs itself once as each pool with --once, and ends
// with status 0 when every job was run by the pool that serves its queue. Needs the schema (`posthouse install`).
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <posthouse/posthouse.hpp>
#include <string>
#include <thread>
#include <vector>

void register_handlers(posthouse::Worker& worker) {
  worker.on("example.ping",
            [](posthouse::Job const& job) { std::cout << "pid " << ::getpid() << ": ping " << job.id() << '\n'; });
  worker.on("example.report", {.max_attempts = 3, .timeout = std::chrono::minutes(5)}, [](posthouse::Job const& job) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    std::cout << "pid " << ::getpid() << ": report " << job.id() << '\n';
  });
}

/// Starts this program as a pool; its exit status.
int run_pool(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "/proc/self/exe");
  std::vector<char*> argv;
  for (auto& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_t pid = 0;
  int status = 0;
  if (::posix_spawn(&pid, argv[0], nullptr, nullptr, argv.data(), environ) != 0) return -1;
  return ::waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int show_deployment(std::string const& url) {
  posthouse::Client client({.database_url = url});
  std::vector<std::int64_t> fast;
  std::vector<std::int64_t> slow;
  for (int i = 0; i < 5; ++i) fast.push_back(client.enqueue("example.ping", {}, {.queue = "example.fast"}).id);
  for (int i = 0; i < 2; ++i) slow.push_back(client.enqueue("example.report", {}, {.queue = "example.slow"}).id);

  auto const all = [&](std::vector<std::int64_t> const& ids, std::string const& state) {
    for (auto const id : ids) {
      if (client.find(id).value_or(posthouse::JobInfo{}).state != state) return false;
    }
    return true;
  };
  int const fast_status = run_pool({"--queue", "example.fast", "--concurrency", "8", "--once"});
  bool const apart = all(fast, "succeeded") && all(slow, "available");
  int const slow_status = run_pool({"--queue", "example.slow", "--concurrency", "1", "--once"});
  bool const done = all(slow, "succeeded");
  std::cout << "fast pool: exit status " << fast_status << ", slow pool: " << slow_status << '\n';
  return fast_status == 0 && slow_status == 0 && apart && done ? 0 : 1;
}

int main(int argc, char** argv) {
  if (argc > 1 && argv[1][0] == '-') return posthouse::run_worker(argc, argv, register_handlers);
  try {
    // To the pools the URL goes in the environment: a command line is visible to every user of the machine.
    if (argc > 1) ::setenv("POSTHOUSE_DATABASE_URL", argv[1], 1);
    char const* const variable = std::getenv("DATABASE_URL");
    return show_deployment(argc > 1 ? argv[1] : variable != nullptr ? variable : "");
  } catch (posthouse::Error const& error) {
    std::cerr << error.what() << '\n' << error.hint() << '\n';
    return 1;
  }
}
