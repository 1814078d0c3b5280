// SPDX-License-Identifier: Apache-2.0
// Whom to trust, and with which protocols: certificates are always verified, TLS is at least 1.2.
//
// Thread safety: all members.
#pragma once

#include <mutex>
#include <string>

struct ssl_ctx_st;

namespace posthouse::execute {

class HttpTls {
 public:
  /// `ca_file`: PEM certificates to trust instead of the system's. Throws InvalidArgument naming `argument` when it has none.
  HttpTls(std::string const& argument, std::string ca_file);
  ~HttpTls();
  HttpTls(HttpTls const&) = delete;
  HttpTls& operator=(HttpTls const&) = delete;

  /// Null when OpenSSL cannot set it up. The system's roots are read with the first call, which takes some ten
  /// milliseconds.
  ssl_ctx_st* context();

 private:
  std::string const ca_file_;
  std::once_flag once_;
  ssl_ctx_st* context_ = nullptr;
};

}  // namespace posthouse::execute
