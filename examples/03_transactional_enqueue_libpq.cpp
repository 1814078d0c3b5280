// SPDX-License-Identifier: Apache-2.0
// Jobs in the application's own transaction, with libpq: they exist when the transaction commits, and never otherwise.
//
//   build/release/bin/example_03_transactional_enqueue_libpq postgresql://user@host/database
//
// Needs the schema (`posthouse install`). Ends with status 0 when the committed job is there, and neither the rolled
// back one nor the one behind a savepoint is.
#include <libpq-fe.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <posthouse/adapter/libpq.hpp>
#include <posthouse/posthouse.hpp>
#include <stdexcept>
#include <string>

using Connection = std::unique_ptr<PGconn, decltype(&PQfinish)>;

void run(PGconn* connection, char const* sql) {
  std::unique_ptr<PGresult, decltype(&PQclear)> const result(PQexec(connection, sql), PQclear);
  auto const status = PQresultStatus(result.get());
  if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) throw std::runtime_error(PQerrorMessage(connection));
}

int main(int argc, char** argv) try {
  char const* const variable = std::getenv("DATABASE_URL");
  std::string const url = argc > 1 ? argv[1] : variable != nullptr ? variable : "";
  Connection const connection(PQconnectdb(url.c_str()), PQfinish);
  if (PQstatus(connection.get()) != CONNECTION_OK) throw std::runtime_error(PQerrorMessage(connection.get()));
  run(connection.get(), "create table if not exists example_order (id bigint generated always as identity, item text)");

  posthouse::Client client({.database_url = url});
  posthouse::json const payload{R"({"item": "book"})"};

  // The order and its job commit together.
  run(connection.get(), "begin");
  run(connection.get(), "insert into example_order (item) values ('book')");
  auto const committed = client.enqueue(connection.get(), "example.ship", payload);
  run(connection.get(), "commit");

  // A rollback takes both back: no job for an order that does not exist.
  run(connection.get(), "begin");
  run(connection.get(), "insert into example_order (item) values ('lamp')");
  auto const rolled_back = client.enqueue(connection.get(), "example.ship", payload);
  run(connection.get(), "rollback");

  // So does a rollback to a savepoint, for what came after it.
  run(connection.get(), "begin");
  auto const before = client.enqueue(connection.get(), "example.ship", payload);
  run(connection.get(), "savepoint gift");
  auto const after = client.enqueue(connection.get(), "example.wrap", payload);
  run(connection.get(), "rollback to savepoint gift");
  // What is refused is found before anything is sent, so the transaction lives on.
  try {
    client.enqueue(connection.get(), "example.ship", posthouse::json{"{no JSON"});
  } catch (posthouse::InvalidArgument const& error) {
    std::cout << "refused: " << error.what() << '\n';
  }
  run(connection.get(), "commit");

  std::cout << "committed:              " << (client.find(committed.id) ? "there" : "missing") << '\n'
            << "rolled back:            " << (client.find(rolled_back.id) ? "there" : "gone") << '\n'
            << "before the savepoint:   " << (client.find(before.id) ? "there" : "missing") << '\n'
            << "behind the savepoint:   " << (client.find(after.id) ? "there" : "gone") << '\n';
  bool const right =
      client.find(committed.id) && !client.find(rolled_back.id) && client.find(before.id) && !client.find(after.id);
  return right ? 0 : 1;
} catch (std::exception const& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
