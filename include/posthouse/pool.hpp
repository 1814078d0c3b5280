// SPDX-License-Identifier: Apache-2.0
// Connections that clients, schedules and the application share.
//
//   auto const pool = std::make_shared<posthouse::Pool>(posthouse::PoolOptions{.database_url = url});
//   posthouse::Client client({.pool = pool});
//   auto const connection = pool->acquire("monthly report");
//   PQexec(connection.get(), "select …");
//
// Who is given a pool uses it and never closes it. A pool has at most pool_size + max_overflow connections, opened as
// they are needed; who waits for one is served in the order of coming.
// Thread safety: every member of Pool may be called from any thread; a Lease belongs to one thread at a time. After
// fork() a pool of the parent throws in the child. A pool must outlive its leases.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <posthouse/error.hpp>
#include <posthouse/options.hpp>
#include <posthouse/transaction.hpp>

namespace posthouse {

/// One connection of the application's, for as long as the object lives; its destructor gives it back. Either libpq() or
/// executor() is something. It must be outside of a transaction and speak UTF-8.
class Borrowed {
 public:
  Borrowed() = default;
  Borrowed(Borrowed const&) = delete;
  Borrowed& operator=(Borrowed const&) = delete;
  virtual ~Borrowed() = default;

  /// Calls on it have the deadlines of DatabaseOptions; what the caller has set on it (blocking, notice processor) is
  /// as before when it is given back.
  virtual pg_conn* libpq() noexcept { return nullptr; }
  /// For libraries that show no PGconn. Each call commits by itself unless a "begin" went before. No deadlines of ours.
  virtual Executor* executor() noexcept { return nullptr; }
  /// Called before the destructor when the connection must not be used again: it is broken, or in the middle of a
  /// statement whose time was over.
  virtual void unusable() noexcept {}
};

/// The application's own connections: a pool of its own, or a single one. See adapter/libpq.hpp and adapter/pqxx.hpp for
/// ready ones. Called from any thread.
class ConnectionSource {
 public:
  ConnectionSource() = default;
  ConnectionSource(ConnectionSource const&) = delete;
  ConnectionSource& operator=(ConnectionSource const&) = delete;
  virtual ~ConnectionSource() = default;

  /// Waits at most `timeout` for a free one, then throws Timeout. What else it throws becomes Unavailable.
  virtual std::unique_ptr<Borrowed> borrow(std::chrono::milliseconds timeout) = 0;
};

struct PoolOptions {
  std::string database_url{};  ///< shorthand for database.database_url; wins when not empty
  DatabaseOptions database{};
  std::string name = "default";                   ///< in errors and log, 1 to 100 bytes
  int pool_size = 5;                              ///< connections that stay open when nobody uses them, 1 to 1,000
  int max_overflow = 10;                          ///< further ones at need, 0 to 1,000; closed as soon as they are free
  std::chrono::milliseconds pool_timeout{30000};  ///< wait for a free one, 1 ms to 1 day, then Timeout
  /// true: a connection that has been idle for ping_after is asked for a sign of life before it is handed out, which
  /// costs a round trip, and one that was idle for less is looked at without one; a dead one is replaced unseen.
  /// false: nothing is done, and a dead one shows as the failure of the first statement on it. Clients then take another
  /// connection and try again, unless the outcome is in doubt.
  bool pool_pre_ping = true;
  std::chrono::milliseconds ping_after{1000};            ///< 0 (each time) to 1 day
  std::chrono::milliseconds pool_recycle{1'800'000};     ///< older ones are replaced; 0: never, up to 365 days
  std::chrono::milliseconds pool_idle_timeout{600'000};  ///< idle ones are closed after it; 0: never, up to 365 days
  /// true: each statement of the library is logged at level info, with its time and number of rows. Values are never
  /// shown, nor what stands as a literal or a comment in a statement. Statements of the application are not seen.
  bool echo = false;
  Logger logger{};  ///< empty: warnings and errors to standard error
};

/// Counters since the pool was made, and the state at this moment.
struct PoolStats {
  int open = 0;    ///< connections, with those that are being opened; in_use + idle
  int in_use = 0;  ///< leased
  int idle = 0;
  int overflow = 0;                           ///< of the open ones, those beyond pool_size
  int waiting = 0;                            ///< callers that wait for a free one
  std::chrono::milliseconds longest_held{0};  ///< of the leases there are
  std::string longest_holder{};               ///< its label; empty: none
  std::int64_t acquired = 0;
  std::int64_t waits = 0;     ///< callers that had to wait, with those that gave up
  std::int64_t timeouts = 0;  ///< callers that gave up
  std::int64_t opened = 0;
  std::int64_t closed = 0;     ///< for whatever reason
  std::int64_t recycled = 0;   ///< closed because of pool_recycle
  std::int64_t discarded = 0;  ///< closed because they were dead, broken or in a state that cannot be mended
  std::int64_t shrunk = 0;     ///< closed because of pool_idle_timeout, or as overflow
  std::int64_t pings = 0;      ///< round trips of pool_pre_ping
};

class Pool {
 public:
  /// Opens no connection yet. Throws InvalidArgument when an option is out of range.
  explicit Pool(PoolOptions options);
  /// The same over the application's own connections: at most pool_size + max_overflow are borrowed at a time, each for
  /// one use; pool_pre_ping, pool_recycle and the idle time are the application's to decide. Of options.database it uses
  /// `schema`, `statement_timeout` and `listen`; where a URL is given too, waits for results LISTEN there, else they poll.
  Pool(PoolOptions options, std::shared_ptr<ConnectionSource> source);
  /// No lease may be left.
  ~Pool();
  Pool(Pool const&) = delete;
  Pool& operator=(Pool const&) = delete;

  /// A connection of the pool, given back by the destructor: what is open on it is rolled back. What the application has
  /// SET on it stays for the next lease of the application; before a Client uses it, it is reset.
  class Lease {
   public:
    Lease(Lease&& other) noexcept : pool_(std::exchange(other.pool_, nullptr)), held_(other.held_) {}
    Lease& operator=(Lease&& other) noexcept {
      std::swap(pool_, other.pool_);
      std::swap(held_, other.held_);
      return *this;
    }
    ~Lease();

    /// Blocking, UTF-8; also a Transaction for Client::enqueue. Not to be finished, nor kept beyond the lease.
    [[nodiscard]] pg_conn* get() const;

   private:
    friend class Pool;
    Lease(Pool& pool, void* held) noexcept : pool_(&pool), held_(held) {}
    Pool* pool_;
    void* held_;
  };

  /// Waits for a free one in the order of coming. `label` says in errors and statistics who has it. Throws Timeout (which
  /// names the pool, its size and who holds connections longest), Unavailable, InvalidArgument when the pool is closed.
  Lease acquire(std::string_view label = "application");

  /// Makes a closed pool usable again; connects nothing. A new pool is open. A Client and a Schedules call it when they
  /// are built.
  void open();
  /// Closes the connections that are idle now and the others as they come back; acquire() throws until open().
  void close() noexcept;
  [[nodiscard]] bool is_open() const noexcept;

  [[nodiscard]] PoolStats stats() const;
  [[nodiscard]] PoolOptions const& options() const noexcept;

 private:
  friend struct PoolDoor;
  Pool() = default;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace posthouse
