// SPDX-License-Identifier: Apache-2.0
#include "execute/http_wire.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <posthouse/error.hpp>
#include <utility>

#include "core/refuse.hpp"

namespace posthouse::execute {
namespace {

constexpr std::size_t kPiece = 16 * 1024;

SSL_CTX* make_context(std::string const& ca_file) {
  auto* const context = ::SSL_CTX_new(::TLS_client_method());
  if (context == nullptr) return nullptr;
  bool const loaded = ca_file.empty() ? ::SSL_CTX_set_default_verify_paths(context) == 1
                                      : ::SSL_CTX_load_verify_locations(context, ca_file.c_str(), nullptr) == 1;
  bool const set = loaded && ::SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1;
  ::SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  ::SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  if (set) return context;
  ::SSL_CTX_free(context);
  ::ERR_clear_error();
  return nullptr;
}

}  // namespace

HttpTls::HttpTls(std::string const& argument, std::string ca_file) : ca_file_(std::move(ca_file)) {
  if (!ca_file_.empty() && context() == nullptr) {
    core::refuse_because(argument, "no certificate can be read from " + core::shown(ca_file_),
                         "a readable file of PEM certificates", "");
  }
}

HttpTls::~HttpTls() { ::SSL_CTX_free(context_); }

ssl_ctx_st* HttpTls::context() {
  std::call_once(once_, [this] { context_ = make_context(ca_file_); });
  return context_;
}

struct HttpWire::Ssl {
  SSL* ssl = nullptr;
  explicit Ssl(SSL* the_ssl) : ssl(the_ssl) {}
  Ssl(Ssl const&) = delete;
  Ssl& operator=(Ssl const&) = delete;
  ~Ssl() { ::SSL_free(ssl); }
};

HttpWire::HttpWire(base::EventFd const& stop, Clock::time_point deadline, std::chrono::milliseconds silence)
    : stop_(stop), deadline_(deadline), silence_(silence) {}

HttpWire::~HttpWire() = default;

HttpWire::Clock::time_point HttpWire::quiet_until() const { return std::min(deadline_, Clock::now() + silence_); }

HttpWire::Went HttpWire::wait(short events, Clock::time_point until) {
  while (true) {
    std::array<pollfd, 2> fds{pollfd{.fd = socket_.get(), .events = events, .revents = 0},
                              pollfd{.fd = stop_.fd(), .events = POLLIN, .revents = 0}};
    auto const now = Clock::now();
    auto const left = std::chrono::ceil<std::chrono::milliseconds>(until - now).count();
    // Also when there is always something to read: a stop and the deadline come first.
    int const ready = ::poll(fds.data(), fds.size(), static_cast<int>(std::clamp<std::int64_t>(left, 0, 3'600'000)));
    if (ready < 0 && errno != EINTR) return Went::broken;
    if (fds[1].revents != 0) return Went::stopped;
    if (Clock::now() >= deadline_) return Went::late;
    if (ready > 0 && fds[0].revents != 0) return Went::well;
    if (Clock::now() >= until) return Went::silent;
  }
}

HttpWire::Went HttpWire::connect(core::Address const& address, int port, std::chrono::milliseconds most) {
  bool const four = address.is_v4();
  ssl_.reset();
  socket_.reset(::socket(four ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket_) return Went::refused;
  int const on = 1;
  ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  sockaddr_storage place{};
  socklen_t size = 0;
  if (four) {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(static_cast<std::uint16_t>(port));
    std::memcpy(&v4.sin_addr, address.bytes.data() + 12, 4);
    std::memcpy(&place, &v4, size = sizeof v4);
  } else {
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(static_cast<std::uint16_t>(port));
    std::memcpy(&v6.sin6_addr, address.bytes.data(), 16);
    std::memcpy(&place, &v6, size = sizeof v6);
  }
  if (::connect(socket_.get(), reinterpret_cast<sockaddr*>(&place), size) == 0) return Went::well;
  if (errno != EINPROGRESS) return Went::refused;
  auto const went = wait(POLLOUT, std::min(deadline_, Clock::now() + most));
  if (went == Went::silent) return Went::refused;
  if (went != Went::well) return went;
  int error = 0;
  socklen_t length = sizeof error;
  return ::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0 ? Went::well
                                                                                               : Went::refused;
}

HttpWire::Went HttpWire::encrypt(HttpTls& tls, std::string const& host, bool literal, std::chrono::milliseconds most) {
  auto* const context = tls.context();
  if (context == nullptr) return Went::broken;
  ssl_ = std::make_unique<Ssl>(::SSL_new(context));
  auto* const ssl = ssl_->ssl;
  if (ssl == nullptr || ::SSL_set_fd(ssl, socket_.get()) != 1) return Went::broken;
  // Without one of these any valid certificate of anybody would do.
  bool named = false;
  if (literal) {
    named = ::X509_VERIFY_PARAM_set1_ip_asc(::SSL_get0_param(ssl), host.c_str()) == 1;
  } else {
    ::SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    named = ::SSL_set1_host(ssl, host.c_str()) == 1 && ::SSL_set_tlsext_host_name(ssl, host.c_str()) == 1;
  }
  if (!named) return Went::broken;
  // All of the handshake: one byte at a time is no silence.
  auto const until = std::min(deadline_, Clock::now() + most);
  while (true) {
    ::ERR_clear_error();
    int const result = ::SSL_connect(ssl);
    if (result == 1) return ::SSL_get_verify_result(ssl) == X509_V_OK ? Went::well : Went::untrusted;
    int const error = ::SSL_get_error(ssl, result);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
      bool const certificate = ::SSL_get_verify_result(ssl) != X509_V_OK;
      ::ERR_clear_error();
      return certificate ? Went::untrusted : Went::broken;
    }
    if (Clock::now() >= until) return Clock::now() >= deadline_ ? Went::late : Went::silent;
    auto const went = wait(error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, until);
    if (went != Went::well) return went;
  }
}

HttpWire::Went HttpWire::send(std::string_view bytes) {
  while (!bytes.empty()) {
    short events = POLLOUT;
    std::size_t sent = 0;
    if (ssl_) {
      ::ERR_clear_error();
      int const result = ::SSL_write_ex(ssl_->ssl, bytes.data(), std::min(bytes.size(), kPiece), &sent);
      if (result != 1) {
        int const error = ::SSL_get_error(ssl_->ssl, result);
        if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
          ::ERR_clear_error();
          return Went::broken;
        }
        events = error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
        sent = 0;
      }
    } else {
      auto const n = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n < 0 && errno != EAGAIN && errno != EINTR) return Went::broken;
      sent = n > 0 ? static_cast<std::size_t>(n) : 0;
      // Who answers before the end will not read the rest.
      events = POLLOUT | POLLIN;
    }
    bytes.remove_prefix(sent);
    if (sent > 0) continue;
    auto const went = wait(events, quiet_until());
    if (went != Went::well) return went;
    if (!ssl_) {
      pollfd one{.fd = socket_.get(), .events = POLLIN, .revents = 0};
      if (::poll(&one, 1, 0) > 0 && (one.revents & POLLIN) != 0) return Went::well;
    }
  }
  return Went::well;
}

