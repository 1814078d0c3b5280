// SPDX-License-Identifier: Apache-2.0
// Limits of all workers together: two workers with four threads each, and never more than two jobs of the kind at once;
// an operator's value outranks what the program says.
//
//   build/release/bin/example_14_limits postgresql://user@host/database
//
// Needs the schema (`posthouse install`). Ends with status 0 when all jobs ran and no limit was exceeded.
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <posthouse/posthouse.hpp>
#include <string>
#include <thread>

using namespace std::chrono_literals;

int main(int argc, char** argv) try {
  char const* const variable = std::getenv("DATABASE_URL");
  std::string const url = argc > 1 ? argv[1] : variable != nullptr ? variable : "";
  posthouse::Client client({.database_url = url});
  for (int i = 0; i < 30; ++i) client.enqueue("example.limited");

  std::atomic<int> running{0};
  std::atomic<int> most{0};
  auto const handler = [&](posthouse::Job const&) {
    int const now = ++running;
    int seen = most.load();
    while (seen < now && !most.compare_exchange_weak(seen, now)) {
    }
    std::this_thread::sleep_for(10ms);
    --running;
  };

  // At most two at once, and 100 starts a second after the first ten, whatever the number of workers.
  posthouse::HandlerOptions const limited{.concurrency_limit = 2, .requests_per_second = 100, .burst = 10};
  posthouse::WorkerOptions options{.database_url = url, .concurrency = 4, .once = true};
  options.queue_limits["example.reports"] = {.max_concurrency = 20};

  posthouse::Worker first(options);
  posthouse::Worker second(options);
  first.on("example.limited", limited, handler);
  second.on("example.limited", limited, handler);
  auto const begin = std::chrono::steady_clock::now();
  first.start();
  second.start();
  first.wait();
  second.wait();

  auto const took = std::chrono::steady_clock::now() - begin;
  auto const done = first.stats().succeeded + second.stats().succeeded;
  std::cout << done << " jobs in " << std::chrono::duration_cast<std::chrono::milliseconds>(took).count()
            << " ms, at most " << most << " at once\n";

  // `posthouse limits set kind example.limited --concurrency 1` outranks this until `limits reset`.
  return done == 30 && most <= 2 ? 0 : 1;
} catch (posthouse::Error const& error) {
  std::cerr << error.what() << '\n' << error.hint() << '\n';
  return 1;
}
