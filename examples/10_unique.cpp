// SPDX-License-Identifier: Apache-2.0
// One job for each key, and enqueues that can be sent again: dedupe_key, its scopes and window, token, safe_resend.
//
//   build/release/bin/example_10_unique postgresql://user@host/database
//
// Needs the schema (`posthouse install`). Ends with status 0 when each key had one job at a time and each token one job.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <posthouse/posthouse.hpp>
#include <string>

using namespace std::chrono_literals;
using posthouse::EnqueueStatus;

int main(int argc, char** argv) try {
  char const* const variable = std::getenv("DATABASE_URL");
  std::string const url = argc > 1 ? argv[1] : variable != nullptr ? variable : "";
  bool right = true;
  auto const expect = [&](bool condition, char const* what) {
    std::cout << what << ": " << (condition ? "yes" : "NO") << '\n';
    right = right && condition;
  };

  // safe_resend: when the reply to an enqueue is lost, the client finds out what became of it.
  posthouse::Client client({.database_url = url, .safe_resend = true});

  // While a job of this kind with the key is unfinished, there is no second one.
  auto const first = client.enqueue("example.sync", posthouse::json{R"({"account": 7})"}, {.dedupe_key = "account:7"});
  auto const again = client.enqueue("example.sync", posthouse::json{R"({"account": 7})"}, {.dedupe_key = "account:7"});
  expect(again.status == EnqueueStatus::duplicate && again.id == first.id, "the second is a duplicate of the first");

  // until_claimed: what changes while the job runs enqueues it again. A window: at most one in that time.
  client.enqueue("example.index", {}, {.dedupe_key = "7", .dedupe_scope = posthouse::DedupeScope::until_claimed});
  auto const mail = client.enqueue("example.digest", {}, {.dedupe_key = "user:42", .dedupe_window = 24h});

  // A request that the application itself may handle twice names its job, here by the request's id.
  std::string const request = "7f4df1a4-8a3c-4c53-9d0c-6e1d8a1f2b30";
  auto const paid = client.enqueue("example.pay", posthouse::json{"100"}, {.token = request});
  auto const twice = client.enqueue("example.pay", posthouse::json{"100"}, {.token = request});
  auto const other = client.enqueue("example.pay", posthouse::json{"900"}, {.token = request});
  expect(twice.status == EnqueueStatus::created && twice.id == paid.id, "the same again is the same job");
  expect(other.status == EnqueueStatus::mismatch, "another payload under the same token is refused");

  bool index_again = false;
  posthouse::Worker worker({.database_url = url, .concurrency = 1, .once = true});
  auto const nothing = [](posthouse::Job const&) {};
  worker.on("example.sync", nothing);
  worker.on("example.digest", nothing);
  worker.on("example.pay", nothing);
  int indexed = 0;
  worker.on("example.index", [&](posthouse::Job const&) {
    if (indexed++ > 0) return;
    auto const next =
        client.enqueue("example.index", {}, {.dedupe_key = "7", .dedupe_scope = posthouse::DedupeScope::until_claimed});
    index_again = next.status == EnqueueStatus::created;
  });
  worker.start();
  worker.wait();
  expect(index_again && indexed == 2, "while it ran it could be enqueued again");

  auto const next = client.enqueue("example.sync", posthouse::json{R"({"account": 7})"}, {.dedupe_key = "account:7"});
  expect(next.status == EnqueueStatus::created, "the key is free when its job has ended");
  auto const early = client.enqueue("example.digest", {}, {.dedupe_key = "user:42"});
  expect(early.status == EnqueueStatus::duplicate && early.id == mail.id, "but not before its window is over");
  client.cancel(next.id);
  return right ? 0 : 1;
} catch (posthouse::Error const& error) {
  std::cerr << error.what() << '\n' << error.hint() << '\n';
  return 1;
}
