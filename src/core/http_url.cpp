// SPDX-License-Identifier: Apache-2.0
#include "core/http_url.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "core/refuse.hpp"

namespace posthouse::core {
namespace {

constexpr std::size_t kMostUrl = 8000;
constexpr std::size_t kMostHost = 253;

[[noreturn]] void refuse_url(std::string_view argument, std::string_view problem) {
  refuse_because(argument, problem, "http:// or https://, a host, optionally a port, a path and a query",
                 "write the URL in its plain form");
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_alpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
std::string lowered(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), lower);
  return out;
}

int hex_value(char c) {
  if (is_digit(c)) return c - '0';
  auto const small = lower(c);
  return small >= 'a' && small <= 'f' ? small - 'a' + 10 : -1;
}

/// Four decimal numbers without leading zeros.
bool is_ipv4(std::string_view host) {
  int parts = 0;
  while (true) {
    auto const dot = host.find('.');
    auto const part = host.substr(0, dot);
    int number = 0;
    auto const [end, code] = std::from_chars(part.data(), part.data() + part.size(), number);
    if (part.empty() || code != std::errc{} || end != part.data() + part.size() || number > 255 || number < 0 ||
        (part.size() > 1 && part[0] == '0') || !is_digit(part[0])) {
      return false;
    }
    ++parts;
    if (dot == std::string_view::npos) return parts == 4;
    host.remove_prefix(dot + 1);
  }
}

bool is_ipv6(std::string const& host) {
  std::array<unsigned char, 16> bytes{};
  return host.find('%') == std::string::npos && ::inet_pton(AF_INET6, host.c_str(), bytes.data()) == 1;
}

void check_name(std::string_view argument, std::string_view host) {
  if (host.empty() || host.size() > kMostHost) refuse_url(argument, "has no host, or one that is too long");
  std::string_view last;
  for (auto rest = host;;) {
    auto const dot = rest.find('.');
    last = rest.substr(0, dot);
    if (last.empty() || last.size() > 63 || last.front() == '-' || last.back() == '-') {
      refuse_url(argument, "has a host that is no name");
    }
    for (char const c : last) {
      if (!is_alpha(c) && !is_digit(c) && c != '-' && c != '_') refuse_url(argument, "has a host that is no name");
    }
    if (dot == std::string_view::npos) break;
    rest.remove_prefix(dot + 1);
  }
  // Resolvers read 127.1, 0x7f000001 and 017700000001 as addresses; no top-level domain looks like one.
  if (is_digit(last[0])) refuse_url(argument, "has a host that is neither a name nor an address in its usual form");
}

void check_target(std::string_view argument, std::string_view target) {
  for (std::size_t i = 0; i < target.size(); ++i) {
    auto const c = static_cast<unsigned char>(target[i]);
    if (c <= 0x20 || c >= 0x7F || c == '\\' || c == '"' || c == '<' || c == '>' || c == '{' || c == '}' || c == '^' ||
        c == '`' || c == '|') {
      refuse_url(argument, "has a character in its path or query that must be percent-encoded");
    }
    if (c != '%') continue;
    int const high = i + 1 < target.size() ? hex_value(target[i + 1]) : -1;
    int const low = i + 2 < target.size() ? hex_value(target[i + 2]) : -1;
    if (high < 0 || low < 0) refuse_url(argument, "has a % that begins no percent-encoded byte");
    int const byte = high * 16 + low;
    if (byte < 0x20 || byte == 0x7F) refuse_url(argument, "has an encoded control character");
  }
  auto path = target.substr(0, target.find('?'));
  while (!path.empty()) {
    path.remove_prefix(1);
    auto const slash = std::min(path.find('/'), path.size());
    std::string segment;
    for (std::size_t i = 0; i < slash; ++i) {
      if (path[i] == '%' && lowered(path.substr(i, 3)) == "%2e") {
        segment += '.';
        i += 2;
      } else {
        segment += path[i];
      }
    }
    if (segment == "." || segment == "..") refuse_url(argument, "has a segment . or .. in its path");
    path.remove_prefix(slash);
  }
}

}  // namespace

