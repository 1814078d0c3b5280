// SPDX-License-Identifier: Apache-2.0
// Waiting: a caller that is woken when its job ends, a job that takes the newest payload or is pushed back (debounce),
// and a handler that gives no sign of life.
//
//   build/release/bin/example_18_waiting postgresql://user@host/database
//
// Needs the schema (`posthouse install`). Ends with status 0 when the newest payload ran once, and a stuck job ran again.
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <posthouse/posthouse.hpp>
#include <string>
#include <thread>

using namespace std::chrono_literals;
using posthouse::EnqueueStatus;
using posthouse::OnDuplicate;

int main(int argc, char** argv) try {
  char const* const variable = std::getenv("DATABASE_URL");
  std::string const url = argc > 1 ? argv[1] : variable != nullptr ? variable : "";
  bool right = true;
  auto const expect = [&](bool condition, char const* what) {
    std::cout << what << ": " << (condition ? "yes" : "NO") << '\n';
    right = right && condition;
  };
  posthouse::Client client({.database_url = url});

  // Three changes of one page in a row: one job, with the last of them.
  posthouse::EnqueueOptions newest{.dedupe_key = "page:7", .on_duplicate = OnDuplicate::replace};
  auto const first = client.enqueue("example.publish", posthouse::json{R"({"text": "a"})"}, newest);
  client.enqueue("example.publish", posthouse::json{R"({"text": "ab"})"}, newest);
  auto const third = client.enqueue("example.publish", posthouse::json{R"({"text": "abc"})"}, newest);
  expect(third.id == first.id && third.status == EnqueueStatus::replaced, "the third replaced the payload");

  // Debounce: each call pushes the job; it runs when nobody has called for that long.
  posthouse::EnqueueOptions quiet{.delay = 300ms, .dedupe_key = "page:7", .on_duplicate = OnDuplicate::reschedule};
  auto const index = client.enqueue("example.index", {}, quiet);
  auto const pushed = client.enqueue("example.index", {}, quiet);
  expect(pushed.id == index.id && pushed.status == EnqueueStatus::rescheduled, "the second pushed the first");

  posthouse::Worker worker({.database_url = url});
  worker.on("example.publish",
            [](posthouse::Job const& job) { return posthouse::json{std::string(job.payload().data())}; });
  worker.on("example.index", [](posthouse::Job const&) {});
  // No heartbeat() and no progress() for a second: the job goes to whoever is free.
  std::atomic<bool> asked = false;
  worker.on("example.stuck", posthouse::HandlerOptions{.retry_timer = 1s}, [&](posthouse::Job const& job) {
    if (job.attempt() > 1) return;
    while (!job.stop_token().stop_requested()) std::this_thread::sleep_for(10ms);
    asked = true;  // what this attempt says from here on counts for nothing
  });
  worker.start();

  // wait() is woken by a notification; behind a transaction pooler it looks now and then.
  auto const published = client.wait(first.id, 30s);
  expect(published.result.data() == R"({"text": "abc"})", "the newest payload was published");
  expect(client.wait(index.id, 30s).succeeded(), "the index was made");
  auto const stuck = client.wait(client.enqueue("example.stuck").id, 30s);
  expect(stuck.succeeded() && client.errors(stuck.id).size() == 1, "the stuck job succeeded at its second attempt");
  worker.stop();
  expect(asked, "the first was asked to stop");
  return right ? 0 : 1;
} catch (posthouse::Error const& error) {
  std::cerr << error.what() << '\n' << error.hint() << '\n';
  return 1;
}
