// SPDX-License-Identifier: Apache-2.0
// The smallest whole: installs the schema, enqueues one job, runs it.
//
//   build/release/bin/example_01_hello postgresql://user@host/database
//
// The URL is the first argument, else DATABASE_URL, else libpq's PG* variables; so it is in every example.
// Ends with status 0 when the job has run.
#include <cstdlib>
#include <iostream>
#include <posthouse/posthouse.hpp>
#include <string>

int main(int argc, char** argv) try {
  char const* const variable = std::getenv("DATABASE_URL");
  std::string const url = argc > 1 ? argv[1] : variable != nullptr ? variable : "";

  // As `posthouse install` does it. The other examples expect the schema to be there.
  posthouse::install({.database_url = url});

  posthouse::Client client({.database_url = url});
  auto const created = client.enqueue("hello", posthouse::json{R"({"name": "world"})"});
  std::cout << "enqueued job " << created.id << '\n';

  bool greeted = false;
  posthouse::Worker worker({.database_url = url, .concurrency = 1, .once = true});
  worker.on("hello", [&](posthouse::Job const& job) {
    std::cout << "job " << job.id() << " carries " << job.payload().data() << '\n';
    greeted = greeted || job.id() == created.id;
  });
  worker.start();
  worker.wait();  // with `once`: until nothing is left to do; a service calls run() instead

  return greeted ? 0 : 1;
} catch (posthouse::Error const& error) {
  std::cerr << error.what() << '\n' << error.hint() << '\n';
  return 1;
}
