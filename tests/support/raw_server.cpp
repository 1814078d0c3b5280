// SPDX-License-Identifier: Apache-2.0
#include "support/raw_server.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <stdexcept>
#include <utility>

namespace posthouse::test {

bool RawServer::Connection::send(std::string_view bytes) const {
  while (!bytes.empty()) {
    // Somebody who reads no more must not hold up the end of the test.
    if (server_.stop_) return false;
    pollfd one{.fd = fd_, .events = POLLOUT, .revents = 0};
    if (::poll(&one, 1, 20) <= 0) continue;
    auto const n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

void RawServer::Connection::wait_closed() const {
  std::array<char, 4096> buffer;
  while (!server_.stop_) {
    pollfd one{.fd = fd_, .events = POLLIN, .revents = 0};
    if (::poll(&one, 1, 20) <= 0) continue;
    if (::recv(fd_, buffer.data(), buffer.size(), 0) <= 0) return;
  }
}

RawServer::RawServer(Answer answer, bool read_first) : answer_(std::move(answer)), read_first_(read_first) {
  listener_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const name = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listener_.get(), name, size) != 0 || ::listen(listener_.get(), 64) != 0 ||
      ::getsockname(listener_.get(), name, &size) != 0) {
    throw std::runtime_error("cannot listen");
  }
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { accept_all(); });
}

RawServer::~RawServer() {
  stop_ = true;
  acceptor_.join();
  for (auto& thread : threads_) thread.join();
}

std::vector<std::string> RawServer::requests() const {
  std::lock_guard const lock(mutex_);
  return requests_;
}

void RawServer::accept_all() {
  while (!stop_) {
    pollfd one{.fd = listener_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&one, 1, 20) <= 0) continue;
    int const fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) continue;
    std::lock_guard const lock(mutex_);
    threads_.emplace_back([this, fd] { serve(fd); });
  }
}

void RawServer::serve(int fd) {
  base::UniqueFd const owner(fd);
  Connection connection(*this, fd);
  std::array<char, 4096> buffer;
  std::size_t wanted = std::string::npos;
  while (read_first_ && !stop_ && connection.request_.size() < wanted) {
    pollfd one{.fd = fd, .events = POLLIN, .revents = 0};
    if (::poll(&one, 1, 20) <= 0) continue;
    auto const n = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (n <= 0) return;
    connection.request_.append(buffer.data(), static_cast<std::size_t>(n));
    auto const head = connection.request_.find("\r\n\r\n");
    if (head == std::string::npos) continue;
    auto const length = connection.request_.find("Content-Length: ");
    wanted = head + 4 + (length < head ? std::stoul(connection.request_.substr(length + 16)) : 0);
  }
  {
    std::lock_guard const lock(mutex_);
    requests_.push_back(connection.request_);
  }
  answer_(connection);
  ::shutdown(fd, SHUT_WR);
  // Closing with unread bytes would take back what was sent.
  connection.wait_closed();
}

std::string http_answer(std::string const& status, std::string const& body, std::string const& headers) {
  return "HTTP/1.1 " + status + "\r\n" + headers + "Content-Length: " + std::to_string(body.size()) +
         "\r\nConnection: close\r\n\r\n" + body;
}

}  // namespace posthouse::test
