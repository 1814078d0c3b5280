// SPDX-License-Identifier: Apache-2.0
// posthouse::Pool: a PoolQueue of connections.
#include "pg/shared_pool.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <system_error>

#include "base/fork_guard.hpp"
#include "base/service.hpp"
#include "core/names.hpp"
#include "core/redact.hpp"
#include "core/refuse.hpp"
#include "core/text.hpp"
#include "pg/pool.hpp"

namespace posthouse {
namespace {

using pg::PoolQueue;
using std::chrono::milliseconds;

class Item final : public pg::PoolItem {
 public:
  explicit Item(std::unique_ptr<pg::Connection> made) : connection(std::move(made)) {}
  bool alive() noexcept override { return connection->alive(); }
  bool ping() noexcept override { return connection->ping(); }
  void unlooked() noexcept override { connection->look_later(); }

  std::unique_ptr<pg::Connection> connection;
  bool touched = false;  ///< the application has had it since it was last reset
};

Item& item_of(PoolQueue::Slot& slot) noexcept { return static_cast<Item&>(*slot.item); }

PoolOptions checked(PoolOptions options) {
  if (!options.database_url.empty()) options.database.database_url = options.database_url;
  options.database_url = options.database.database_url;
  constexpr std::int64_t day = 24 * 3'600'000;
  core::check_text("name", options.name);
  core::check_range("size of the pool's name", static_cast<std::int64_t>(options.name.size()), 1, 100, "bytes");
  core::check_range("pool_size", options.pool_size, 1, 1000);
  core::check_range("max_overflow", options.max_overflow, 0, 1000);
  core::check_range("pool_timeout", options.pool_timeout.count(), 1, day, "ms");
  core::check_range("ping_after", options.ping_after.count(), 0, day, "ms");
  core::check_range("pool_recycle", options.pool_recycle.count(), 0, 365 * day, "ms");
  core::check_range("pool_idle_timeout", options.pool_idle_timeout.count(), 0, 365 * day, "ms");
  core::check_schema(options.database.schema);
  return options;
}

PoolQueue::Rules rules_of(PoolOptions const& options, bool keep) {
  return {.name = options.name,
          .size = static_cast<std::size_t>(options.pool_size),
          .overflow = static_cast<std::size_t>(options.max_overflow),
          .timeout = options.pool_timeout,
          .check = options.pool_pre_ping ? PoolQueue::Check::ping : PoolQueue::Check::none,
          .ping_after = options.ping_after,
          .recycle = options.pool_recycle,
          .idle_time = options.pool_idle_timeout,
          .keep = keep,
          .cap = pg::Pool::capped};
}

std::string milliseconds_text(std::chrono::microseconds time) {
  auto const us = time.count();
  return std::to_string(us / 1000) + "." + std::to_string(us % 1000 / 100);
}

std::shared_ptr<pg::EchoTo const> echo_to(PoolOptions const& options, base::Log const& log) {
  if (!options.echo) return nullptr;
  return std::make_shared<pg::EchoTo const>([log, name = options.name](pg::Echo const& echo) {
    base::Log::Fields fields{{"pool", name}, {"sql", core::redact_sql(echo.sql)}, {"ms", milliseconds_text(echo.took)}};
    if (echo.values > 0) fields["values"] = std::to_string(echo.values) + " not shown";
    if (echo.problem.empty()) {
      fields["rows"] = std::to_string(echo.rows);
    } else {
      fields["error"] = echo.problem;
    }
    log.info("statement", fields);
  });
}

}  // namespace

struct Pool::Impl {
  Impl(PoolOptions given, std::shared_ptr<ConnectionSource> from, std::optional<PoolQueue::Check> check)
      : options(checked(std::move(given))), source(std::move(from)), queue(rules(check), [this] { return make(); }) {}

  [[nodiscard]] PoolQueue::Rules rules(std::optional<PoolQueue::Check> check) const {
    auto rules = rules_of(options, source == nullptr);
    if (check) rules.check = *check;
    return rules;
  }

  std::unique_ptr<pg::PoolItem> make() const {
    auto connection = source ? pg::Connection::borrow(*source, options.database, options.pool_timeout)
                             : pg::Connection::open(options.database);
    connection->set_echo(echo);
    return std::make_unique<Item>(std::move(connection));
  }

  void give_back(PoolQueue::Slot& slot, bool usable) noexcept {
    auto& connection = *item_of(slot).connection;
    if (usable && connection.ok() && connection.in_transaction()) connection.rollback();
    queue.give_back(slot, usable && connection.ok());
    if (shrinks && !shrinking.exchange(true)) {
      try {
        shrinker.start();
      } catch (std::system_error const&) {
        // No thread to be had: they are closed by and by, as they are used.
      }
    }
  }

  /// Whatever goes idle meanwhile does so for longer than the pause.
  void shrink(std::stop_token const& stop) {
    std::unique_lock lock(shrink_mutex);
    while (!stop.stop_requested()) {
      auto const longest = PoolQueue::Clock::now() + options.pool_idle_timeout;
      auto const until = std::min(queue.shrink().value_or(longest), longest);
      shrink_wake.wait_until(lock, stop, until, [] { return false; });
    }
  }

