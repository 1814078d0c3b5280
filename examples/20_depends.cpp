// SPDX-License-Identifier: Apache-2.0
// Dependencies: three parts are counted beside each other, a total waits for all of them and reads their results, and
// when a part fails, what waits for it is cancelled while a clean-up that waits for any end runs all the same.
//
//   build/release/bin/example_20_depends postgresql://user@host/database
//
// Needs the schema (`posthouse install`). Ends with status 0 when all went as said.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <posthouse/posthouse.hpp>
#include <stdexcept>
#include <string>
#include <vector>

int main(int argc, char** argv) try {
  char const* const variable = std::getenv("DATABASE_URL");
  std::string const url = argc > 1 ? argv[1] : variable != nullptr ? variable : "";
  posthouse::Client client({.database_url = url});

  // One call, all or none: later elements name earlier ones by their index.
  std::vector<posthouse::Request> requests;
  for (std::string const number : {"1", "2", "3"}) {
    requests.push_back({.kind = "example.part", .payload = posthouse::json{number}});
  }
  requests.push_back({.kind = "example.total", .options = {.depends_on_elements = {0, 1, 2}}});
  auto const jobs = client.enqueue_many(requests);

  auto const broken = client.enqueue("example.part", posthouse::json{"0"}, {.max_attempts = 1}).id;
  auto const skipped = client.enqueue("example.total", {}, {.depends_on = {broken}}).id;
  auto const cleanup =
      client.enqueue("example.cleanup", {}, {.depends_on = {broken, skipped}, .depends_on_all_ok = false}).id;

  posthouse::Worker worker({.database_url = url, .concurrency = 4});
  worker.on("example.part", [](posthouse::Job const& job) {
    auto const number = std::stoi(std::string(job.payload().data()));
    if (number == 0) throw std::runtime_error("nothing to count");
    return posthouse::json{std::to_string(number * 100)};
  });
  worker.on("example.total", [&client](posthouse::Job const& job) {
    int sum = 0;
    for (auto const& part : client.wait_many(job.depends_on(), std::chrono::milliseconds(0))) {
      sum += std::stoi(std::string(part.result.data()));
    }
    return posthouse::json{std::to_string(sum)};
  });
  worker.on("example.cleanup", [](posthouse::Job const&) {});
  worker.start();
  auto const total = client.wait(jobs[3].id, std::chrono::seconds(30));
  auto const cleaned = client.wait(cleanup, std::chrono::seconds(30));
  worker.stop();

  auto const left_out = client.find(skipped).value();
  std::cout << "total " << total.result.data() << "; skipped: " << left_out.last_error.value_or("") << "; clean-up "
            << cleaned.state << '\n';
  return total.result.data() == "600" && left_out.state == "cancelled" && cleaned.succeeded() ? 0 : 1;
} catch (posthouse::Error const& error) {
  std::cerr << error.what() << '\n' << error.hint() << '\n';
  return 1;
}
