// SPDX-License-Identifier: Apache-2.0
// A handler thread of the pool, as the pool's own files see it.
//
// Thread safety: guarded by the pool's lock, but for what says otherwise.
#pragma once

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "core/text.hpp"
#include "execute/pool.hpp"

namespace posthouse::execute {

// One handler thread and what it runs. Guarded by the pool's lock, but for what says otherwise.
struct Pool::Slot final : Job::Link {
  explicit Slot(Pool& owner) : pool(owner) {}

  void progress(double fraction, std::string_view text) override {
    constexpr std::size_t most = 1000;
    double const done = fraction >= 0 ? std::min(fraction, 1.0) : 0;  // not a number counts as 0
    auto words = core::sanitise(text.substr(0, most), most);
    bool first = false;
    alive();
    {
      std::lock_guard const lock(progress_mutex);
      last_progress = {done, std::move(words)};
      progress_made.store(true, std::memory_order_relaxed);
      first = !std::exchange(progress_untold, true);
    }
    if (first && pool.options_.progressed) pool.options_.progressed();
  }
  /// With progress_mutex.
  [[nodiscard]] std::string shown_progress() const {
    if (!last_progress) return {};
    auto shown = std::to_string(static_cast<int>(last_progress->first * 100)) + " %";
    if (!last_progress->second.empty()) shown += " " + last_progress->second;
    return shown;
  }
  void heartbeat() override {
    alive();
    pool.log_.debug("sign of life", {{"job", std::to_string(id_for_log.load())}});
  }
  void alive() noexcept { last_sign.store(Clock::now(), std::memory_order_relaxed); }
  void complete(Job const& job, Transaction const& transaction, Payload const& result) override {
    {
      std::lock_guard const lock(pool.mutex_);
      if (silent) {
        throw LeaseLost("job " + std::to_string(id) +
                        " gave no sign of life for its retry_timer and is another "
                        "worker's by now: nothing was completed");
      }
      // From here on the completion may sit in an open transaction: nobody else must get the job.
      completing = true;
    }
    try {
      auto const stored = kept(Success{result, {}}, pool.options_.max_result_bytes);
      pool.options_.complete(job, transaction, stored.get());
    } catch (...) {
      std::lock_guard const lock(pool.mutex_);
      completing = false;
      if (auto const due = silent_from()) pool.expect(*due);
      throw;
    }
    result_given = !result.is_null();
  }
  /// When it will have been silent for too long; with the pool's lock.
  [[nodiscard]] std::optional<Clock::time_point> silent_from() const {
    if (!busy || silent || completing || kind->options.retry_timer.count() == 0) return std::nullopt;
    return std::max(since, last_sign.load(std::memory_order_relaxed)) + kind->options.retry_timer;
  }

  Pool& pool;
  bool busy = false;
  std::int64_t token = 0;
  std::int64_t id = 0;
  int position = 0;
  Registered const* kind = nullptr;
  std::string_view queue{};
  Clock::time_point since{};
  std::optional<Clock::time_point> deadline{};
  std::stop_source stop{};
  bool stop_asked = false;
  bool result_given = false;  // to complete(); the handler's thread alone
  bool cancelled = false;
  bool timed_out = false;
  std::int64_t attempt = 1;
  std::int64_t max_attempts = 25;
  bool silent = false;      // it was taken from its handler
  bool completing = false;  // complete() was called and has not failed

  std::atomic<Clock::time_point> last_sign{Clock::time_point{}};
  std::atomic<std::int64_t> id_for_log{0};
  std::mutex progress_mutex;  // guards the next two
  std::optional<std::pair<double, std::string>> last_progress{};
  bool progress_untold = false;
  std::atomic<bool> progress_made{false};  // either of them is to be cleared before the next job

  std::jthread thread;
};

}  // namespace posthouse::execute
