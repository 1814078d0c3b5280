// SPDX-License-Identifier: Apache-2.0
// Time: a job that is worth nothing after its hour, an attempt that may not take for ever, and a job that is cancelled
// while it runs.
//
//   build/release/bin/example_15_deadlines postgresql://user@host/database
//
// Needs the schema (`posthouse install`). Ends with status 0 when the stale reminder has expired without having run, the
// slow report has run into its timeout, and the long import was cancelled.
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

  // Nobody works on reminders for a while; this one must not be sent late.
  auto const reminder = client.enqueue("example.reminder", {}, {.expires_in = 100ms}).id;
  std::this_thread::sleep_for(200ms);

  // Whatever the kind's own limit is, this attempt may take 50 ms.
  auto const report = client.enqueue("example.report", {}, {.max_attempts = 1, .timeout = 50ms}).id;
  auto const import = client.enqueue("example.import").id;

  std::atomic<bool> reminded = false;
  std::atomic<bool> importing = false;
  // What a handler does in small steps it can stop between them. Any exception would do.
  auto const in_steps = [](posthouse::Job const& job) {
    for (int step = 0; step < 10'000; ++step) {
      if (job.stop_token().stop_requested()) throw posthouse::Cancelled();
      std::this_thread::sleep_for(10ms);
    }
  };
  posthouse::Worker worker({.database_url = url, .concurrency = 2});
  worker.on("example.reminder", [&](posthouse::Job const&) { reminded = true; });
  worker.on("example.report", in_steps);
  worker.on("example.import", [&](posthouse::Job const& job) {
    importing = true;
    in_steps(job);
  });
  worker.start();

  while (!importing) std::this_thread::sleep_for(5ms);
  // It runs, so its handler is asked to stop; a job that waits would be `cancelled` at once.
  bool const requested = client.cancel(import) == posthouse::CancelOutcome::requested;

  auto const ended = [&](std::int64_t id) {
    for (auto const until = std::chrono::steady_clock::now() + 30s; std::chrono::steady_clock::now() < until;) {
      auto const state = client.find(id).value_or(posthouse::JobInfo{}).state;
      if (state != "running" && state != "available") return state;
      std::this_thread::sleep_for(20ms);
    }
    return std::string("not ended");
  };
  auto const reminder_end = ended(reminder);
  auto const report_end = ended(report);
  auto const import_end = ended(import);
  worker.stop();

  auto const errors = client.errors(report);
  std::cout << "reminder: " << reminder_end << "\nreport: " << report_end;
  for (auto const& error : errors) std::cout << ": " << error.type << ": " << error.message;
  std::cout << "\nimport: " << import_end << '\n';
  bool const good = reminder_end == "expired" && !reminded && report_end == "failed" && errors.size() == 1 &&
                    errors.front().type == "Timeout" && requested && import_end == "cancelled";
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
} catch (posthouse::Error const& error) {
  std::cerr << error.what() << (error.hint().empty() ? "" : "\n") << error.hint() << '\n';
  return EXIT_FAILURE;
}
