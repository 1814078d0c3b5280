// SPDX-License-Identifier: Apache-2.0
// The delayed line of `bench rtt`: what goes in comes out, in order, no sooner than it may, and ends are passed on.
#include "bench/delay_proxy.hpp"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>

#include "base/unique_fd.hpp"

namespace posthouse::bench {
namespace {

using std::chrono::milliseconds;

/// Sends back what comes, once a connection.
class Echo {
 public:
  Echo() {
    listener_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    ::bind(listener_.get(), reinterpret_cast<sockaddr const*>(&address), length);
    ::listen(listener_.get(), 8);
    ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &length);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] {
      base::UniqueFd const peer(::accept(listener_.get(), nullptr, nullptr));
      std::string buffer(65536, '\0');
      for (ssize_t got = 0; (got = ::recv(peer.get(), buffer.data(), buffer.size(), 0)) > 0;) {
        if (::send(peer.get(), buffer.data(), static_cast<std::size_t>(got), MSG_NOSIGNAL) < 0) return;
      }
    });
  }
  ~Echo() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }
  [[nodiscard]] std::string port() const { return std::to_string(port_); }

 private:
  base::UniqueFd listener_{};
  int port_ = 0;
  std::thread thread_{};
};

base::UniqueFd connect_to(int port) {
  base::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr const*>(&address), sizeof address), 0);
  return fd;
}

std::string receive(base::UniqueFd const& fd, std::size_t bytes) {
  std::string text;
  std::string buffer(65536, '\0');
  while (text.size() < bytes) {
    auto const got = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (got <= 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
  return text;
}

void send_all(base::UniqueFd const& fd, std::string const& text) {
  ASSERT_EQ(::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
}

TEST(DelayProxy, PassesEverythingOnInOrderAndNoSooner) {
  Echo const echo;
  DelayProxy proxy("127.0.0.1", echo.port(), milliseconds(20));
  auto const fd = connect_to(proxy.port());
  auto const began = std::chrono::steady_clock::now();
  send_all(fd, "one");
  EXPECT_EQ(receive(fd, 3), "one");
  EXPECT_GE(std::chrono::steady_clock::now() - began, milliseconds(40));
  EXPECT_EQ(proxy.turns(), 1);
  proxy.delay(milliseconds(1));
  std::string long_text;
  for (int i = 0; i < 400'000; ++i) long_text += std::to_string(i);
  std::thread sender([&] { send_all(fd, long_text); });
  EXPECT_EQ(receive(fd, long_text.size()), long_text);
  sender.join();
}

TEST(DelayProxy, TellsTheClientThatTheServerHasGone) {
  Echo const echo;
  DelayProxy proxy("127.0.0.1", echo.port(), milliseconds(1));
  auto const fd = connect_to(proxy.port());
  send_all(fd, "last words");
  ::shutdown(fd.get(), SHUT_WR);
  // The echo ends when its client has; both ends come through, behind what was said.
  EXPECT_EQ(receive(fd, 1'000), "last words");
}

TEST(DelayProxy, ClosesAConnectionForWhichThereIsNoServer) {
  DelayProxy proxy("/nonexistent", "1", milliseconds(0));
  auto const fd = connect_to(proxy.port());
  EXPECT_EQ(receive(fd, 1), "");
}

}  // namespace
}  // namespace posthouse::bench
