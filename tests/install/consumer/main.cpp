// SPDX-License-Identifier: Apache-2.0
// Uses the installed library: what can be done without a server, and with one when POSTHOUSE_DATABASE_URL is set.
#include <posthouse/posthouse.hpp>

#include <cstdlib>
#include <iostream>
#include <string>

int main() {
  try {
    posthouse::ClientOptions wrong;
    wrong.pool_size = 0;
    posthouse::Client const client(wrong);
    std::cerr << "a pool of no connections was accepted\n";
    return 1;
  } catch (posthouse::InvalidArgument const& error) {
    std::cout << "refused as it should be: " << error.what() << '\n';
  }

  char const* const url = std::getenv("POSTHOUSE_DATABASE_URL");
  if (url == nullptr) return 0;

  posthouse::DatabaseOptions database;
  database.database_url = url;
  posthouse::install(database);
  posthouse::Client client({.database_url = url});
  auto const created = client.enqueue("greet", posthouse::json{R"({"name": "world"})"});

  std::string seen;
  posthouse::WorkerOptions options;
  options.database_url = url;
  options.once = true;
  posthouse::Worker worker(options);
  worker.on("greet", [&seen](posthouse::Job const& job) { seen = std::string(job.payload().data()); });
  worker.start();
  worker.wait();
  std::cout << "job " << created.id << " carried " << seen << '\n';
  return seen == R"({"name": "world"})" ? 0 : 1;
}
