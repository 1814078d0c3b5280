// SPDX-License-Identifier: Apache-2.0
// A queue between threads that holds at most `capacity` items: producers wait when it is full, so memory is bounded.
//
// After close() pushes are refused and pops give what is left, then nothing.
// Thread safety: all members, any number of producers and consumers.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

namespace posthouse::base {

template <class T>
class BoundedQueue {
 public:
  using Deadline = std::chrono::steady_clock::time_point;

  explicit BoundedQueue(std::size_t capacity) : capacity_(capacity) {}

  /// False, with `item` untouched: closed, or still full at the deadline.
  bool push(T& item, Deadline deadline) {
    std::unique_lock lock(mutex_);
    not_full_.wait_until(lock, deadline, [&] { return closed_ || items_.size() < capacity_; });
    if (closed_ || items_.size() >= capacity_) return false;
    items_.push_back(std::move(item));
    lock.unlock();
    not_empty_.notify_one();
    return true;
  }

  /// Nothing: closed and empty, or still empty at the deadline.
  std::optional<T> pop(Deadline deadline) {
    std::unique_lock lock(mutex_);
    not_empty_.wait_until(lock, deadline, [&] { return closed_ || !items_.empty(); });
    if (items_.empty()) return std::nullopt;
    std::optional<T> item(std::move(items_.front()));
    items_.pop_front();
    lock.unlock();
    not_full_.notify_one();
    return item;
  }

  /// Waits for the first item as pop() does, then takes up to `most` without waiting further.
  std::vector<T> pop_many(std::size_t most, Deadline deadline) {
    std::vector<T> taken;
    std::unique_lock lock(mutex_);
    not_empty_.wait_until(lock, deadline, [&] { return closed_ || !items_.empty(); });
    while (taken.size() < most && !items_.empty()) {
      taken.push_back(std::move(items_.front()));
      items_.pop_front();
    }
    lock.unlock();
    not_full_.notify_all();
    return taken;
  }

  void close() {
    {
      std::lock_guard const lock(mutex_);
      closed_ = true;
    }
    not_full_.notify_all();
    not_empty_.notify_all();
  }

  [[nodiscard]] std::size_t size() const {
    std::lock_guard const lock(mutex_);
    return items_.size();
  }

 private:
  std::size_t const capacity_;
  mutable std::mutex mutex_;
  std::condition_variable not_full_;
  std::condition_variable not_empty_;
  std::deque<T> items_;
  bool closed_ = false;
};

}  // namespace posthouse::base
