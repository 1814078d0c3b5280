// SPDX-License-Identifier: Apache-2.0
// A few connections that many threads share.
#include "pg/pool.hpp"

#include <algorithm>
#include <atomic>
#include <limits>

namespace posthouse::pg {

namespace {

std::atomic<std::size_t> capped{std::numeric_limits<std::size_t>::max()};

}  // namespace

void Pool::cap(std::size_t most) noexcept { capped = most; }

Pool::Pool(DatabaseOptions options, int size, std::chrono::milliseconds wait)
    : options_(std::move(options)), size_(static_cast<std::size_t>(size)), wait_(wait) {
  idle_.reserve(size_);  // so that giving back never allocates
}

Pool::Lease::~Lease() {
  if (connection_) pool_->give_back(std::move(connection_));
}

Pool::Lease Pool::acquire() {
  guard_.check();  // before the mutex, which a thread of the parent may have held at the moment of the fork
  auto const until = Clock::now() + wait_;
  auto const size = std::min(size_, capped.load(std::memory_order_relaxed));
  std::unique_lock lock(mutex_);
  for (;;) {
    while (!idle_.empty()) {
      std::unique_ptr<Connection> connection = std::move(idle_.back());
      idle_.pop_back();
      if (connection->alive()) return {*this, std::move(connection)};
      --count_;
    }
    if (count_ < size) break;
    if (free_.wait_until(lock, until) == std::cv_status::timeout && idle_.empty() && count_ >= size) {
      throw Timeout("no connection came free within " + std::to_string(wait_.count()) + " ms; all " +
                        std::to_string(size) + " are in use",
                    {.sqlstate = {}, .in_doubt = false, .hint = "raise pool_size or pool_timeout"});
    }
  }
  ++count_;
  lock.unlock();
  try {
    return {*this, Connection::open(options_)};
  } catch (...) {
    give_back(nullptr);
    throw;
  }
}

void Pool::give_back(std::unique_ptr<Connection> connection) noexcept {
  if (connection && connection->ok() && connection->in_transaction()) connection->rollback();
  if (connection && !connection->ok()) connection.reset();
  if (connection) connection->set_deadline(options_.statement_timeout);
  {
    std::scoped_lock const lock(mutex_);
    if (connection) {
      idle_.push_back(std::move(connection));
    } else {
      --count_;
    }
  }
  free_.notify_one();
}

void Pool::close_idle() noexcept {
  for (;;) {
    std::unique_ptr<Connection> idle;
    {
      std::scoped_lock const lock(mutex_);
      if (idle_.empty()) return;
      idle = std::move(idle_.back());
      idle_.pop_back();
      --count_;
    }
    free_.notify_one();
  }
}

}  // namespace posthouse::pg
