// SPDX-License-Identifier: Apache-2.0
// One thread, poll() and sockets that never block: a slow client costs a place in the list and nothing else.
#include "monitor/server.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <list>
#include <posthouse/error.hpp>
#include <system_error>
#include <thread>
#include <utility>

#include "base/event_fd.hpp"
#include "base/unique_fd.hpp"
#include "core/address.hpp"
#include "core/refuse.hpp"
#include "monitor/measurer.hpp"
#include "monitor/request.hpp"
#include "monitor/scrape.hpp"

namespace posthouse::monitor {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kMostConnections = 100;
constexpr auto kHeadWait = 10s;   ///< for a whole head
constexpr auto kWriteWait = 30s;  ///< for an answer to be taken
constexpr auto kLeaveWait = 2s;   ///< for answers under way when the server ends

struct Place {
  core::Address address{};
  int port = 0;
};

Place place_of(std::string const& address) {
  auto const colon = address.rfind(':');
  auto host = address.substr(0, colon == std::string::npos ? 0 : colon);
  auto const port = colon == std::string::npos ? std::string() : address.substr(colon + 1);
  bool const bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (host == "localhost") host = "127.0.0.1";
  auto const parsed = core::Address::parse(host);
  int number = -1;
  auto const [end, code] = std::from_chars(port.data(), port.data() + port.size(), number);
  bool const right = parsed && (bracketed || parsed->is_v4()) && !port.empty() && code == std::errc{} &&
                     end == port.data() + port.size() && number >= 0 && number <= 65535;
  if (!right) {
    core::refuse("http.listen", address, "localhost or an address, and a port, as 127.0.0.1:9187 or [::1]:9187", "");
  }
  return {*parsed, number};
}

std::string_view reason_of(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 413:
      return "Content Too Large";
    case 421:
      return "Misdirected Request";
    case 431:
      return "Request Header Fields Too Large";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Bad Request";
  }
}

struct Client {
  enum class Stage { reading, measuring, writing };
  base::UniqueFd socket{};
  Stage stage = Stage::reading;
  Clock::time_point until{};
  std::string in{};
  std::string out{};
  std::size_t written = 0;
  bool head_only = false;
};

}  // namespace

void check(Listen const& listen) {
  auto const place = place_of(listen.address);
  if (!listen.allow_remote && core::reach_of(place.address) != core::Reach::loopback) {
    core::refuse("http.listen", listen.address, "a loopback address, such as 127.0.0.1:9187",
                 "http.allow_remote: true lets others reach it; it has no password and no encryption of its own");
  }
}

