// SPDX-License-Identifier: Apache-2.0
#include "support/tcp_gate.hpp"

#include <libpq-fe.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <list>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "base/unique_fd.hpp"

namespace posthouse::test {
namespace {

using base::UniqueFd;
using Clock = std::chrono::steady_clock;

struct Target {
  std::string host = "localhost", port = "5432", user, password, database;
};

Target target_of(std::string const& url) {
  Target target;
  char* error = nullptr;
  PQconninfoOption* const options = PQconninfoParse(url.c_str(), &error);
  if (options == nullptr) {
    std::string const text = error != nullptr ? error : "out of memory";
    PQfreemem(error);
    throw std::runtime_error("the gate cannot read the URL " + url + ": " + text);
  }
  for (auto const* option = options; option->keyword != nullptr; ++option) {
    if (option->val == nullptr) continue;
    std::string_view const name = option->keyword;
    if (name == "host") target.host = option->val;
    if (name == "port") target.port = option->val;
    if (name == "user") target.user = option->val;
    if (name == "password") target.password = option->val;
    if (name == "dbname") target.database = option->val;
  }
  PQconninfoFree(options);
  return target;
}

UniqueFd connect_to(Target const& target) {
  if (target.host.starts_with('/')) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::string const path = target.host + "/.s.PGSQL." + target.port;
    if (path.size() >= sizeof address.sun_path) return {};
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(fd.get(), reinterpret_cast<sockaddr const*>(&address), sizeof address) != 0) return {};
    return fd;
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(target.host.c_str(), target.port.c_str(), &hints, &found) != 0) return {};
  UniqueFd fd;
  for (auto const* one = found; one != nullptr; one = one->ai_next) {
    fd.reset(::socket(one->ai_family, one->ai_socktype | SOCK_CLOEXEC, one->ai_protocol));
    if (fd && ::connect(fd.get(), one->ai_addr, one->ai_addrlen) == 0) break;
    fd.reset();
  }
  ::freeaddrinfo(found);
  return fd;
}

void set_nonblocking(int fd) {
  int on = 1;
  ::ioctl(fd, FIONBIO, &on);
}

/// Closed with a reset, so that the other side notices at once and without a farewell.
void reset_connection(UniqueFd& fd) {
  linger const hard{1, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  fd.reset();
}

std::string quoted(std::string const& value) {
  std::string result = "'";
  for (char const c : value) {
    if (c == '\'' || c == '\\') result += '\\';
    result += c;
  }
  return result + "'";
}

struct Chunk {
  Clock::time_point due;
  std::string data;
};

/// One direction of one connection.
struct Pipe {
  UniqueFd* from = nullptr;
  UniqueFd* to = nullptr;
  std::deque<Chunk> kept;
  std::size_t kept_bytes = 0;
  bool ended = false;  ///< nothing more comes from `from`
};

struct Link {
  UniqueFd client, server;
  std::array<Pipe, 2> pipes;  ///< 0 to the server, 1 to the client
  std::string tail;           ///< the last bytes that the client sent, for texts across packets
  bool cut_at_reply = false;
  bool cut = false;  ///< asked for by the test; only the gate's thread closes descriptors
  bool dead = false;

  Link(UniqueFd c, UniqueFd s) : client(std::move(c)), server(std::move(s)) {
    pipes[0].from = pipes[1].to = &client;
    pipes[0].to = pipes[1].from = &server;
  }
};

constexpr std::size_t most_kept = std::size_t{16} << 20;

}  // namespace

