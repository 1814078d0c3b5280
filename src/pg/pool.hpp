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
  /// When connections that nobody uses are closed.
  struct Keep {
    int idle = 1'000'000;                                    ///< most that stay open
    std::chrono::milliseconds lifetime{365LL * 86'400'000};  ///< since it was opened
    std::chrono::milliseconds idle_time{365LL * 86'400'000};
  };
  Pool(DatabaseOptions options, int size, std::chrono::milliseconds wait, Keep keep);
  Pool(Pool const&) = delete;
  Pool& operator=(Pool const&) = delete;

  /// A connection for as long as it lives. It goes back to the pool unless it is broken or inside a transaction.
  class Lease {
   public:
    Lease(Lease&& other) noexcept
        : pool_(other.pool_), connection_(std::move(other.connection_)), opened_(other.opened_) {}
    Lease& operator=(Lease&&) = delete;
    ~Lease();
    Connection& operator*() const noexcept { return *connection_; }
    Connection* operator->() const noexcept { return connection_.get(); }

   private:
    friend class Pool;
    Lease(Pool& pool, std::unique_ptr<Connection> connection, Clock::time_point opened) noexcept
        : pool_(&pool), connection_(std::move(connection)), opened_(opened) {}
    Pool* pool_;
    std::unique_ptr<Connection> connection_;
    Clock::time_point opened_;
  };

  /// Closes those that nobody uses.
  void close_idle() noexcept;

  /// Opens a connection when none is free and fewer than `size` are out. Throws Timeout, Unavailable.
  Lease acquire();

  /// Closes those that have been idle or open for too long. Call it now and then: the pool has no thread.
  void close_stale();
  [[nodiscard]] std::size_t open_connections() const;

  /// No pool of this process has more connections than this from now on.
  static void cap(std::size_t most) noexcept;
  static std::size_t capped() noexcept;

  [[nodiscard]] DatabaseOptions const& options() const noexcept { return options_; }

 private:
  struct Idle {
    std::unique_ptr<Connection> connection{};
    Clock::time_point opened{};
    Clock::time_point since{};
  };
  void give_back(std::unique_ptr<Connection> connection, Clock::time_point opened) noexcept;

  DatabaseOptions options_;
  std::size_t size_;
  std::chrono::milliseconds wait_;
  Keep keep_{};
  base::ForkGuard guard_{"connection pool"};
  mutable std::mutex mutex_;
  std::condition_variable free_;
  std::vector<Idle> idle_;  ///< the newest at the back, so that few stay warm
  std::size_t count_ = 0;   ///< idle and leased
};

}  // namespace posthouse::pg
