// SPDX-License-Identifier: Apache-2.0
// What a service tells systemd: sd_notify(3) without its library.
//
// Thread safety: immutable once built.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace posthouse::base {

class ServiceNotifier {
 public:
  /// From $NOTIFY_SOCKET and $WATCHDOG_USEC (when it is meant for this process). Without them nothing is ever sent.
  static ServiceNotifier from_environment();
  ServiceNotifier(std::string socket, std::optional<std::chrono::microseconds> watchdog)
      : socket_(std::move(socket)), watchdog_(watchdog) {}

  /// One datagram, as "READY=1" or "STATUS=…"; newlines separate several. What cannot be sent is lost.
  void say(std::string_view state) const noexcept;
  /// How often "WATCHDOG=1" is to be said: half of what systemd waits for. Nothing: never.
  [[nodiscard]] std::optional<std::chrono::milliseconds> watchdog_every() const;

 private:
  std::string socket_;
  std::optional<std::chrono::microseconds> watchdog_;
};

}  // namespace posthouse::base
