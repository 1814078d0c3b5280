// SPDX-License-Identifier: Apache-2.0
// Results: a handler returns a value, the producer waits for it.
//
//   build/release/bin/example_11_results postgresql://user@host/database
//
// Needs the schema (`posthouse install`). Ends with status 0 when a result came back, a wait ended by its time limit, and
// a job without a result to come was told from one that failed.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <posthouse/posthouse.hpp>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;

int main(int argc, char** argv) try {
  char const* const variable = std::getenv("DATABASE_URL");
  std::string const url = argc > 1 ? argv[1] : variable != nullptr ? variable : "";

  posthouse::Worker worker({.database_url = url});
  worker.on("example.square", [](posthouse::Job const& job) {
    auto const n = std::stoll(std::string(job.payload().data()));
    return posthouse::json{std::to_string(n * n)};  // any type with a codec will do; bytes come back exactly
  });
  worker.on("example.refuse", posthouse::HandlerOptions{.max_attempts = 1},
            [](posthouse::Job const&) { throw std::runtime_error("not today"); });

  posthouse::Client client({.database_url = url});
  auto const square = client.enqueue("example.square", posthouse::json{"12"}).id;
  auto const early = client.wait(square, 50ms);  // no worker runs yet
  std::cout << "after 50 ms: " << early.state << '\n';

  worker.start();
  auto const outcome = client.wait(square, 30s);
  std::cout << "then: " << outcome.state << ", result " << outcome.result.data() << '\n';

  std::vector<std::int64_t> ids;
  for (int n = 1; n <= 3; ++n) ids.push_back(client.enqueue("example.square", posthouse::json{std::to_string(n)}).id);
  ids.push_back(client.enqueue("example.refuse").id);
  auto const outcomes = client.wait_many(ids, 30s);
  std::string results;
  for (auto const& one : outcomes) {
    std::cout << "job " << one.id << ": " << one.state << ' ' << one.result.data() << one.error.value_or("") << '\n';
    results += std::string(one.result.data()) + ' ';
  }
  worker.stop();

  bool const right = !early.ended() && outcome.succeeded() && outcome.result.data() == "144" && results == "1 4 9  " &&
                     outcomes.back().state == "failed";
  return right ? 0 : 1;
} catch (std::exception const& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
