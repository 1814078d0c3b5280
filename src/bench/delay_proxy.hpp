// SPDX-License-Identifier: Apache-2.0
// A line to a server that is far away: passes bytes on unchanged and in order, each so much later. No limit of bandwidth.
//
// Listens on a port of 127.0.0.1; one thread moves the bytes of all connections. It costs the processor about what two
// copies through a socket cost, which is why the bench measures a delay of nothing through it as well.
// Thread safety: every function may be called from any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <thread>

#include "base/event_fd.hpp"
#include "base/unique_fd.hpp"

namespace posthouse::bench {

class DelayProxy {
 public:
  /// `host`: a name, an address, or the folder of a Unix socket. Throws Unavailable when it cannot listen.
  DelayProxy(std::string host, std::string port, std::chrono::microseconds one_way);
  /// Every connection ends with it.
  ~DelayProxy();
  DelayProxy(DelayProxy const&) = delete;
  DelayProxy& operator=(DelayProxy const&) = delete;

  [[nodiscard]] int port() const noexcept { return port_; }
  /// Of bytes that come from now on, each way; 0: at once.
  void delay(std::chrono::microseconds one_way) noexcept { one_way_ = one_way; }
  /// How many times so far a client has said something after the server had, or at first: round trips, on connections
  /// where each side waits for the other.
  [[nodiscard]] std::int64_t turns() const noexcept { return turns_; }

 private:
  struct Link;
  struct Way;
  void run();
  bool move(Way& way);

  std::string const host_;
  std::string const service_;
  std::atomic<std::chrono::microseconds> one_way_;
  std::atomic<std::int64_t> turns_{0};
  int port_ = 0;
  base::UniqueFd listener_{};
  base::EventFd over_{};
  std::thread thread_{};
};

}  // namespace posthouse::bench