struct Server::Impl {
  Impl(Listen const& listen, std::shared_ptr<Sources> the_sources, base::Log the_log)
      : sources(std::move(the_sources)),
        log(std::move(the_log)),
        measurer(
            sources, fresh_for, [this] { wake.signal(); }, log) {
    for (auto const& host : listen.allowed_hosts) {
      std::string small = host;
      std::transform(small.begin(), small.end(), small.begin(),
                     [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
      hosts.push_back(std::move(small));
    }
    open(listen);
  }

  void open(Listen const& listen) {
    auto const place = place_of(listen.address);
    sockaddr_storage address{};
    socklen_t size = 0;
    if (place.address.is_v4()) {
      sockaddr_in v4{};
      v4.sin_family = AF_INET;
      v4.sin_port = htons(static_cast<std::uint16_t>(place.port));
      std::memcpy(&v4.sin_addr, place.address.bytes.data() + 12, 4);
      std::memcpy(&address, &v4, size = sizeof v4);
    } else {
      sockaddr_in6 v6{};
      v6.sin6_family = AF_INET6;
      v6.sin6_port = htons(static_cast<std::uint16_t>(place.port));
      std::memcpy(&v6.sin6_addr, place.address.bytes.data(), 16);
      std::memcpy(&address, &v6, size = sizeof v6);
    }
    listener.reset(::socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    int const on = 1;
    if (listener) ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    auto* const name = reinterpret_cast<sockaddr*>(&address);
    if (!listener || ::bind(listener.get(), name, size) != 0 || ::listen(listener.get(), 64) != 0 ||
        ::getsockname(listener.get(), name, &size) != 0) {
      core::refuse_because("http.listen", listen.address + " cannot be used: " + std::generic_category().message(errno),
                           "an address of this machine and a free port", "");
    }
    sockaddr_in v4{};
    std::memcpy(&v4, &address, sizeof v4);  // the port is at the same place in both
    port = ntohs(v4.sin_port);
  }

  void run() {
    while (true) {
      auto const now = Clock::now();
      bool const leaving = stop.load();
      if (leaving && leave_at == Clock::time_point{}) {
        leave_at = now + kLeaveWait;
        clients.remove_if([](Client const& client) { return client.stage == Client::Stage::reading; });
      }
      if (leaving && (clients.empty() || now >= leave_at)) return;
      answer_measured(now);
      wait(leaving, now);
    }
  }

  void wait(bool leaving, Clock::time_point now) {
    std::vector<pollfd> fds{{.fd = wake.fd(), .events = POLLIN, .revents = 0},
                            {.fd = leaving ? -1 : listener.get(), .events = POLLIN, .revents = 0}};
    auto until = leaving ? leave_at : now + 1h;
    for (auto const& client : clients) {
      short const events = client.stage == Client::Stage::reading   ? POLLIN
                           : client.stage == Client::Stage::writing ? POLLOUT
                                                                    : 0;
      fds.push_back({.fd = client.socket.get(), .events = events, .revents = 0});
      until = std::min(until, client.until);
    }
    auto const left = std::chrono::ceil<std::chrono::milliseconds>(until - now).count();
    if (::poll(fds.data(), fds.size(), static_cast<int>(std::clamp<std::int64_t>(left, 0, 3'600'000))) < 0) return;
    wake.drain();
    auto const then = Clock::now();
    std::size_t at = 2;
    for (auto it = clients.begin(); it != clients.end(); ++at) {
      auto& client = *it;
      bool keep = true;
      if (fds[at].revents != 0) keep = client.stage == Client::Stage::reading ? read(client, then) : write(client);
      if (client.stage == Client::Stage::measuring && (fds[at].revents & (POLLERR | POLLHUP)) != 0) keep = false;
      if (keep && then >= client.until && client.stage != Client::Stage::measuring) keep = false;
      it = keep ? std::next(it) : clients.erase(it);
    }
    if (fds[1].revents != 0) accept(then);
  }

  void accept(Clock::time_point now) {
    for (int i = 0; i < 16; ++i) {
      base::UniqueFd socket(::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!socket) return;
      // Who has come first and said nothing yet makes room.
      if (clients.size() >= kMostConnections) {
        auto const idle = std::find_if(clients.begin(), clients.end(),
                                       [](Client const& client) { return client.stage == Client::Stage::reading; });
        clients.erase(idle == clients.end() ? clients.begin() : idle);
      }
      clients.push_back({.socket = std::move(socket), .until = now + kHeadWait});
    }
  }

  /// False: it is over.
  bool read(Client& client, Clock::time_point now) {
    std::array<char, 4096> buffer;
    auto const n = ::recv(client.socket.get(), buffer.data(), buffer.size(), 0);
    if (n == 0) return false;
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    client.in.append(buffer.data(), static_cast<std::size_t>(n));
    auto const length = head_length(client.in);
    if (!length && client.in.size() <= max_head_bytes) return true;
    if (!length || *length > max_head_bytes) return respond(client, 431, "text/plain", "the head is too large\n");
    auto const head = parse_head(std::string_view(client.in).substr(0, *length), hosts);
    client.in = {};
    client.head_only = head.head_only;
    if (head.refused != 0) {
      return respond(client, head.refused, "text/plain", std::string(reason_of(head.refused)) + "\n");
    }
    if (head.path == "/healthz") return respond(client, 200, "text/plain", "alive\n");
    if (head.path == "/readyz") {
      auto const ready = readiness(*sources);
      return respond(client, ready.ready ? 200 : 503, "application/json", ready.json);
    }
    if (head.path != "/metrics") return respond(client, 404, "text/plain", "/healthz, /readyz and /metrics are here\n");
    if (measurer.fresh()) return respond_metrics(client);
    client.stage = Client::Stage::measuring;
    client.until = now + scrape_wait;
    return true;
  }

  void answer_measured(Clock::time_point now) {
    bool const waiting = std::any_of(clients.begin(), clients.end(),
                                     [](Client const& client) { return client.stage == Client::Stage::measuring; });
    if (!waiting) return;
    bool const fresh = measurer.fresh();
    clients.remove_if([&](Client& client) {
      if (client.stage != Client::Stage::measuring || (!fresh && now < client.until)) return false;
      return !respond_metrics(client);
    });
  }

  bool respond_metrics(Client& client) {
    return respond(client, 200, "text/plain; version=0.0.4; charset=utf-8", metrics_text(*sources, measurer));
  }

  bool respond(Client& client, int status, std::string_view type, std::string const& body) {
    client.out = fmt::format(
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{}Cache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
        status, reason_of(status), type, body.size(), status == 405 ? "Allow: GET, HEAD\r\n" : "");
    if (!client.head_only) client.out += body;
    client.stage = Client::Stage::writing;
    client.until = Clock::now() + kWriteWait;
    return write(client);
  }

  static bool write(Client& client) {
    if (client.stage != Client::Stage::writing) return true;
    while (client.written < client.out.size()) {
      auto const n = ::send(client.socket.get(), client.out.data() + client.written, client.out.size() - client.written,
                            MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return errno == EAGAIN;
      client.written += static_cast<std::size_t>(n);
    }
    ::shutdown(client.socket.get(), SHUT_WR);
    // What is still unread would make the kernel take the answer back.
    std::array<char, 4096> rest;
    (void)::recv(client.socket.get(), rest.data(), rest.size(), 0);
    return false;
  }

  std::shared_ptr<Sources> const sources;
  base::Log const log;
  base::EventFd wake{};
  std::vector<std::string> hosts{};
  base::UniqueFd listener{};
  int port = 0;
  std::atomic<bool> stop{false};
  // The thread's own
  std::list<Client> clients{};
  Clock::time_point leave_at{};
  Measurer measurer;
  std::jthread thread{};  // last
};

Server::Server(Listen listen, std::shared_ptr<Sources> sources, base::Log log) {
  check(listen);
  impl_ = std::make_unique<Impl>(listen, std::move(sources), std::move(log));
  impl_->thread = std::jthread([impl = impl_.get()] {
    pthread_setname_np(pthread_self(), "posthouse-http");
    impl->run();
  });
}

Server::~Server() {
  impl_->stop.store(true);
  impl_->wake.signal();
}

int Server::port() const noexcept { return impl_->port; }

}  // namespace posthouse::monitor
