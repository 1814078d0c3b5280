// SPDX-License-Identifier: Apache-2.0
// A few connections that many threads share.
//
// Thread safety: every member of Pool may be called from any thread; a Lease belongs to one thread. In a child of
// fork() acquire() throws, since the connections are the parent's.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include <posthouse/options.hpp>

#include "base/fork_guard.hpp"
#include "pg/connection.hpp"

namespace posthouse::pg {

class Pool {
 public:
  /// size: most connections at a time; wait: for a free one, then Timeout. Opens nothing yet.
  Pool(DatabaseOptions options, int size, std::chrono::milliseconds wait);
  Pool(Pool const&) = delete;
  Pool& operator=(Pool const&) = delete;

  /// A connection for as long as it lives. It goes back to the pool unless it is broken or inside a transaction.
  class Lease {
   public:
    Lease(Lease&& other) noexcept : pool_(other.pool_), connection_(std::move(other.connection_)) {}
    Lease& operator=(Lease&&) = delete;
    ~Lease();
    Connection& operator*() const noexcept { return *connection_; }
    Connection* operator->() const noexcept { return connection_.get(); }

   private:
    friend class Pool;
    Lease(Pool& pool, std::unique_ptr<Connection> connection) noexcept
        : pool_(&pool), connection_(std::move(connection)) {}
    Pool* pool_;
    std::unique_ptr<Connection> connection_;
  };

  /// Closes those that nobody uses.
  void close_idle() noexcept;

  /// Opens a connection when none is free and fewer than `size` are out. Throws Timeout, Unavailable.
  Lease acquire();

  /// No pool of this process has more connections than this from now on.
  static void cap(std::size_t most) noexcept;

  [[nodiscard]] DatabaseOptions const& options() const noexcept { return options_; }

 private:
  void give_back(std::unique_ptr<Connection> connection) noexcept;

  DatabaseOptions options_;
  std::size_t size_;
  std::chrono::milliseconds wait_;
  base::ForkGuard guard_{"connection pool"};
  std::mutex mutex_;
  std::condition_variable free_;
  std::vector<std::unique_ptr<Connection>> idle_;  ///< the newest at the back, so that few stay warm
  std::size_t count_ = 0;                          ///< idle and leased
};

}  // namespace posthouse::pg
