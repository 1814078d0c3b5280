// SPDX-License-Identifier: Apache-2.0
// See notify.hpp.
#include "base/notify.hpp"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "base/unique_fd.hpp"

namespace posthouse::base {
namespace {

std::string variable(char const* name) {
  char const* const value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

std::optional<long long> number(std::string const& text) {
  long long value = 0;
  auto const [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || code != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

ServiceNotifier ServiceNotifier::from_environment() {
  std::optional<std::chrono::microseconds> watchdog;
  auto const pid = number(variable("WATCHDOG_PID"));
  if (auto const wait = number(variable("WATCHDOG_USEC")); wait && *wait > 0 && (!pid || *pid == ::getpid())) {
    watchdog = std::chrono::microseconds(*wait);
  }
  return {variable("NOTIFY_SOCKET"), watchdog};
}

void ServiceNotifier::say(std::string_view state) const noexcept {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_.size() < 2 || socket_.size() >= sizeof(address.sun_path)) return;
  if (socket_[0] != '/' && socket_[0] != '@') return;
  std::memcpy(address.sun_path, socket_.data(), socket_.size());
  if (address.sun_path[0] == '@') address.sun_path[0] = '\0';  // Linux's abstract namespace
  UniqueFd const fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return;
  auto const length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket_.size());
  // A systemd that does not read must not hold up a broker.
  (void)::sendto(fd.get(), state.data(), state.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
                 reinterpret_cast<sockaddr const*>(&address), length);  // NOLINT
}

std::optional<std::chrono::milliseconds> ServiceNotifier::watchdog_every() const {
  if (!watchdog_ || socket_.empty()) return std::nullopt;
  return std::max(std::chrono::milliseconds{1}, std::chrono::duration_cast<std::chrono::milliseconds>(*watchdog_ / 2));
}

}  // namespace posthouse::base
