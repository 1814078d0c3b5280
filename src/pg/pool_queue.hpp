// SPDX-License-Identifier: Apache-2.0
// Who gets which connection of a pool, and when: bounded, first come first served, with book-keeping. What a connection
// is it does not know, so that it is tested without a server.
//
// A free connection goes to the caller who waits longest and never to one who comes later. Whoever holds a slot whose
// connection turns out to be dead may open a new one in its place. Everything that takes time (opening, asking for a
// sign of life, closing) happens outside of the lock.
// Thread safety: all members; a Slot that is held belongs to its holder.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include <posthouse/pool.hpp>

namespace posthouse::pg {

/// What is pooled.
class PoolItem {
 public:
  PoolItem() = default;
  PoolItem(PoolItem const&) = delete;
  PoolItem& operator=(PoolItem const&) = delete;
  virtual ~PoolItem() = default;
  /// Without a round trip.
  virtual bool alive() noexcept = 0;
  /// With one.
  virtual bool ping() noexcept = 0;
  /// It is handed out without a look.
  virtual void unlooked() noexcept {}
};

class PoolQueue {
 public:
  using Clock = std::chrono::steady_clock;
  using Milliseconds = std::chrono::milliseconds;

  enum class Check { none, look, ping };
  struct Rules {
    std::string name = "default";
    std::size_t size = 5;
    std::size_t overflow = 10;
    Milliseconds timeout{30'000};
    Check check = Check::ping;
    Milliseconds ping_after{1'000};
    Milliseconds recycle{0};             ///< 0: never
    Milliseconds idle_time{0};           ///< 0: never
    bool keep = true;                    ///< false: nothing stays open when it is given back
    std::function<std::size_t()> cap{};  ///< never more than this, whatever the sizes; empty: no cap
  };
  struct Slot {
    std::unique_ptr<PoolItem> item{};
    Clock::time_point opened{};
    Clock::time_point since{};  ///< it is idle, or held
    std::string label{};
    bool reused = false;  ///< it may have served somebody before
    std::list<Slot>::iterator self{};
  };
  using Open = std::function<std::unique_ptr<PoolItem>()>;

  /// `now` stands in for the clock where ages are looked at; waits go by the real one.
  PoolQueue(Rules rules, Open open, std::function<Clock::time_point()> now = Clock::now);

  /// What `open` throws goes through; Timeout when the wait was too long.
  Slot& acquire(std::string_view label);
  /// `usable`: it may serve again.
  void give_back(Slot& slot, bool usable) noexcept;

  /// Closes what has been idle or open for too long. When the next one will be; nullopt: none is idle.
  std::optional<Clock::time_point> shrink() noexcept;
  /// Closes idle ones that are dead, by a look.
  void sweep() noexcept;

  void open() noexcept;
  void close() noexcept;
  [[nodiscard]] bool is_open() const noexcept;

  [[nodiscard]] PoolStats stats() const;

 private:
  struct Waiter {
    std::list<Slot> grant{};  ///< with a connection, or the right to open one
    bool over = false;        ///< granted, or the pool was closed
    std::condition_variable ready{};
  };
  using Slots = std::list<Slot>;

  [[nodiscard]] std::size_t limit() const;
  bool grab(Slots& mine);
  void pass_on(Slots& mine) noexcept;
  bool fit(Slot& slot);
  void close_item(Slot& slot, std::int64_t PoolStats::*reason) noexcept;
  [[noreturn]] void give_up(std::unique_lock<std::mutex> const& lock);
  [[noreturn]] void refuse_closed() const;

  Rules const rules_;
  Open const open_;
  std::function<Clock::time_point()> const now_;

  mutable std::mutex mutex_;
  bool is_open_ = true;
  Slots idle_;  ///< given back last at the end
  Slots held_;
  std::list<Waiter*> waiters_;  ///< who waits longest first
  std::size_t count_ = 0;       ///< idle, held, and on the way to a holder
  PoolStats counted_{};         ///< its counters alone
};

}  // namespace posthouse::pg