  PoolOptions const options;
  std::shared_ptr<ConnectionSource> const source;
  base::Log const log{options.logger};
  std::shared_ptr<pg::EchoTo const> const echo = echo_to(options, log);
  base::ForkGuard guard{"Pool"};
  pid_t const owner = ::getpid();
  PoolQueue queue;

  bool const shrinks = source == nullptr && options.pool_idle_timeout.count() > 0;
  std::atomic<bool> shrinking{false};
  std::mutex shrink_mutex{};
  std::condition_variable_any shrink_wake{};
  base::Service shrinker{"posthouse-pool", [this](std::stop_token const& stop) { shrink(stop); }};
};

Pool::Pool(PoolOptions options) : impl_(std::make_unique<Impl>(std::move(options), nullptr, std::nullopt)) {}

Pool::Pool(PoolOptions options, std::shared_ptr<ConnectionSource> source) {
  if (!source) throw InvalidArgument("the ConnectionSource of the pool is null");
  impl_ = std::make_unique<Impl>(std::move(options), std::move(source), std::nullopt);
}

Pool::~Pool() {
  // In a forked child everything is left to the parent.
  if (impl_ && impl_->owner != ::getpid()) (void)impl_.release();
}

Pool::Lease Pool::acquire(std::string_view label) {
  impl_->guard.check();
  auto& slot = impl_->queue.acquire(label);
  auto& item = item_of(slot);
  item.touched = true;
  if (item.connection->lend() != nullptr) return {*this, &slot};
  impl_->give_back(slot, true);
  throw InvalidArgument("pool '" + impl_->options.name + "' has connections of another library than libpq",
                        {.sqlstate = {}, .in_doubt = false, .hint = "take them from that library"});
}

Pool::Lease::~Lease() {
  if (pool_ == nullptr) return;
  auto& slot = *static_cast<PoolQueue::Slot*>(held_);
  pool_->impl_->give_back(slot, item_of(slot).connection->take_back());
}

pg_conn* Pool::Lease::get() const {
  if (pool_ == nullptr) throw InvalidArgument("this lease was moved from");
  pool_->impl_->guard.check();
  return item_of(*static_cast<PoolQueue::Slot*>(held_)).connection->lend();
}

void Pool::open() {
  impl_->guard.check();
  impl_->queue.open();
}
void Pool::close() noexcept { impl_->queue.close(); }
bool Pool::is_open() const noexcept { return impl_->queue.is_open(); }
PoolStats Pool::stats() const { return impl_->queue.stats(); }
PoolOptions const& Pool::options() const noexcept { return impl_->options; }

PoolDoor::Use PoolDoor::use(Pool& pool, std::string_view label) {
  pool.impl_->guard.check();
  for (;;) {
    auto& slot = pool.impl_->queue.acquire(label);
    auto& item = item_of(slot);
    try {
      if (item.touched) item.connection->reset_session();
      item.touched = false;
      return {pool, slot};
    } catch (Error const&) {
      bool const again = slot.reused;
      pool.impl_->give_back(slot, false);
      if (!again) throw;
    }
  }
}

PoolDoor::Use::Use(Pool& pool, pg::PoolQueue::Slot& slot)
    : pool_(pool), slot_(slot), connection_(item_of(slot).connection.get()) {}

PoolDoor::Use::~Use() {
  connection_->set_deadline(pool_.impl_->options.database.statement_timeout);
  pool_.impl_->give_back(slot_, true);
}

void PoolDoor::sweep(Pool& pool) noexcept { pool.impl_->queue.sweep(); }

std::shared_ptr<Pool> PoolDoor::of(ClientOptions const& options, int size) {
  if (options.pool) {
    if (!options.database_url.empty() || !options.database.database_url.empty() ||
        !options.database.session_database_url.empty()) {
      core::refuse_because("pool", "given beside a database_url", "one of them",
                           "say in PoolOptions where the database is");
    }
    auto const& schema = database(*options.pool).schema;
    if (options.database.schema != schema && options.database.schema != DatabaseOptions{}.schema) {
      core::refuse_because("schema", "another one than the pool's, " + core::shown(schema), "that one",
                           "say the schema in PoolOptions");
    }
    options.pool->open();
    return options.pool;
  }
  auto database = options.database;
  if (!options.database_url.empty()) database.database_url = options.database_url;
  auto pool = std::shared_ptr<Pool>(new Pool());
  pool->impl_ = std::make_unique<Pool::Impl>(PoolOptions{.database = std::move(database),
                                                         .name = "Client",
                                                         .pool_size = size,
                                                         .max_overflow = 0,
                                                         .pool_timeout = options.pool_timeout,
                                                         .pool_recycle = milliseconds{0},
                                                         .pool_idle_timeout = milliseconds{0}},
                                             nullptr, PoolQueue::Check::look);
  return pool;
}

bool PoolDoor::has_session(Pool const& pool) noexcept {
  auto const& database = pool.impl_->options.database;
  if (database.listen || !database.session_database_url.empty()) return true;
  if (database.pgbouncer_transaction_mode) return false;
  return pool.impl_->source == nullptr || !database.database_url.empty();
}

base::Log const& PoolDoor::log(Pool const& pool) noexcept { return pool.impl_->log; }
DatabaseOptions const& PoolDoor::database(Pool const& pool) noexcept { return pool.impl_->options.database; }

}  // namespace posthouse
