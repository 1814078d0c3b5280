// SPDX-License-Identifier: Apache-2.0
// Ends HTTP exchanges that have no end of their own: at a deadline, when their job is asked to stop, and when a server
// sends more than it may.
//
// cpp-httplib bounds each read, not the whole, and its stop() waits while a connection is being made. This has its own
// descriptor of each socket and shuts that down, which gets every read, write and handshake on it to fail. The thread
// looks twenty times a second while there is an exchange, and sleeps when there is none.
// Thread safety: all members; a Watched belongs to one thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>

#include "base/unique_fd.hpp"

namespace posthouse::execute {

class HttpWatch {
 public:
  using Clock = std::chrono::steady_clock;
  enum class Why { none, late, stopped, flooded };

  /// The one of this process; its thread ends with the last owner.
  static std::shared_ptr<HttpWatch> shared();

  HttpWatch();

 private:
  struct Entry {
    base::UniqueFd socket{};
    Clock::time_point deadline{};
    std::uint64_t most_bytes = 0;
    bool stop_asked = false;
    Why why = Why::none;
  };

 public:
  /// One exchange, while it lives.
  class Watched {
   public:
    /// `most_bytes`: received on one socket, headers and encryption included.
    Watched(std::shared_ptr<HttpWatch> watch, Clock::time_point deadline, std::uint64_t most_bytes,
            std::stop_token const& stop);
    ~Watched();
    Watched(Watched const&) = delete;
    Watched& operator=(Watched const&) = delete;

    /// From now on it is this socket; the caller keeps and closes its own descriptor.
    void socket(int fd);
    /// Whether it was ended, and why.
    [[nodiscard]] Why why() const;

   private:
    std::shared_ptr<HttpWatch> watch_;
    std::list<Entry>::iterator entry_;
    std::optional<std::stop_callback<std::function<void()>>> stop_;
  };

 private:
  void run(std::stop_token const& stop);
  static void look(Entry& entry, Clock::time_point now);

  std::mutex mutex_;  // guards what follows
  std::condition_variable_any changed_;
  std::list<Entry> entries_;
  std::jthread thread_;  // last, so that it ends before the rest goes
};

}  // namespace posthouse::execute