HttpWire::Went HttpWire::receive(std::string& into) {
  std::array<char, kPiece> buffer;
  auto const until = quiet_until();
  while (true) {
    // First, so that a server which never stops sending is stopped.
    if (!(ssl_ && ::SSL_pending(ssl_->ssl) > 0)) {
      auto const went = wait(POLLIN, until);
      if (went != Went::well) return went;
    }
    if (!ssl_) {
      auto const n = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
      if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      if (n < 0) return Went::broken;
      into.assign(buffer.data(), static_cast<std::size_t>(n));
      return n == 0 ? Went::closed : Went::well;
    }
    std::size_t got = 0;
    ::ERR_clear_error();
    int const result = ::SSL_read_ex(ssl_->ssl, buffer.data(), buffer.size(), &got);
    if (result == 1) {
      into.assign(buffer.data(), got);
      return Went::well;
    }
    int const error = ::SSL_get_error(ssl_->ssl, result);
    if (error == SSL_ERROR_ZERO_RETURN) return Went::closed;
    if (error == SSL_ERROR_WANT_WRITE) {
      auto const went = wait(POLLOUT, until);
      if (went != Went::well) return went;
    } else if (error != SSL_ERROR_WANT_READ) {
      ::ERR_clear_error();
      return Went::broken;
    }
  }
}

}  // namespace posthouse::execute
