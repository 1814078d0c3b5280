// SPDX-License-Identifier: Apache-2.0
#include "execute/http_client.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>

#include "base/event_fd.hpp"
#include "base/sigpipe_blocked.hpp"
#include "execute/http_reader.hpp"
#include "execute/http_wire.hpp"

namespace posthouse::execute {
namespace {

using Fault = HttpAnswer::Fault;
using Went = HttpWire::Went;

/// `otherwise`: what a connection that breaks means at this point.
Fault fault_of(Went went, Fault otherwise) {
  switch (went) {
    case Went::late:
      return Fault::late;
    case Went::stopped:
      return Fault::stopped;
    case Went::untrusted:
      return Fault::untrusted;
    case Went::refused:
      return Fault::connect;
    case Went::silent:
      return otherwise == Fault::broken ? Fault::silent : otherwise;
    default:
      return otherwise;
  }
}

std::string text_of(HttpRequest const& request) {
  std::string text = request.method + " " + request.url.target + " HTTP/1.1\r\nHost: " + request.url.authority() +
                     "\r\nConnection: close\r\nAccept-Encoding: identity\r\n";
  for (auto const& [name, value] : request.headers) text += name + ": " + value + "\r\n";
  bool const takes_body = request.method == "POST" || request.method == "PUT" || request.method == "PATCH";
  if (takes_body || !request.body.empty()) text += "Content-Length: " + std::to_string(request.body.size()) + "\r\n";
  return text + "\r\n" + request.body;
}

HttpAnswer read_answer(HttpWire& wire, HttpRequest const& request) {
  HttpReader reader(request.method == "HEAD", request.most_body);
  auto state = HttpReader::State::more;
  std::string bytes;
  while (state == HttpReader::State::more) {
    auto const went = wire.receive(bytes);
    if (went == Went::closed) {
      state = reader.end();
    } else if (went == Went::well) {
      state = reader.feed(bytes);
    } else {
      return {.fault = fault_of(went, Fault::broken)};
    }
  }
  if (state == HttpReader::State::flooded) return {.fault = Fault::flooded};
  if (state != HttpReader::State::done) return {.fault = Fault::broken};
  return {.status = reader.status(),
          .reason = reader.reason(),
          .retry_after = reader.retry_after(),
          .location = reader.location(),
          .body = reader.take_body(),
          .cut = reader.cut()};
}

}  // namespace

HttpClient::HttpClient(std::string const& argument, std::string ca_file) : tls_(argument, std::move(ca_file)) {}

HttpAnswer HttpClient::send(HttpRequest const& request) {
  // OpenSSL writes without MSG_NOSIGNAL.
  base::SigpipeBlocked const blocked;
  base::EventFd const stop;
  std::stop_callback const on_stop(request.stop, [&stop] { stop.signal(); });
  HttpWire wire(stop, request.deadline, request.read_timeout);
  if (auto const went = wire.connect(request.address, request.url.port, request.connect_timeout); went != Went::well) {
    return {.fault = fault_of(went, Fault::connect)};
  }
  if (request.url.tls) {
    auto const went = wire.encrypt(tls_, request.url.host, request.url.literal, request.connect_timeout);
    if (went != Went::well) return {.fault = fault_of(went, Fault::tls)};
  }
  auto const went = wire.send(text_of(request));
  // One that closes early may have said why.
  if (went != Went::well && went != Went::broken) return {.fault = fault_of(went, Fault::broken)};
  return read_answer(wire, request);
}

std::vector<core::Address> resolve(std::string const& host) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  addrinfo* list = nullptr;
  if (::getaddrinfo(host.c_str(), nullptr, &hints, &list) != 0) return {};
  std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> const owner(list, &::freeaddrinfo);
  std::vector<core::Address> addresses;
  for (auto const* one = list; one != nullptr; one = one->ai_next) {
    core::Address address;
    if (one->ai_family == AF_INET) {
      sockaddr_in v4{};
      std::memcpy(&v4, one->ai_addr, sizeof v4);
      address = core::Address::v4(0, 0, 0, 0);
      std::memcpy(address.bytes.data() + 12, &v4.sin_addr, 4);
    } else if (one->ai_family == AF_INET6) {
      sockaddr_in6 v6{};
      std::memcpy(&v6, one->ai_addr, sizeof v6);
      std::memcpy(address.bytes.data(), &v6.sin6_addr, 16);
    } else {
      continue;
    }
    bool const seen = std::any_of(addresses.begin(), addresses.end(),
                                  [&](core::Address const& other) { return other.bytes == address.bytes; });
    if (!seen) addresses.push_back(address);
  }
  return addresses;
}

}  // namespace posthouse::execute
