// SPDX-License-Identifier: Apache-2.0
// One HTTP/1.1 exchange with one address, on a connection of its own. Redirects are not followed, proxies of the
// environment not used, nothing is decompressed.
//
// Thread safety: send() from any number of threads.
#pragma once

#include <chrono>
#include <cstddef>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "core/address.hpp"
#include "core/http_url.hpp"
#include "execute/http_tls.hpp"

namespace posthouse::execute {

struct HttpRequest {
  core::HttpUrl url{};
  core::Address address{};  ///< what the host's name stands for; no other is connected to
  std::string method = "GET";
  std::vector<std::pair<std::string, std::string>> headers{};  ///< checked; those of the connection are added
  std::string body{};
  std::chrono::milliseconds connect_timeout{10'000};  ///< for the connection, and as much for the handshake
  std::chrono::milliseconds read_timeout{30'000};     ///< of silence
  std::chrono::steady_clock::time_point deadline{};
  std::stop_token stop{};
  std::size_t most_body = 1024 * 1024;  ///< of the answer; the rest is not read
};

struct HttpAnswer {
  enum class Fault {
    none,       ///< there is an answer
    connect,    ///< no connection
    tls,        ///< no common ground, or a handshake that broke off
    untrusted,  ///< the certificate
    late,       ///< at the deadline
    silent,     ///< for longer than read_timeout
    broken,     ///< the connection ended too soon, or what came is no HTTP
    stopped,    ///< as the job was asked
    flooded     ///< the server sends more around its answer than it may
  };
  Fault fault = Fault::none;
  int status = 0;
  std::string reason{};       ///< as the server says
  std::string retry_after{};  ///< headers; empty: none
  std::string location{};
  std::string body{};
  bool cut = false;  ///< the body is longer
};

class HttpClient {
 public:
  /// As HttpTls.
  HttpClient(std::string const& argument, std::string ca_file);

  [[nodiscard]] HttpAnswer send(HttpRequest const& request);

 private:
  HttpTls tls_;
};

/// The addresses of a name, in the resolver's order, each once; empty: none. Takes as long as the system's resolver does.
std::vector<core::Address> resolve(std::string const& host);

}  // namespace posthouse::execute
