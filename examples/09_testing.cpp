// SPDX-License-Identifier: Apache-2.0
// Tests of programs that use posthouse: a handler without a server, what code has enqueued, due jobs run inside a
// transaction that is rolled back, and a private PostgreSQL. Link posthouse::testing as well.
//
//   build/release/bin/example_09_testing
//
// Needs no URL: testing::Database starts a PostgreSQL of its own, which goes with the process. Works with any test
// framework; here a check is a line. Ends with status 0 when all hold.
#include <libpq-fe.h>

#include <chrono>
#include <iostream>
#include <memory>
#include <posthouse/adapter/libpq.hpp>
#include <posthouse/posthouse.hpp>
#include <posthouse/testing.hpp>
#include <string>
#include <variant>

namespace testing = posthouse::testing;
using namespace std::chrono_literals;

// -- the program under test
// --------------------------------------------------------------------------------------------

posthouse::Outcome remind(posthouse::Job const& job) {
  if (job.payload().is_null()) return posthouse::Discard{"nobody to remind"};
  if (job.attempt() < 3) return posthouse::RetryAfter{10min, "nobody answered"};
  return posthouse::Success{};
}

void sign_up(posthouse::Client& client, PGconn* transaction, std::string const& user) {
  client.enqueue(transaction, "example.remind", posthouse::json{"\"" + user + "\""}, {.delay = 24h});
}

// -- its tests
// ---------------------------------------------------------------------------------------------------------

int failures = 0;
void check(bool condition, std::string const& what) {
  std::cout << (condition ? "  ok    " : "  WRONG ") << what << '\n';
  if (!condition) ++failures;
}

int main() try {
  std::cout << "a handler without a server\n";
  auto const first = testing::run(remind, testing::job({.payload = posthouse::json{"\"ada\""}}));
  check(std::holds_alternative<posthouse::RetryAfter>(first), "the first attempt asks for another");
  auto const third = testing::run(remind, testing::job({.payload = posthouse::json{"\"ada\""}, .attempt = 3}));
  check(std::holds_alternative<posthouse::Success>(third), "the third succeeds");
  check(std::holds_alternative<posthouse::Discard>(testing::run(remind, testing::job())), "no payload: discarded");

  std::cout << "a database of the test's own\n";
  testing::Database const database;
  posthouse::Client client({.database = database.options()});
  std::unique_ptr<PGconn, decltype(&PQfinish)> const connection(PQconnectdb(database.url().c_str()), PQfinish);
  PGconn* const transaction = connection.get();

  PQclear(PQexec(transaction, "begin"));
  sign_up(client, transaction, "ada");
  auto const jobs = testing::enqueued(transaction, "example.remind");
  check(jobs.size() == 1 && jobs[0].state == "scheduled", "signing up schedules one reminder");
  check(jobs.size() == 1 && jobs[0].payload.data() == "\"ada\"", "for the right user");

  check(testing::run_due(transaction, {{"example.remind", remind}}).empty(), "nothing is due today");
  auto const ran = testing::run_due(transaction, {{"example.remind", remind}}, {.ahead = 25h});
  check(ran.size() == 1 && std::holds_alternative<posthouse::RetryAfter>(ran[0].outcome), "tomorrow it runs");
  PQclear(PQexec(transaction, "rollback"));

  PQclear(PQexec(transaction, "begin"));
  check(testing::enqueued(transaction, "example.remind").empty(), "after the rollback nothing has happened");
  PQclear(PQexec(transaction, "rollback"));
  return failures == 0 ? 0 : 1;
} catch (posthouse::Error const& error) {
  std::cerr << error.what() << '\n' << error.hint() << '\n';
  return 1;
}
