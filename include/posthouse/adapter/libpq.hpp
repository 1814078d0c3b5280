// SPDX-License-Identifier: Apache-2.0
// Jobs inside a transaction of libpq's, and the application's own connections for clients.
//
// A PGconn* is a posthouse::Transaction as it is:
//
//   PQexec(connection, "begin");
//   client.enqueue(connection, "send_welcome", posthouse::json{R"({"user": 42})"});
//   PQexec(connection, "commit");
//
// The connection must speak UTF8 and not be in the middle of another statement. Statements run by PQexecParams, which
// blocks, whatever PQsetnonblocking says. Rolling back to a savepoint takes back the jobs enqueued after it.
//
// An application that has a pool lends its connections:
//
//   auto const lent = posthouse::libpq_connections([&](auto timeout) { return mine.take(timeout); },
//                                                  [&](PGconn* connection, bool usable) { mine.put(connection, usable); });
//   auto const pool = std::make_shared<posthouse::Pool>(posthouse::PoolOptions{.name = "mine"}, lent);
//   posthouse::Client client({.pool = pool});
//
// Thread safety: of a PGconn, one thread at a time; both functions are called from any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include <posthouse/error.hpp>
#include <posthouse/pool.hpp>
#include <posthouse/transaction.hpp>

namespace posthouse {
namespace detail {

class LibpqConnections final : public ConnectionSource {
 public:
  using Acquire = std::function<pg_conn*(std::chrono::milliseconds)>;
  using Release = std::function<void(pg_conn*, bool)>;
  LibpqConnections(Acquire acquire, Release release) : acquire_(std::move(acquire)), release_(std::move(release)) {}

  std::unique_ptr<Borrowed> borrow(std::chrono::milliseconds timeout) override {
    pg_conn* const connection = acquire_(timeout);
    if (connection == nullptr) throw Timeout("the application's pool had no free connection in time");
    return std::make_unique<One>(connection, release_);
  }

 private:
  class One final : public Borrowed {
   public:
    One(pg_conn* connection, Release const& release) : connection_(connection), release_(release) {}
    ~One() override { release_(connection_, usable_); }
    pg_conn* libpq() noexcept override { return connection_; }
    void unusable() noexcept override { usable_ = false; }

   private:
    pg_conn* connection_;
    Release const& release_;
    bool usable_ = true;
  };
  Acquire acquire_;
  Release release_;
};

class LibpqConnection final : public ConnectionSource {
 public:
  explicit LibpqConnection(pg_conn* connection) : connection_(connection) {}

  std::unique_ptr<Borrowed> borrow(std::chrono::milliseconds timeout) override {
    std::unique_lock lock(mutex_);
    if (!free_.wait_for(lock, timeout, [this] { return !lent_; })) {
      throw Timeout("the application's one connection is in use");
    }
    auto one = std::make_unique<One>(*this);
    lent_ = true;
    return one;
  }

 private:
  class One final : public Borrowed {
   public:
    explicit One(LibpqConnection& source) : source_(source) {}
    ~One() override {
      {
        std::lock_guard const lock(source_.mutex_);
        source_.lent_ = false;
      }
      source_.free_.notify_one();
    }
    pg_conn* libpq() noexcept override { return source_.connection_; }

   private:
    LibpqConnection& source_;
  };
  pg_conn* connection_;
  std::mutex mutex_{};
  std::condition_variable free_{};
  bool lent_ = false;
};

}  // namespace detail

/// `acquire` waits at most so long and returns null when none is free. `release` gets each back, with false when it must
/// not be used again (close it, or PQreset it); it must not throw.
inline std::shared_ptr<ConnectionSource> libpq_connections(
    std::function<pg_conn*(std::chrono::milliseconds timeout)> acquire,
    std::function<void(pg_conn* connection, bool usable)> release) {
  return std::make_shared<detail::LibpqConnections>(std::move(acquire), std::move(release));
}

/// One connection, lent to one at a time; never closed, and there for as long as anybody may borrow it. For
/// DatabaseOptions::listen, or a pool of size 1.
inline std::shared_ptr<ConnectionSource> libpq_connection(pg_conn* connection) {
  return std::make_shared<detail::LibpqConnection>(connection);
}

}  // namespace posthouse
