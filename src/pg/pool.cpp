// SPDX-License-Identifier: Apache-2.0
// A few connections that many threads share.
#include "pg/pool.hpp"

#include <algorithm>
#include <atomic>
#include <limits>

namespace posthouse::pg {

namespace {

std::atomic<std::size_t> most_of_all{std::numeric_limits<std::size_t>::max()};

}  // namespace

void Pool::cap(std::size_t most) noexcept { most_of_all = most; }
std::size_t Pool::capped() noexcept { return most_of_all.load(std::memory_order_relaxed); }

Pool::Pool(DatabaseOptions options, int size, std::chrono::milliseconds wait)
    : options_(std::move(options)), size_(static_cast<std::size_t>(size)), wait_(wait) {
  idle_.reserve(size_);  // so that giving back never allocates
}

Pool::Pool(DatabaseOptions options, int size, std::chrono::milliseconds wait, Keep keep)
    : Pool(std::move(options), size, wait) {
  keep_ = keep;
}

Pool::Lease::~Lease() {
  if (connection_) pool_->give_back(std::move(connection_), opened_);
}

void Pool::close_stale() {
  std::vector<Idle> closing;
  auto const now = Clock::now();
  std::lock_guard const lock(mutex_);
  for (auto it = idle_.begin(); it != idle_.end();) {
    if (now - it->since < keep_.idle_time && now - it->opened < keep_.lifetime) {
      ++it;
      continue;
    }
    closing.push_back(std::move(*it));
    it = idle_.erase(it);
    --count_;
  }
}

std::size_t Pool::open_connections() const {
  std::lock_guard const lock(mutex_);
  return count_;
}

Pool::Lease Pool::acquire() {
  guard_.check();  // before the mutex, which a thread of the parent may have held at the moment of the fork
  auto const until = Clock::now() + wait_;
  auto const size = std::min(size_, capped());
  std::unique_lock lock(mutex_);
  for (;;) {
    while (!idle_.empty()) {
      auto idle = std::move(idle_.back());
      idle_.pop_back();
      if (idle.connection->alive()) return {*this, std::move(idle.connection), idle.opened};
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
    return {*this, Connection::open(options_), Clock::now()};
  } catch (...) {
    give_back(nullptr, {});
    throw;
  }
}

void Pool::give_back(std::unique_ptr<Connection> connection, Clock::time_point opened) noexcept {
  auto const now = Clock::now();
  if (connection && connection->ok() && connection->in_transaction()) connection->rollback();
  if (connection && !connection->ok()) connection.reset();
  if (connection) connection->set_deadline(options_.statement_timeout);
  {
    std::scoped_lock const lock(mutex_);
    if (connection && idle_.size() < static_cast<std::size_t>(keep_.idle) && now - opened < keep_.lifetime) {
      idle_.push_back({std::move(connection), opened, now});
    } else {
      --count_;
    }
  }
  free_.notify_one();
}

void Pool::close_idle() noexcept {
  for (;;) {
    Idle idle;
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
