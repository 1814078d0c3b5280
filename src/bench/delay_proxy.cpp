// SPDX-License-Identifier: Apache-2.0
// See delay_proxy.hpp.
#include "bench/delay_proxy.hpp"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <list>
#include <utility>
#include <vector>

#include <posthouse/error.hpp>

#include "base/leave_signals.hpp"

namespace posthouse::bench {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t read_at_once = std::size_t{256} * 1024;
constexpr std::size_t most_kept = std::size_t{256} << 20;  // of one way; then its sender waits

base::UniqueFd connect_to(std::string const& host, std::string const& port) {
  if (host.starts_with('/')) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    auto const path = host + "/.s.PGSQL." + port;
    if (path.size() >= sizeof address.sun_path) return {};
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    base::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(fd.get(), reinterpret_cast<sockaddr const*>(&address), sizeof address) != 0) return {};
    return fd;
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0) return {};
  base::UniqueFd fd;
  for (auto const* one = found; one != nullptr && !fd; one = one->ai_next) {
    fd.reset(::socket(one->ai_family, one->ai_socktype | SOCK_CLOEXEC, one->ai_protocol));
    if (fd && ::connect(fd.get(), one->ai_addr, one->ai_addrlen) != 0) fd.reset();
  }
  ::freeaddrinfo(found);
  return fd;
}

void prepare(base::UniqueFd const& fd) {
  int const on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // a Unix socket has none, and needs none
  ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) | O_NONBLOCK);
}

struct Piece {
  Clock::time_point due;
  std::string data;
};

}  // namespace

struct DelayProxy::Way {
  base::UniqueFd* from = nullptr;
  base::UniqueFd* to = nullptr;
  std::deque<Piece> kept{};
  std::size_t sent = 0;  // of the first piece
  std::size_t bytes = 0;
  bool ended = false;  // nothing more comes
  bool done = false;   // and the other side knows
  bool full = false;   // the receiver takes nothing now
};

struct DelayProxy::Link {
  base::UniqueFd client, server;
  std::array<Way, 2> ways{};  // 0 to the server, 1 to the client
  bool asked = false;         // the last that passed was the client's
  bool dead = false;

  Link(base::UniqueFd c, base::UniqueFd s) : client(std::move(c)), server(std::move(s)) {
    ways[0].from = ways[1].to = &client;
    ways[0].to = ways[1].from = &server;
  }
};

DelayProxy::DelayProxy(std::string host, std::string port, std::chrono::microseconds one_way)
    : host_(std::move(host)), service_(std::move(port)), one_way_(one_way) {
  listener_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (::bind(listener_.get(), reinterpret_cast<sockaddr const*>(&address), length) != 0 ||
      ::listen(listener_.get(), 128) != 0 ||
      ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    throw Unavailable(std::string("the delayed line cannot listen: ") + std::strerror(errno));
  }
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { run(); });
}

DelayProxy::~DelayProxy() {
  over_.signal();
  thread_.join();
}

// False: the connection is broken.
bool DelayProxy::move(Way& way) {
  auto const now = Clock::now();
  while (!way.kept.empty() && way.kept.front().due <= now) {
    auto const& data = way.kept.front().data;
    auto const sent = ::send(way.to->get(), data.data() + way.sent, data.size() - way.sent, MSG_NOSIGNAL);
    if (sent < 0) {
      way.full = errno == EAGAIN || errno == EINTR;
      return way.full;
    }
    way.sent += static_cast<std::size_t>(sent);
    way.full = way.sent < data.size();
    if (way.full) return true;
    way.bytes -= data.size();
    way.sent = 0;
    way.kept.pop_front();
  }
  if (way.ended && way.kept.empty() && !std::exchange(way.done, true)) ::shutdown(way.to->get(), SHUT_WR);
  return true;
}

void DelayProxy::run() {
  base::leave_signals_to_others();
  std::list<Link> links;
  std::vector<pollfd> fds;
  std::vector<char> buffer(read_at_once);
  auto const read = [&](Link& link, std::size_t at) {
    auto& way = link.ways[at];
    auto const got = ::recv(way.from->get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got < 0) {
      link.dead = true;
      return;
    }
    if (got == 0) {
      way.ended = true;
      return;
    }
    if (at == 0 && !link.asked) ++turns_;
    link.asked = at == 0;
    way.kept.push_back({Clock::now() + one_way_.load(), std::string(buffer.data(), static_cast<std::size_t>(got))});
    way.bytes += static_cast<std::size_t>(got);
  };
  for (;;) {
    fds.assign({{over_.fd(), POLLIN, 0}, {listener_.get(), POLLIN, 0}});
    auto next = Clock::time_point::max();
    for (auto const& link : links) {
      for (auto const& way : link.ways) {
        bool const reads = !way.ended && way.bytes < most_kept;
        fds.push_back({reads ? way.from->get() : -1, POLLIN, 0});
        fds.push_back({way.full ? way.to->get() : -1, POLLOUT, 0});
        if (!way.full && !way.kept.empty()) next = std::min(next, way.kept.front().due);
      }
    }
    timespec left{};
    auto const wait = std::max(next - Clock::now(), Clock::duration::zero());
    left.tv_sec = std::chrono::duration_cast<std::chrono::seconds>(wait).count();
    left.tv_nsec = (wait % std::chrono::seconds(1)).count();
    if (::ppoll(fds.data(), fds.size(), next == Clock::time_point::max() ? nullptr : &left, nullptr) < 0) continue;
    if (fds[0].revents != 0) return;

    std::size_t at = 2;
    for (auto& link : links) {
      for (std::size_t way = 0; way < link.ways.size(); ++way, at += 2) {
        if (!link.dead && fds[at].revents != 0) read(link, way);
      }
      for (auto& way : link.ways) link.dead = link.dead || !move(way);
    }
    links.remove_if([](Link const& link) { return link.dead || (link.ways[0].done && link.ways[1].done); });
    if (fds[1].revents != 0) {
      base::UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      auto server = client ? connect_to(host_, service_) : base::UniqueFd();
      if (!server) continue;
      prepare(client);
      prepare(server);
      links.emplace_back(std::move(client), std::move(server));
    }
  }
}

}  // namespace posthouse::bench
