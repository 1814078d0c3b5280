// SPDX-License-Identifier: Apache-2.0
// One HTTP exchange with one address. The only files that name cpp-httplib are http_client.cpp and tests.
//
// TLS certificates are always verified, against the system's roots or those of a file, and the host's name with them; TLS
// is at least 1.2. Redirects are not followed, proxies of the environment not used, nothing is decompressed.
// Thread safety: send() from any number of threads.
#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/address.hpp"
#include "core/http_url.hpp"
#include "execute/http_watch.hpp"

namespace posthouse::execute {

struct HttpRequest {
  core::HttpUrl url{};
  core::Address address{};  ///< what the host's name stands for; no other is connected to
  std::string method = "GET";
  std::vector<std::pair<std::string, std::string>> headers{};  ///< checked; Host and Content-Length are added
  std::string body{};
  std::chrono::milliseconds connect_timeout{10'000};
  std::chrono::milliseconds read_timeout{30'000};  ///< of silence
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
    silent,     ///< a read or a write that timed out, or a connection that broke
    stopped,    ///< as the job was asked
    flooded     ///< the server sends more than it may
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
  /// `ca_file`: PEM certificates to trust instead of the system's. Throws InvalidArgument naming `argument`.
  HttpClient(std::string const& argument, std::string const& ca_file);
  ~HttpClient();
  HttpClient(HttpClient const&) = delete;
  HttpClient& operator=(HttpClient const&) = delete;

  [[nodiscard]] HttpAnswer send(HttpRequest const& request) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The addresses of a name, in the resolver's order, each once; empty: none. Takes as long as the system's resolver does.
std::vector<core::Address> resolve(std::string const& host);

}  // namespace posthouse::execute