std::string HttpUrl::authority() const {
  auto text = host.find(':') != std::string::npos ? "[" + host + "]" : host;
  if (port != (tls ? 443 : 80)) text += ":" + std::to_string(port);
  return text;
}

std::string HttpUrl::origin() const { return (tls ? "https://" : "http://") + authority(); }

HttpUrl parse_http_url(std::string_view argument, std::string_view url) {
  if (url.size() > kMostUrl) refuse_url(argument, "is longer than 8000 bytes");
  HttpUrl result;
  auto const scheme_end = url.find(':');
  auto const scheme = lowered(url.substr(0, scheme_end == std::string_view::npos ? 0 : scheme_end));
  if (scheme != "http" && scheme != "https") refuse_url(argument, "is not http:// or https://");
  result.tls = scheme == "https";
  auto rest = url.substr(scheme_end + 1);
  if (!rest.starts_with("//")) refuse_url(argument, "has no // after the scheme");
  rest.remove_prefix(2);
  auto const authority_end = std::min(rest.find_first_of("/?#"), rest.size());
  auto authority = rest.substr(0, authority_end);
  auto target = rest.substr(authority_end);
  if (auto const fragment = target.find('#'); fragment != std::string_view::npos) {
    refuse_url(argument, "has a fragment (#…), which is never sent");
  }
  if (authority.find('@') != std::string_view::npos) {
    refuse_url(argument, "has a user name or password in it; send an Authorization header instead");
  }

  std::string_view port;
  bool has_port = false;
  if (authority.starts_with('[')) {
    auto const close = authority.find(']');
    if (close == std::string_view::npos) refuse_url(argument, "has a [ without ]");
    result.host = lowered(authority.substr(1, close - 1));
    if (!is_ipv6(result.host)) refuse_url(argument, "has something in [] that is no IPv6 address");
    result.literal = true;
    auto const behind = authority.substr(close + 1);
    if (!behind.empty() && behind[0] != ':') refuse_url(argument, "has something between the host and the port");
    has_port = !behind.empty();
    if (has_port) port = behind.substr(1);
  } else {
    auto const colon = authority.find(':');
    has_port = colon != std::string_view::npos;
    if (has_port) port = authority.substr(colon + 1);
    result.host = lowered(authority.substr(0, colon));
    result.literal = is_ipv4(result.host);
    if (!result.literal) check_name(argument, result.host);
  }
  result.port = result.tls ? 443 : 80;
  if (has_port) {
    auto const [end, code] = std::from_chars(port.data(), port.data() + port.size(), result.port);
    if (port.empty() || !is_digit(port[0]) || code != std::errc{} || end != port.data() + port.size() ||
        result.port < 1 || result.port > 65535) {
      refuse_url(argument, "has a port that is not 1 to 65535");
    }
  }
  result.target = target.starts_with('/') ? std::string(target) : "/" + std::string(target);
  check_target(argument, result.target);
  return result;
}

HttpUrl resolve_location(HttpUrl const& from, std::string_view location) {
  constexpr std::string_view argument = "the Location of the answer";
  location = location.substr(0, location.find('#'));
  if (location.starts_with("//"))
    return parse_http_url(argument, (from.tls ? "https:" : "http:") + std::string(location));
  // A scheme ends before the first / or ?.
  auto const colon = location.find(':');
  if (colon != std::string_view::npos && colon < location.find_first_of("/?"))
    return parse_http_url(argument, location);
  auto target = std::string(location);
  auto const path = from.target.substr(0, from.target.find('?'));
  if (location.empty()) target = from.target;
  if (location.starts_with('?')) target = path + target;
  if (!target.starts_with('/')) target = path.substr(0, path.rfind('/') + 1) + target;
  return parse_http_url(argument, from.origin() + target);
}

bool same_origin(HttpUrl const& a, HttpUrl const& b) { return a.tls == b.tls && a.host == b.host && a.port == b.port; }

}  // namespace posthouse::core
