// SPDX-License-Identifier: Apache-2.0
// URLs of HTTP jobs, read strictly: what two readers could understand differently is refused, not guessed.
//
// Thread safety: pure functions and plain values.
#pragma once

#include <string>
#include <string_view>

namespace posthouse::core {

struct HttpUrl {
  bool tls = false;
  std::string host{};    ///< lower case; an IPv6 address without its brackets
  bool literal = false;  ///< host is an address, not a name
  int port = 0;
  std::string target{};  ///< path and query, begins with "/", no fragment

  /// "https://api.example.com", with the port when it is not the scheme's own; safe to show: no path, no query.
  [[nodiscard]] std::string origin() const;
  /// As the Host header says it.
  [[nodiscard]] std::string authority() const;
};

/// http or https, a host name or an address in its one usual form, optionally a port, path and query. Refused: user
/// names and passwords, other schemes, hosts that are numbers in disguise (0x7f.1, 017700000001, 2130706433), percent
/// signs in hosts, zones of IPv6 addresses, backslashes, blanks, control characters, anything that is not ASCII, and
/// segments "." and ".." in whatever spelling. Throws InvalidArgument; its message never repeats more than the origin.
HttpUrl parse_http_url(std::string_view argument, std::string_view url);

/// Where a Location header leads from `from`: absolute, "//host/…", "/path", "path" or "?query". Throws InvalidArgument.
HttpUrl resolve_location(HttpUrl const& from, std::string_view location);

/// Same scheme, host and port.
bool same_origin(HttpUrl const& a, HttpUrl const& b);

}  // namespace posthouse::core