struct TcpGate::Impl {
  Target target;
  UniqueFd listener, wake{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  int port = 0;

  mutable std::mutex mutex;  // held while bytes move, not while the thread waits
  std::list<Link> links;
  bool refusing = false;
  std::array<bool, 2> hanging{};
  std::array<std::chrono::milliseconds, 2> delays{};
  std::optional<std::pair<std::size_t, std::size_t>> cut_after;  // way, bytes left
  std::optional<std::string> request_to_lose, reply_to_lose;
  int accepted = 0;
  std::array<std::uint64_t, 2> passed{};
  bool stop = false;
  std::condition_variable moved;
  std::thread thread;

  void open();
  void run();
  void accept_one();
  void read_from(Link& link, std::size_t way);
  void write_to(Link& link, std::size_t way);
  void kill(Link& link) {
    reset_connection(link.client);
    reset_connection(link.server);
    link.dead = true;
  }
  void notify() const {
    std::uint64_t const one = 1;
    if (::write(wake.get(), &one, sizeof one) < 0) return;  // full: it is awake anyway
  }
  /// Runs `change` with the thread outside of any byte's way.
  template <class Change>
  void control(Change change) {
    {
      std::lock_guard const lock(mutex);
      change();
    }
    notify();
  }
  template <class Change>
  static void for_ways(Way way, Change change) {
    if (way != Way::to_client) change(0);
    if (way != Way::to_server) change(1);
  }
};

void TcpGate::Impl::open() {
  listener.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (::bind(listener.get(), reinterpret_cast<sockaddr const*>(&address), length) != 0 ||
      ::listen(listener.get(), 128) != 0 ||
      ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    throw std::runtime_error(std::string("the gate cannot listen: ") + std::strerror(errno));
  }
  port = ntohs(address.sin_port);
}

void TcpGate::Impl::accept_one() {
  UniqueFd client(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!client) return;
  ++accepted;
  UniqueFd server = refusing ? UniqueFd() : connect_to(target);
  if (!server) {
    reset_connection(client);
    return;
  }
  int const on = 1;
  ::setsockopt(client.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  set_nonblocking(client.get());
  set_nonblocking(server.get());
  links.emplace_back(std::move(client), std::move(server));
}

void TcpGate::Impl::read_from(Link& link, std::size_t way) {
  Pipe& pipe = link.pipes[way];
  std::array<char, 16384> buffer{};
  ssize_t const got = ::recv(pipe.from->get(), buffer.data(), buffer.size(), 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    pipe.ended = true;
    return;
  }
  std::string_view const data(buffer.data(), static_cast<std::size_t>(got));
  if (way == 1 && link.cut_at_reply) return kill(link);
  if (way == 0 && (request_to_lose || reply_to_lose)) {
    link.tail += data;
    auto const seen = [&](std::optional<std::string> const& text) {
      return text && link.tail.find(*text) != std::string::npos;
    };
    if (seen(request_to_lose)) {
      request_to_lose.reset();
      return kill(link);
    }
    if (seen(reply_to_lose)) {
      reply_to_lose.reset();
      link.cut_at_reply = true;
    }
    auto const longest = std::max(request_to_lose.value_or("").size(), reply_to_lose.value_or("").size());
    if (link.tail.size() > longest) link.tail.erase(0, link.tail.size() - longest);
  }
  pipe.kept.push_back({Clock::now() + delays[way], std::string(data)});
  pipe.kept_bytes += data.size();
}

void TcpGate::Impl::write_to(Link& link, std::size_t way) {
  Pipe& pipe = link.pipes[way];
  while (!pipe.kept.empty() && pipe.kept.front().due <= Clock::now()) {
    std::string& data = pipe.kept.front().data;
    std::size_t allowed = data.size();
    bool const trapped = cut_after && cut_after->first == way;
    if (trapped) allowed = std::min(allowed, cut_after->second);
    ssize_t const sent = allowed == 0 ? 0 : ::send(pipe.to->get(), data.data(), allowed, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno != EAGAIN && errno != EINTR) kill(link);
      return;
    }
    auto const n = static_cast<std::size_t>(sent);
    passed[way] += n;
    pipe.kept_bytes -= n;
    data.erase(0, n);
    if (trapped) {
      cut_after->second -= n;
      if (cut_after->second == 0) {
        cut_after.reset();
        // An orderly end, not a reset, which would throw away what was just sent: the reader sees half a message.
        pipe.to->reset();
        kill(link);
        return;
      }
    }
    if (!data.empty()) return;
    pipe.kept.pop_front();
  }
  if (pipe.ended && pipe.kept.empty()) {
    // One side said goodbye; the other one learns of it in order.
    link.client.reset();
    link.server.reset();
    link.dead = true;
  }
}

void TcpGate::Impl::run() {
  for (;;) {
    std::vector<pollfd> fds;
    std::vector<std::pair<Link*, std::size_t>> whose;  // reads at even places, writes at odd ones
    auto wait_until = Clock::time_point::max();
    {
      std::lock_guard const lock(mutex);
      if (stop) return;
      fds.push_back({wake.get(), POLLIN, 0});
      fds.push_back({listener.get(), POLLIN, 0});
      for (auto& link : links) {
        for (std::size_t way = 0; way < 2; ++way) {
          Pipe const& pipe = link.pipes[way];
          bool const read = !pipe.ended && pipe.kept_bytes < most_kept && !hanging[way];
          bool write = false;
          if (!hanging[way] && (!pipe.kept.empty() || pipe.ended)) {
            auto const due = pipe.kept.empty() ? Clock::time_point::min() : pipe.kept.front().due;
            write = due <= Clock::now();
            if (!write) wait_until = std::min(wait_until, due);
          }
          fds.push_back({read ? pipe.from->get() : -1, POLLIN, 0});
          fds.push_back({write ? pipe.to->get() : -1, POLLOUT, 0});
          whose.emplace_back(&link, way);
        }
      }
    }
    int timeout = -1;
    if (wait_until != Clock::time_point::max()) {
      auto const left = std::chrono::ceil<std::chrono::milliseconds>(wait_until - Clock::now()).count();
      timeout = static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
    }
    if (::poll(fds.data(), fds.size(), timeout) < 0 && errno != EINTR) return;

    std::lock_guard const lock(mutex);
    if (stop) return;
    std::uint64_t ignored = 0;
    while (::read(wake.get(), &ignored, sizeof ignored) > 0) {
    }
    // Only this thread removes links, so the pointers hold; a control may have killed or hung them meanwhile.
    for (std::size_t i = 0; i < whose.size(); ++i) {
      auto& [link, way] = whose[i];
      if (link->cut && !link->dead) kill(*link);
      if (!link->dead && !hanging[way] && fds[2 + 2 * i].revents != 0) read_from(*link, way);
      if (!link->dead && !hanging[way]) write_to(*link, way);
    }
    links.remove_if([](Link const& link) { return link.dead; });
    if (fds[1].revents != 0) accept_one();
    moved.notify_all();
  }
}

TcpGate::TcpGate(std::string const& server_url) : impl_(std::make_unique<Impl>()) {
  impl_->target = target_of(server_url);
  impl_->open();
  impl_->thread = std::thread([this] { impl_->run(); });
}

TcpGate::~TcpGate() {
  impl_->control([&] { impl_->stop = true; });
  impl_->thread.join();
}

std::string TcpGate::url() const {
  auto const& target = impl_->target;
  std::string result = "host=127.0.0.1 port=" + std::to_string(impl_->port) + " sslmode=disable gssencmode=disable";
  if (!target.user.empty()) result += " user=" + quoted(target.user);
  if (!target.password.empty()) result += " password=" + quoted(target.password);
  if (!target.database.empty()) result += " dbname=" + quoted(target.database);
  return result;
}

int TcpGate::port() const { return impl_->port; }

void TcpGate::refuse() {
  impl_->control([&] { impl_->refusing = true; });
}

void TcpGate::accept() {
  impl_->control([&] { impl_->refusing = false; });
}

void TcpGate::cut() {
  impl_->control([&] {
    for (auto& link : impl_->links) link.cut = true;
  });
  std::unique_lock lock(impl_->mutex);
  impl_->moved.wait(lock, [&] {
    return std::none_of(impl_->links.begin(), impl_->links.end(), [](Link const& link) { return link.cut; });
  });
}

void TcpGate::hang(Way way) {
  impl_->control([&] { Impl::for_ways(way, [&](std::size_t i) { impl_->hanging[i] = true; }); });
}

void TcpGate::delay(std::chrono::milliseconds time, Way way) {
  impl_->control([&] { Impl::for_ways(way, [&](std::size_t i) { impl_->delays[i] = time; }); });
}

void TcpGate::pass() {
  impl_->control([&] {
    impl_->hanging = {};
    impl_->delays = {};
    for (auto& link : impl_->links) {
      for (auto& pipe : link.pipes) {
        for (auto& chunk : pipe.kept) chunk.due = Clock::time_point::min();
      }
    }
  });
}

void TcpGate::cut_after(std::size_t bytes, Way way) {
  if (way == Way::both || bytes == 0) throw std::runtime_error("cut_after takes one way and at least one byte");
  impl_->control([&] { impl_->cut_after.emplace(way == Way::to_server ? 0 : 1, bytes); });
}

void TcpGate::lose_request(std::string text) {
  impl_->control([&] { impl_->request_to_lose = std::move(text); });
}

void TcpGate::lose_reply(std::string text) {
  impl_->control([&] { impl_->reply_to_lose = std::move(text); });
}

bool TcpGate::sprung() const {
  std::lock_guard const lock(impl_->mutex);
  bool const waiting = std::any_of(impl_->links.begin(), impl_->links.end(),
                                   [](Link const& link) { return link.cut_at_reply && !link.dead; });
  return !impl_->cut_after && !impl_->request_to_lose && !impl_->reply_to_lose && !waiting;
}

int TcpGate::open_connections() const {
  std::lock_guard const lock(impl_->mutex);
  return static_cast<int>(
      std::count_if(impl_->links.begin(), impl_->links.end(), [](Link const& link) { return !link.dead; }));
}

int TcpGate::accepted() const {
  std::lock_guard const lock(impl_->mutex);
  return impl_->accepted;
}

std::uint64_t TcpGate::bytes(Way way) const {
  std::lock_guard const lock(impl_->mutex);
  std::uint64_t result = 0;
  Impl::for_ways(way, [&](std::size_t i) { result += impl_->passed[i]; });
  return result;
}

}  // namespace posthouse::test
