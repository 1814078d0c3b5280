// SPDX-License-Identifier: Apache-2.0
// A broker inside a program: it serves the databases of a configuration, each with numbered queues whose jobs run one
// after another. `posthouse start` is the same without a program.
//
//   build/release/bin/example_22_broker postgresql://user@host/database
//
// Installs the schema. Ends with status 0 when an SQL job ran, and a second database that does not exist disturbed nobody.
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <posthouse/broker.hpp>
#include <posthouse/posthouse.hpp>
#include <string>

using namespace std::chrono_literals;

int main(int argc, char** argv) try {
  char const* variable = std::getenv("DATABASE_URL");
  if (variable == nullptr) variable = std::getenv("POSTHOUSE_DATABASE_URL");
  std::string const url = argc > 1 ? argv[1] : variable != nullptr ? variable : "postgresql://";
  // Beside a list of databases it would be a second answer to one question, which load_config refuses.
  ::unsetenv("POSTHOUSE_DATABASE_URL");

  auto const file = std::filesystem::temp_directory_path() / ("broker-" + std::to_string(::getpid()) + ".yaml");
  std::ofstream(file) << "databases:\n"
                      << "  - {name: shop, database_url: \"" << url << "\", queue_count: 2}\n"
                      << "  - {name: away, host: /nowhere, database: x, user: x}\n"
                      << "kinds:\n"
                      << "  note: {sql: select 1}\n";

  auto const config = posthouse::load_config(file.string());
  posthouse::BrokerOptions options;
  options.install = true;  // as auto_install: true
  options.logger = [](posthouse::LogRecord const& record) {
    if (record.level >= posthouse::LogLevel::warning) std::cout << record.message << '\n';
  };
  posthouse::Broker broker(config, options);
  broker.start();

  posthouse::Client client({.database_url = url});
  auto const job = client.enqueue("note", {}, {.queue = "broker:1"}).id;
  auto const outcome = client.wait(job, 30s);
  std::cout << "the job " << outcome.state << '\n';

  bool as_expected = outcome.state == "succeeded";
  for (auto const& database : broker.status()) {
    std::cout << database.name << ": " << to_string(database.state) << '\n';
    auto const wanted = database.name == "shop" ? posthouse::DatabaseState::serving : posthouse::DatabaseState::down;
    as_expected = as_expected && database.state == wanted;
  }
  broker.stop();
  std::filesystem::remove(file);
  return as_expected ? 0 : 1;
} catch (posthouse::Error const& error) {
  std::cerr << error.what() << '\n' << error.hint() << '\n';
  return 1;
}
