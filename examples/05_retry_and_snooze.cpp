// SPDX-License-Identifier: Apache-2.0
// Handlers that do not succeed at once: a failure is tried again, a snooze is no failure, a discard is the end.
//
//   build/release/bin/example_05_retry_and_snooze postgresql://user@host/database
//
// Needs the schema (`posthouse install`). Ends with status 0 when the flaky job has succeeded in its second attempt
// after one failure and one snooze, and the discarded one is in the dead letters.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <posthouse/posthouse.hpp>
#include <stdexcept>
#include <string>
#include <thread>

using namespace std::chrono_literals;

int main(int argc, char** argv) try {
  char const* const variable = std::getenv("DATABASE_URL");
  std::string const url = argc > 1 ? argv[1] : variable != nullptr ? variable : "";
  posthouse::Client client({.database_url = url});
  auto const flaky = client.enqueue("example.flaky");
  auto const hopeless = client.enqueue("example.hopeless", posthouse::json{R"({"account": "closed"})"});

  posthouse::Worker worker({.database_url = url, .concurrency = 1});

  // At most five attempts, 100 ms and then 200, 400, 800 ms apart, each ±25 %.
  posthouse::HandlerOptions const policy{.max_attempts = 5, .backoff = posthouse::Backoff::exponential(100ms, 10s)};
  bool snoozed = false;
  worker.on("example.flaky", policy, [&](posthouse::Job const& job) -> posthouse::Outcome {
    std::cout << "flaky: attempt " << job.attempt() << " of " << job.max_attempts() << '\n';
    if (job.attempt() == 1) throw std::runtime_error("the mail server said 451");  // any exception: try again later
    if (!snoozed) {
      snoozed = true;
      return posthouse::Snooze{200ms};  // not now: the next run has the same number
    }
    return posthouse::Success{};
  });

  worker.on("example.hopeless", [](posthouse::Job const&) {
    return posthouse::Discard{"the account is closed"};  // never again
  });

  worker.start();
  auto const until = std::chrono::steady_clock::now() + 30s;
  auto const state = [&](std::int64_t id) { return client.find(id).value_or(posthouse::JobInfo{}).state; };
  while (state(flaky.id) != "succeeded" && std::chrono::steady_clock::now() < until) std::this_thread::sleep_for(50ms);
  worker.stop();

  auto const done = client.find(flaky.id).value_or(posthouse::JobInfo{});
  std::cout << "flaky: " << done.state << " after " << done.attempt << " attempts\n";
  auto const errors = client.errors(flaky.id);
  for (auto const& error : errors) {
    std::cout << "  attempt " << error.attempt << ": " << error.type << ": " << error.message << '\n';
  }
  auto const dead = client.find(hopeless.id).value_or(posthouse::JobInfo{});
  std::cout << "hopeless: " << dead.state << ": " << dead.last_error.value_or("") << '\n';

  // After the cause is mended, `client.retry(id)` or `posthouse jobs retry ID` makes a dead job available again.
  bool const again = client.retry(hopeless.id) && state(hopeless.id) == "available";
  client.cancel(hopeless.id);

  return done.state == "succeeded" && done.attempt == 2 && errors.size() == 1 && dead.state == "failed" && again ? 0
                                                                                                                 : 1;
} catch (posthouse::Error const& error) {
  std::cerr << error.what() << '\n' << error.hint() << '\n';
  return 1;
}
