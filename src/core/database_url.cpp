// SPDX-License-Identifier: Apache-2.0
#include "core/database_url.hpp"

#include <algorithm>
#include <cctype>

#include "core/refuse.hpp"

namespace posthouse::core {

namespace {

constexpr std::string_view space = " \t\r\n\f\v";
constexpr std::string_view hidden = "***";

/// The scheme in lower case, empty when the text is no URL.
std::string scheme_of(std::string_view url) {
  auto const end = url.find("://");
  if (end == std::string_view::npos) return {};
  std::string scheme(url.substr(0, end));
  for (char& c : scheme) {
    auto const byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) == 0 && c != '+' && c != '-' && c != '.') return {};
    c = static_cast<char>(std::tolower(byte));
  }
  return scheme;
}

bool is_secret(std::string_view key) { return key == "password" || key == "sslpassword"; }

/// Hides the password in user:password@host from `start` on. To the last @, since people forget to encode those.
void hide_user_password(std::string& text, std::size_t start) {
  auto const at = text.rfind('@');
  auto const colon = text.find(':', start);
  if (at != std::string::npos && colon < at) text.replace(colon + 1, at - colon - 1, hidden);
}

void redact_url(std::string& url) {
  hide_user_password(url, url.find("://") + 3);
  for (auto from = url.find('?'); from != std::string::npos; from = url.find('&', from + 1)) {
    auto const equals = url.find('=', from);
    if (equals == std::string::npos) break;
    if (is_secret(std::string_view(url).substr(from + 1, equals - from - 1))) {
      url.replace(equals + 1, std::min(url.find('&', equals), url.size()) - equals - 1, hidden);
    }
  }
}

/// As libpq reads it: key = value, a value in quotes or up to a space, both with backslash escapes.
std::string redact_pairs(std::string_view text) {
  std::string out;
  std::size_t at = 0;
  auto const copy_space = [&] {
    while (at < text.size() && space.find(text[at]) != std::string_view::npos) out += text[at++];
  };
  while (at < text.size()) {
    copy_space();
    auto const key_end = std::min(text.find_first_of("= \t\r\n\f\v", at), text.size());
    auto const key = text.substr(at, key_end - at);
    out += key;
    at = key_end;
    copy_space();
    if (at >= text.size() || text[at] != '=') continue;
    out += text[at++];
    copy_space();
    auto const value_start = at;
    bool const quoted = at < text.size() && text[at] == '\'';
    if (quoted) ++at;
    while (at < text.size() && (quoted ? text[at] != '\'' : space.find(text[at]) == std::string_view::npos)) {
      at += text[at] == '\\' ? 2 : 1;
    }
    at = std::min(quoted ? at + 1 : at, text.size());
    out += is_secret(key) ? hidden : text.substr(value_start, at - value_start);
  }
  return out;
}

}  // namespace

std::string redact_database_url(std::string_view url) {
  std::string out = scheme_of(url).empty() ? redact_pairs(url) : std::string(url);
  if (out.find("://") != std::string::npos) {
    redact_url(out);  // also "DATABASE_URL=postgres://…", pasted whole
  } else if (out.find('=') == std::string::npos) {
    hide_user_password(out, 0);
  }
  return out;
}

std::string normalise_database_url(std::string_view url) {
  constexpr std::string_view allowed =
      "postgresql://user@host:5432/database, postgres://…, postgresql+driver://…, or "
      "key=value text such as host=localhost dbname=app";
  constexpr std::string_view mend = "Check --database-url, POSTHOUSE_DATABASE_URL, DATABASE_URL or the configuration.";
  auto const start = url.find_first_not_of(space);
  if (start == std::string_view::npos) return {};
  url = url.substr(start, url.find_last_not_of(space) - start + 1);
  std::string const scheme = scheme_of(url);
  if (url.find('\0') != std::string_view::npos) refuse_because("database_url", "has a NUL byte", allowed, mend);
  if (scheme.empty()) {
    if (url.find('=') != std::string_view::npos && url.find("://") > url.find('=')) return std::string(url);
    refuse("database_url", redact_database_url(url), allowed, mend);
  }
  // Drivers are named after a plus: postgresql+psycopg, postgresql+asyncpg, postgresql+psycopg2.
  auto const dialect = scheme.substr(0, scheme.find('+'));
  if (dialect != "postgresql" && dialect != "postgres") {
    refuse("database_url", redact_database_url(url), allowed, mend);
  }
  return "postgresql" + std::string(url.substr(scheme.size()));
}

}  // namespace posthouse::core
