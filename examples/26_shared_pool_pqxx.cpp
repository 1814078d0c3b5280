// SPDX-License-Identifier: Apache-2.0
// An application with connections of libpqxx lends them to a client, so that there are no others.
//
//   build/release/bin/example_26_shared_pool_pqxx postgresql://user@host/database
//
// Needs the schema (`posthouse install`). Ends with status 0 when jobs came and went through the application's connection.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <mutex>
#include <posthouse/adapter/pqxx.hpp>
#include <posthouse/posthouse.hpp>
#include <pqxx/pqxx>
#include <string>
#include <vector>

namespace {

/// One connection that several share; a pointer to it is the right to use it.
class OwnConnection {
 public:
  explicit OwnConnection(std::string const& url) : connection_(url) {}

  std::shared_ptr<pqxx::connection> take(std::chrono::milliseconds timeout) {
    auto lock = std::make_shared<std::unique_lock<std::timed_mutex>>(mutex_, std::defer_lock);
    if (!lock->try_lock_for(timeout)) return nullptr;
    return {&connection_, [lock](pqxx::connection*) {}};  // the lock goes with the pointer
  }

 private:
  pqxx::connection connection_;
  std::timed_mutex mutex_{};
};

}  // namespace

int main(int argc, char** argv) try {
  char const* const variable = std::getenv("DATABASE_URL");
  std::string const url = argc > 1 ? argv[1] : variable != nullptr ? variable : "";
  OwnConnection own(url);

  auto const pool =
      std::make_shared<posthouse::Pool>(posthouse::PoolOptions{.name = "pqxx", .pool_size = 1, .max_overflow = 0},
                                        posthouse::pqxx_connections([&](auto timeout) { return own.take(timeout); }));
  posthouse::Client client({.pool = pool});

  // The application's SQL and its jobs, in one transaction.
  std::int64_t inside = 0;
  {
    auto const connection = own.take(std::chrono::seconds(5));
    pqxx::work transaction(*connection);
    inside = client.enqueue(transaction, "example.ship", posthouse::json{"1"}).id;
    transaction.commit();
  }
  // Everything else a client does borrows the connection for as long as it takes.
  auto const alone = client.enqueue("example.ship", posthouse::json{"2"}, {.priority = 3}).id;
  std::vector<posthouse::Payload> const payloads(100, posthouse::json{"3"});
  auto const many = client.enqueue_many("example.ship", payloads);
  bool const there = client.find(inside) && client.find(alone) && client.find(many.back());
  bool const cancelled = client.cancel(alone) == posthouse::CancelOutcome::cancelled;

  std::cout << "jobs through the application's connection: " << (there ? "there" : "missing") << '\n'
            << "cancelled one:                             " << (cancelled ? "yes" : "no") << '\n';
  return there && cancelled ? 0 : 1;
} catch (std::exception const& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
