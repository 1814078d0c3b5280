// SPDX-License-Identifier: Apache-2.0
// A server on 127.0.0.1 that answers HTTP requests with whatever bytes a test wants, at whatever pace.
//
// Thread safety: requests() from any thread; `answer` is called on a thread of each connection.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/unique_fd.hpp"

namespace posthouse::test {

class RawServer {
 public:
  /// One connection: what it has sent, and a way to send.
  class Connection {
   public:
    Connection(RawServer& server, int fd) : server_(server), fd_(fd) {}
    /// False: nobody is there any more.
    bool send(std::string_view bytes) const;
    /// Until the other side has closed the connection, or the server ends.
    void wait_closed() const;
    [[nodiscard]] std::string const& request() const noexcept { return request_; }

   private:
    friend class RawServer;
    RawServer& server_;
    int fd_;
    std::string request_{};
  };
  using Answer = std::function<void(Connection const&)>;

  /// `read_first`: calls `answer` when a whole request has come; else at once.
  explicit RawServer(Answer answer, bool read_first = true);
  ~RawServer();
  RawServer(RawServer const&) = delete;
  RawServer& operator=(RawServer const&) = delete;

  [[nodiscard]] int port() const noexcept { return port_; }
  [[nodiscard]] std::string url(std::string const& target = "/") const {
    return "http://127.0.0.1:" + std::to_string(port_) + target;
  }
  [[nodiscard]] std::vector<std::string> requests() const;

 private:
  void accept_all();
  void serve(int fd);

  Answer const answer_;
  bool const read_first_;
  base::UniqueFd listener_;
  int port_ = 0;
  std::atomic<bool> stop_{false};
  mutable std::mutex mutex_;  // guards what follows
  std::vector<std::string> requests_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

/// A whole answer; Content-Length and Connection: close are added.
std::string http_answer(std::string const& status, std::string const& body = {}, std::string const& headers = {});

}  // namespace posthouse::test
