// SPDX-License-Identifier: Apache-2.0
// The library's side of a posthouse::Pool: connections as it uses them.
//
// Thread safety: as Pool; a Use belongs to one thread.
#pragma once

#include <memory>
#include <string_view>

#include <posthouse/client.hpp>
#include <posthouse/pool.hpp>

#include "base/log.hpp"
#include "pg/connection.hpp"
#include "pg/pool_queue.hpp"

namespace posthouse {

struct PoolDoor {
  /// A connection for as long as it lives; what is open on it then is rolled back.
  class Use {
   public:
    Use(Use const&) = delete;
    Use& operator=(Use const&) = delete;
    ~Use();
    pg::Connection& operator*() const noexcept { return *connection_; }
    pg::Connection* operator->() const noexcept { return connection_; }

   private:
    friend struct PoolDoor;
    Use(Pool& pool, pg::PoolQueue::Slot& slot);
    Pool& pool_;
    pg::PoolQueue::Slot& slot_;
    pg::Connection* connection_;
  };
  static Use use(Pool& pool, std::string_view label);

  /// `call` with a connection; again with another one when that has turned out to be dead before anything was sent.
  template <class Call>
  static auto run(Pool& pool, std::string_view label, Call call) {
    constexpr int most = 5;
    for (int attempt = 1;; ++attempt) {
      {
        auto connection = use(pool, label);
        try {
          return call(*connection);
        } catch (Unavailable const&) {
          if (!connection->found_dead() || attempt == most) throw;
        }
      }
      sweep(pool);
    }
  }

  /// Closes idle connections that the server has closed.
  static void sweep(Pool& pool) noexcept;
  /// The pool that was given, open; else one for these options alone, which only looks at connections before it hands
  /// them out and keeps them for ever. Throws InvalidArgument when both say where the database is.
  static std::shared_ptr<Pool> of(ClientOptions const& options, int size);
  /// Whether it knows where to LISTEN.
  static bool has_session(Pool const& pool) noexcept;
  static base::Log const& log(Pool const& pool) noexcept;
  static DatabaseOptions const& database(Pool const& pool) noexcept;
};

}  // namespace posthouse
