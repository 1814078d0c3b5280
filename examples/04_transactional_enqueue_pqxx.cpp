// SPDX-License-Identifier: Apache-2.0
// The same with libpqxx: a pqxx::work is a posthouse::Transaction, and so is a pqxx::subtransaction.
//
//   build/release/bin/example_04_transactional_enqueue_pqxx postgresql://user@host/database
//
// Needs the schema (`posthouse install`). Ends with status 0 when the committed jobs are there and the others are not.
#include <cstdlib>
#include <iostream>
#include <posthouse/adapter/pqxx.hpp>
#include <posthouse/posthouse.hpp>
#include <pqxx/pqxx>
#include <string>
#include <vector>

int main(int argc, char** argv) try {
  char const* const variable = std::getenv("DATABASE_URL");
  std::string const url = argc > 1 ? argv[1] : variable != nullptr ? variable : "";
  pqxx::connection connection(url);
  posthouse::Client client({.database_url = url});

  std::int64_t committed = 0;
  std::vector<posthouse::EnqueueOutcome> many;
  {
    pqxx::work transaction(connection);
    transaction.exec("create table if not exists example_order (id bigint generated always as identity, item text)");
    transaction.exec("insert into example_order (item) values ('book')");
    committed = client.enqueue(transaction, "example.ship", posthouse::json{R"({"item": "book"})"}).id;

    // Different kinds, priorities and delays in one round trip.
    std::vector<posthouse::Request> const requests{
        {.kind = "example.ship", .payload = posthouse::json{"1"}, .options = {.priority = 9}},
        {.kind = "example.remind", .payload = {}, .options = {.delay = std::chrono::hours(24)}},
    };
    many = client.enqueue_many(transaction, requests);
    transaction.commit();
  }

  std::int64_t aborted = 0;
  {
    pqxx::work transaction(connection);
    aborted = client.enqueue(transaction, "example.ship", posthouse::json{"2"}).id;
  }  // no commit: rolled back

  auto const reminder = client.find(many.at(1).id);
  std::cout << "committed: " << (client.find(committed) ? "there" : "missing") << '\n'
            << "reminder:  " << (reminder ? reminder->state : "missing") << '\n'
            << "aborted:   " << (client.find(aborted) ? "there" : "gone") << '\n';
  bool const right = client.find(committed) && client.find(many.at(0).id) && reminder &&
                     reminder->state == "scheduled" && !client.find(aborted);
  return right ? 0 : 1;
} catch (std::exception const& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
