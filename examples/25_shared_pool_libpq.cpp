// SPDX-License-Identifier: Apache-2.0
// One pool of connections for clients, schedules and the application's own SQL; and the other way round, an application
// that lends its own libpq connections.
//
//   build/release/bin/example_25_shared_pool_libpq postgresql://user@host/database
//
// Needs the schema (`posthouse install`). Ends with status 0 when everything went through the connections it should.
#include <libpq-fe.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <mutex>
#include <posthouse/adapter/libpq.hpp>
#include <posthouse/posthouse.hpp>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;

namespace {

void run(PGconn* connection, char const* sql) {
  std::unique_ptr<PGresult, decltype(&PQclear)> const result(PQexec(connection, sql), PQclear);
  auto const status = PQresultStatus(result.get());
  if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) throw std::runtime_error(PQerrorMessage(connection));
}

/// What an application may have of its own: connections that it opened itself and hands out one by one.
class OwnPool {
 public:
  OwnPool(std::string const& url, int size) {
    for (int i = 0; i < size; ++i) {
      all_.emplace_back(PQconnectdb(url.c_str()), PQfinish);
      if (PQstatus(all_.back().get()) != CONNECTION_OK) throw std::runtime_error(PQerrorMessage(all_.back().get()));
      free_.push_back(all_.back().get());
    }
  }
  PGconn* take(std::chrono::milliseconds timeout) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, timeout, [&] { return !free_.empty(); })) return nullptr;
    auto* const connection = free_.back();
    free_.pop_back();
    return connection;
  }
  void put(PGconn* connection, bool usable) {
    if (!usable) PQreset(connection);
    {
      std::lock_guard const lock(mutex_);
      free_.push_back(connection);
    }
    changed_.notify_one();
  }

 private:
  std::vector<std::unique_ptr<PGconn, decltype(&PQfinish)>> all_{};
  std::vector<PGconn*> free_{};
  std::mutex mutex_{};
  std::condition_variable changed_{};
};

}  // namespace

int main(int argc, char** argv) try {
  char const* const variable = std::getenv("DATABASE_URL");
  std::string const url = argc > 1 ? argv[1] : variable != nullptr ? variable : "";

  // One pool, made once; whoever is given it uses it and leaves it open.
  auto const pool = std::make_shared<posthouse::Pool>(posthouse::PoolOptions{
      .database_url = url, .name = "shop", .pool_size = 2, .max_overflow = 1, .pool_timeout = 5s});
  posthouse::Client client({.pool = pool});
  posthouse::Schedules schedules({.pool = pool});

  std::int64_t order_job = 0;
  {
    auto const connection = pool->acquire("new order");  // a label for errors and statistics
    run(connection.get(),
        "create table if not exists example_order (id bigint generated always as identity, item text)");
    run(connection.get(), "begin");
    run(connection.get(), "insert into example_order (item) values ('book')");
    order_job = client.enqueue(connection.get(), "example.ship", posthouse::json{R"({"item": "book"})"}).id;
    run(connection.get(), "commit");
  }  // given back; an open transaction would be rolled back
  bool const found = client.find(order_job).has_value();
  bool const quiet = schedules.history("example.none").empty();
  auto const stats = pool->stats();
  std::cout << "the pool opened " << stats.opened << " connections for " << stats.acquired << " uses\n";

  // The application's own connections, lent to a client.
  OwnPool own(url, 2);
  auto const lent = std::make_shared<posthouse::Pool>(
      posthouse::PoolOptions{.name = "lent", .pool_size = 2, .max_overflow = 0},
      posthouse::libpq_connections([&](auto timeout) { return own.take(timeout); },
                                   [&](PGconn* connection, bool usable) { own.put(connection, usable); }));
  posthouse::Client borrower({.pool = lent});
  auto const id = borrower.enqueue("example.ship", posthouse::json{"2"}).id;
  std::cout << "through a lent connection: job " << (client.find(id) ? "there" : "missing") << '\n';

  return found && quiet && stats.opened <= 2 && client.find(id) && pool->is_open() ? 0 : 1;
} catch (std::exception const& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
