// SPDX-License-Identifier: Apache-2.0
#include "execute/http_client.hpp"

#include <httplib.h>
#include <netdb.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/sigpipe_blocked.hpp"
#include "core/refuse.hpp"

namespace posthouse::execute {
namespace {

/// Of headers, encryption and the like, beside the body.
constexpr std::uint64_t kMostBesideBody = 512 * 1024;
constexpr std::size_t kMostReason = 200;

using Store = std::unique_ptr<X509_STORE, decltype(&::X509_STORE_free)>;

HttpAnswer::Fault fault_of(httplib::Error error, HttpWatch::Why why) {
  using Fault = HttpAnswer::Fault;
  switch (why) {
    case HttpWatch::Why::late:
      return Fault::late;
    case HttpWatch::Why::stopped:
      return Fault::stopped;
    case HttpWatch::Why::flooded:
      return Fault::flooded;
    case HttpWatch::Why::none:
      break;
  }
  switch (error) {
    case httplib::Error::Success:
      return Fault::none;
    case httplib::Error::Connection:
    case httplib::Error::ConnectionTimeout:
    case httplib::Error::BindIPAddress:
      return Fault::connect;
    case httplib::Error::SSLConnection:
    case httplib::Error::SSLLoadingCerts:
      return Fault::tls;
    case httplib::Error::SSLServerVerification:
      return Fault::untrusted;
    default:
      return Fault::silent;
  }
}

}  // namespace

struct HttpClient::Impl {
  Store trusted{nullptr, &::X509_STORE_free};
  std::shared_ptr<HttpWatch> watch = HttpWatch::shared();
};

HttpClient::HttpClient(std::string const& argument, std::string const& ca_file) : impl_(std::make_unique<Impl>()) {
  // Read once: the system's roots take some ten milliseconds.
  impl_->trusted.reset(::X509_STORE_new());
  auto* const store = impl_->trusted.get();
  bool const loaded = store != nullptr && (ca_file.empty() ? ::X509_STORE_set_default_paths(store) == 1
                                                           : ::X509_STORE_load_file(store, ca_file.c_str()) == 1);
  if (!loaded) {
    core::refuse_because(argument, "no certificate can be read from " + core::shown(ca_file),
                         "a readable file of PEM certificates", "");
  }
}

HttpClient::~HttpClient() = default;

HttpAnswer HttpClient::send(HttpRequest const& request) const {
  // httplib writes to sockets without MSG_NOSIGNAL, and so does OpenSSL.
  base::SigpipeBlocked const blocked;
  HttpWatch::Watched watched(impl_->watch, request.deadline, request.most_body + kMostBesideBody, request.stop);

  std::unique_ptr<httplib::ClientImpl> client;
  if (request.url.tls) {
    auto tls = std::make_unique<httplib::SSLClient>(request.url.host, request.url.port);
    if (!tls->is_valid()) return {.fault = HttpAnswer::Fault::tls};
    ::X509_STORE_up_ref(impl_->trusted.get());
    tls->set_ca_cert_store(impl_->trusted.get());
    tls->enable_server_certificate_verification(true);
    ::SSL_CTX_set_min_proto_version(tls->ssl_context(), TLS1_2_VERSION);
    client = std::move(tls);
  } else {
    client = std::make_unique<httplib::ClientImpl>(request.url.host, request.url.port);
  }
  client->set_hostname_addr_map({{request.url.host, request.address.text()}});
  client->set_socket_options([&](int socket) { watched.socket(socket); });
  client->set_connection_timeout(request.connect_timeout);
  client->set_read_timeout(request.read_timeout);
  client->set_write_timeout(request.read_timeout);
  client->set_keep_alive(false);
  client->set_follow_location(false);
  client->set_url_encode(false);
  client->set_decompress(false);
  client->set_tcp_nodelay(true);

  httplib::Request message;
  message.method = request.method;
  message.path = request.url.target;
  for (auto const& [name, value] : request.headers) message.headers.emplace(name, value);
  message.headers.emplace("Host", request.url.authority());
  message.headers.emplace("Accept-Encoding", "identity");
  message.headers.emplace("Connection", "close");
  message.body = request.body;

  HttpAnswer answer;
  bool headed = false;
  message.response_handler = [&](httplib::Response const& head) {
    headed = true;
    answer.status = head.status;
    answer.reason = head.reason.substr(0, kMostReason);
    answer.retry_after = head.get_header_value("Retry-After").substr(0, kMostReason);
    answer.location = head.get_header_value("Location");
    return true;
  };
  message.content_receiver = [&](char const* data, std::size_t size, std::uint64_t, std::uint64_t) {
    auto const room = request.most_body - answer.body.size();
    answer.body.append(data, std::min(size, room));
    answer.cut = size > room;
    return !answer.cut;
  };
  httplib::Response response;
  auto error = httplib::Error::Success;
  bool const sent = client->send(message, response, error);
  // An answer that is longer than we want is one all the same.
  if (headed && (sent || answer.cut)) {
    answer.fault = HttpAnswer::Fault::none;
    return answer;
  }
  answer.fault = fault_of(sent ? httplib::Error::Success : error, watched.why());
  if (answer.fault == HttpAnswer::Fault::none && !headed) answer.fault = HttpAnswer::Fault::silent;
  return answer;
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
