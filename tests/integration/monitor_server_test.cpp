// SPDX-License-Identifier: Apache-2.0
// The monitor's server with clients that mean no good, and with databases that are not there. No database.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "base/unique_fd.hpp"
#include "monitor/server.hpp"

namespace posthouse::test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class MonitorServer : public ::testing::Test {
 protected:
  [[nodiscard]] base::UniqueFd connect() const {
    base::UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(server_.port()));
    EXPECT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return socket;
  }
  static void send(base::UniqueFd const& socket, std::string_view text) {
    ASSERT_EQ(::send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }
  static std::string rest(base::UniqueFd const& socket) {
    std::string all;
    std::array<char, 4096> buffer;
    for (ssize_t n = 0; (n = ::recv(socket.get(), buffer.data(), buffer.size(), 0)) > 0;) {
      all.append(buffer.data(), static_cast<std::size_t>(n));
    }
    return all;
  }
  [[nodiscard]] std::string get(std::string const& path) const {
    auto const socket = connect();
    send(socket, "GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n");
    return rest(socket);
  }

  std::shared_ptr<monitor::Sources> sources_ = std::make_shared<monitor::Sources>();
  monitor::Server server_{{.address = "127.0.0.1:0"}, sources_, base::Log([](LogRecord const&) {})};
};

TEST_F(MonitorServer, SilentClientsHoldUpNobody) {
  std::vector<base::UniqueFd> silent;
  for (int i = 0; i < 300; ++i) {
    silent.push_back(connect());
    if (i % 2 == 0) send(silent.back(), "GET /healthz HTTP/1.1\r\nX: ");
  }
  EXPECT_THAT(get("/healthz"), StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(get("/readyz"), StartsWith("HTTP/1.1 503 "));
}

TEST_F(MonitorServer, ARequestMayComeInPieces) {
  auto const socket = connect();
  for (char const c : std::string("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")) send(socket, {&c, 1});
  EXPECT_THAT(rest(socket), HasSubstr("alive"));
}

TEST_F(MonitorServer, TwoRequestsAtOnceAreOne) {
  auto const socket = connect();
  send(socket, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
  auto const answer = rest(socket);
  EXPECT_THAT(answer, HasSubstr("Connection: close"));
  EXPECT_EQ(answer.find("HTTP/1.1", 1), std::string::npos) << answer;
}

// One that is said to serve and cannot be reached: the page says what it can, and counts the failure.
TEST_F(MonitorServer, DatabasesThatAreAwayHoldUpNobody) {
  sources_->add(
      {.name = "away", .health = [] { return monitor::Health{.state = monitor::State::down, .problem = "gone"}; }});
  EXPECT_THAT(get("/metrics"), HasSubstr("posthouse_database_up{database=\"away\"} 0\n"));
  EXPECT_THAT(get("/readyz"), ::testing::AllOf(StartsWith("HTTP/1.1 503 "), HasSubstr("\"gone\"")));
  sources_->add({.name = "broken", .database = {.database_url = "postgresql://nobody@127.0.0.1:1/none"}, .health = [] {
                   return monitor::Health{.state = monitor::State::serving};
                 }});
  auto const page = get("/metrics");
  EXPECT_THAT(page, HasSubstr("posthouse_measure_failures_total{database=\"broken\"} 1\n"));
  EXPECT_THAT(get("/readyz"), StartsWith("HTTP/1.1 200 OK\r\n"));
  sources_->remove("broken");
  EXPECT_THAT(get("/metrics"), ::testing::Not(HasSubstr("broken")));
}

}  // namespace
}  // namespace posthouse::test
