// SPDX-License-Identifier: Apache-2.0
// A connection to one address, in the clear or under TLS, in which nothing waits without an end.
//
// Every wait is one poll() on the socket and on the job's stop, up to the deadline or as long as silence is allowed. The
// only files of this room that name OpenSSL are this one's .cpp and http_tls.cpp.
// Thread safety: one thread at a time.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "base/event_fd.hpp"
#include "base/unique_fd.hpp"
#include "core/address.hpp"
#include "execute/http_tls.hpp"

namespace posthouse::execute {

class HttpWire {
 public:
  using Clock = std::chrono::steady_clock;
  enum class Went { well, closed, broken, late, silent, stopped, refused, untrusted };

  /// `stop` gets it out of any wait.
  HttpWire(base::EventFd const& stop, Clock::time_point deadline, std::chrono::milliseconds silence);
  ~HttpWire();
  HttpWire(HttpWire const&) = delete;
  HttpWire& operator=(HttpWire const&) = delete;

  Went connect(core::Address const& address, int port, std::chrono::milliseconds most);
  /// `host` is a name or an address; the certificate must be for it.
  Went encrypt(HttpTls& tls, std::string const& host, bool literal, std::chrono::milliseconds most);
  /// All of it; or well, and not all of it, when the other side already answers.
  Went send(std::string_view bytes);
  /// Some bytes into `into`; closed: in due form.
  Went receive(std::string& into);

 private:
  struct Ssl;
  Went wait(short events, Clock::time_point until);
  [[nodiscard]] Clock::time_point quiet_until() const;

  base::EventFd const& stop_;
  Clock::time_point const deadline_;
  std::chrono::milliseconds const silence_;
  base::UniqueFd socket_{};
  std::unique_ptr<Ssl> ssl_;
};

}  // namespace posthouse::execute
