// SPDX-License-Identifier: Apache-2.0
// Where threads of a client wait for a notification that a job has ended: one LISTEN connection for all of them, opened
// when the first wait takes long and closed some seconds after the last. A wait is never longer than the caller says, so
// without a connection (behind a transaction pooler, without the right, while the server is away) it is a plain pause.
//
// Thread safety: all members; a Watch belongs to one thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include <posthouse/options.hpp>

namespace posthouse::produce {

class WaitRoom {
 public:
  /// Most jobs that are watched at a time; further ones are waited for without notification.
  static constexpr std::size_t most_watched = 1'000;

  /// Without `session` there is no connection for LISTEN to be had.
  explicit WaitRoom(DatabaseOptions const& options, bool session = true);
  /// No Watch may be left. In a forked child it leaves everything to the parent.
  ~WaitRoom();
  WaitRoom(WaitRoom const&) = delete;
  WaitRoom& operator=(WaitRoom const&) = delete;

 private:
  struct Entry;
  struct Impl;
  std::unique_ptr<Impl> impl_;

 public:
  /// Watches a job as long as it lives.
  class Watch {
   public:
    Watch(WaitRoom& room, std::int64_t job);
    ~Watch();
    Watch(Watch const&) = delete;
    Watch& operator=(Watch const&) = delete;

    [[nodiscard]] std::int64_t job() const noexcept;
    /// Waits. True, perhaps early: an attempt may have ended, or the job is watched only now: look.
    bool sleep(std::chrono::milliseconds pause);

   private:
    Impl& room_;
    std::shared_ptr<Entry> entry_;
  };
};

}  // namespace posthouse::produce
