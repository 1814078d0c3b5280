// SPDX-License-Identifier: Apache-2.0
#include "monitor/request.hpp"

#include <algorithm>

#include "core/address.hpp"

namespace posthouse::monitor {
namespace {

constexpr int kBad = 400;
constexpr int kNotAllowed = 405;
constexpr int kTooLarge = 413;
constexpr int kMisdirected = 421;
constexpr int kNotImplemented = 501;
constexpr int kVersion = 505;

std::string lowered(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return out;
}

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}

bool is_value(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    auto const byte = static_cast<unsigned char>(c);
    return byte == '\t' || (byte >= 0x20 && byte != 0x7F);
  });
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

/// Addresses cannot be made to point elsewhere by whoever owns a name, so all of them are right.
bool is_our_host(std::string const& host, std::vector<std::string> const& hosts) {
  std::string_view name = host;
  if (name.starts_with('[')) {
    auto const close = name.find(']');
    if (close == std::string_view::npos || !core::Address::parse(name.substr(1, close - 1))) return false;
    name.remove_prefix(close + 1);
    return name.empty() || (name[0] == ':' && name.find_first_not_of("0123456789", 1) == std::string_view::npos);
  }
  if (auto const colon = name.find(':'); colon != std::string_view::npos) {
    if (name.find_first_not_of("0123456789", colon + 1) != std::string_view::npos) return false;
    name = name.substr(0, colon);
  }
  if (name == "localhost" || core::Address::parse(name)) return true;
  return std::find(hosts.begin(), hosts.end(), name) != hosts.end();
}

}  // namespace

std::optional<std::size_t> head_length(std::string_view text) {
  auto const end = text.find("\r\n\r\n");
  if (end == std::string_view::npos) return std::nullopt;
  return end + 4;
}

Head parse_head(std::string_view head, std::vector<std::string> const& hosts) {
  auto line_end = head.find("\r\n");
  if (line_end == std::string_view::npos) return {.refused = kBad};
  auto const line = head.substr(0, line_end);
  head.remove_prefix(line_end + 2);
  auto const first = line.find(' ');
  auto const second = first == std::string_view::npos ? first : line.find(' ', first + 1);
  if (second == std::string_view::npos) return {.refused = kBad};
  auto const method = line.substr(0, first);
  auto const target = line.substr(first + 1, second - first - 1);
  auto const version = line.substr(second + 1);
  if (!is_token(method)) return {.refused = kBad};
  if (version != "HTTP/1.1" && version != "HTTP/1.0") {
    return {.refused = version.starts_with("HTTP/") && is_value(version) && version.find(' ') == std::string_view::npos
                           ? kVersion
                           : kBad};
  }
  bool const plain = !target.empty() && target[0] == '/' && std::all_of(target.begin(), target.end(), [](char c) {
    return c > 0x20 && c < 0x7F && c != '\\' && c != '#';
  });
  if (!plain) return {.refused = kBad};

  std::optional<std::string> host;
  std::optional<std::string> length;
  bool encoded = false;
  while (!head.starts_with("\r\n")) {
    line_end = head.find("\r\n");
    if (line_end == std::string_view::npos) return {.refused = kBad};
    auto const field = head.substr(0, line_end);
    head.remove_prefix(line_end + 2);
    auto const colon = field.find(':');
    // A line that begins with a blank (obs-fold) has no token before its colon either.
    if (colon == std::string_view::npos || !is_token(field.substr(0, colon)) || !is_value(field)) {
      return {.refused = kBad};
    }
    auto const name = lowered(field.substr(0, colon));
    auto const value = trimmed(field.substr(colon + 1));
    if (name == "host") {
      if (host) return {.refused = kBad};
      host = lowered(value);
    } else if (name == "content-length") {
      if (length || value.empty() || value.find_first_not_of("0123456789") != std::string_view::npos) {
        return {.refused = kBad};
      }
      length = std::string(value);
    } else if (name == "transfer-encoding") {
      encoded = true;
    }
  }
  if (encoded) return {.refused = length ? kBad : kNotImplemented};
  if (length && length->find_first_not_of('0') != std::string::npos) return {.refused = kTooLarge};
  if (!host) return {.refused = kBad};
  if (!is_our_host(*host, hosts)) return {.refused = kMisdirected};
  if (method != "GET" && method != "HEAD") return {.refused = kNotAllowed};
  return {.head_only = method == "HEAD", .path = std::string(target.substr(0, target.find('?')))};
}

}  // namespace posthouse::monitor
