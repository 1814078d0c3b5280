// SPDX-License-Identifier: Apache-2.0
// Parsing is libpq's own; we add defaults that the URL does not name, and split lists of hosts.
#include "pg/conninfo.hpp"

#include <libpq-fe.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <string_view>

#include <posthouse/error.hpp>

#include "core/database_url.hpp"
#include "core/names.hpp"
#include "core/refuse.hpp"
#include "pg/endpoint.hpp"
#include "pg/login.hpp"
#include "pg/text.hpp"

namespace posthouse::pg {
namespace {

struct FreeOptions {
  void operator()(PQconninfoOption* options) const noexcept { PQconninfoFree(options); }
};

std::vector<std::string> split(std::string_view list) {
  std::vector<std::string> parts;
  std::size_t start = 0;
  for (;;) {
    std::size_t const comma = list.find(',', start);
    parts.emplace_back(list.substr(start, comma == std::string_view::npos ? comma : comma - start));
    if (comma == std::string_view::npos) return parts;
    start = comma + 1;
  }
}

/// libpq quotes the part of the URL that it did not like, which may be the password. Only names of options are kept.
std::string without_secrets(std::string message) {
  while (!message.empty() && message.back() == '\n') message.pop_back();
  if (message.rfind("invalid connection option", 0) == 0 || message.rfind("invalid URI query parameter", 0) == 0) {
    return message;
  }
  std::size_t const first = message.find('"');
  std::size_t const last = message.rfind('"');
  if (first == std::string::npos || last == first) return message;
  return message.substr(0, first) + "(not shown)" + message.substr(last + 1);
}

std::map<std::string, std::string> parse(std::string const& url) {
  std::map<std::string, std::string> found;
  if (url.empty()) return found;
  check_text(url);
  char* problem = nullptr;
  std::unique_ptr<PQconninfoOption, FreeOptions> const options(PQconninfoParse(url.c_str(), &problem));
  if (!options) {
    std::string const text = problem == nullptr ? "out of memory" : without_secrets(problem);
    PQfreemem(problem);
    throw InvalidArgument("database_url is not valid: " + text +
                          "; write postgresql://user@host:5432/database or host=… dbname=…");
  }
  for (PQconninfoOption const* option = options.get(); option->keyword != nullptr; ++option) {
    if (option->val != nullptr) found[option->keyword] = option->val;
  }
  return found;
}

bool is_port(std::string const& text) {
  int port = 0;
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() && port >= 1 && port <= 65535;
}

/// Anew at each connect: somebody may have changed the password, here and there.
std::string first_line(std::string const& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  if (!line.empty() && line.back() == '\r') line.pop_back();
  if (line.empty() || line.size() > 4096) {
    throw Unavailable("password_file cannot be read or has no usable first line: " + path,
                      {.sqlstate = {}, .in_doubt = false, .hint = "its first line is the password, 1 to 4096 bytes"});
  }
  check_text(line);
  return line;
}

std::string value_or_environment(std::map<std::string, std::string> const& keywords, char const* keyword,
                                 char const* variable) {
  if (auto const it = keywords.find(keyword); it != keywords.end()) return it->second;
  char const* value = std::getenv(variable);
  return value == nullptr ? std::string() : std::string(value);
}

std::string text_of(std::map<std::string, std::string> const& keywords) {
  std::string text;
  for (auto const& [keyword, value] : keywords) {
    if (!text.empty()) text += ' ';
    text += keyword + "='";
    for (char const c : value) {
      if (c == '\'' || c == '\\') text += '\\';
      text += c;
    }
    text += '\'';
  }
  return text;
}

constexpr char const* default_socket_folder = "/var/run/postgresql";  // where Debian's libpq looks
constexpr char const* default_port = "5432";

}  // namespace

ConnectPlan plan_connect(DatabaseOptions const& options, std::string const& url) {
  using namespace std::chrono_literals;
  core::check_range("connect_timeout", options.connect_timeout.count(), 100, 600'000, "ms");
  core::check_range("statement_timeout", options.statement_timeout.count(), 100, 3'600'000, "ms");
  core::check_range("tcp_user_timeout", options.tcp_user_timeout, 0, 3'600'000, "ms");
  core::check_schema(options.schema);
  check_text(options.application_name);

  auto keywords = parse(core::normalise_database_url(url));
  ConnectPlan plan;
  plan.timeout = options.connect_timeout;
  if (auto const it = keywords.find("connect_timeout"); it != keywords.end()) {
    // The URL is the more specific word; libpq itself does not look at it in asynchronous connects.
    long const seconds = std::strtol(it->second.c_str(), nullptr, 10);
    if (seconds > 0) plan.timeout = std::min<std::chrono::milliseconds>(std::chrono::seconds(seconds), 10min);
    keywords.erase(it);
  }
  keywords["client_encoding"] = "UTF8";
  keywords.emplace("application_name", options.application_name);
  keywords.emplace("keepalives", options.tcp_keepalives ? "1" : "0");
  keywords.emplace("keepalives_idle", std::to_string(options.tcp_keepalives_idle));
  keywords.emplace("keepalives_interval", std::to_string(options.tcp_keepalives_interval));
  keywords.emplace("keepalives_count", std::to_string(options.tcp_keepalives_count));
  keywords.emplace("tcp_user_timeout", std::to_string(options.tcp_user_timeout));
  if (!options.password_file.empty() && !keywords.contains("password")) {
    keywords["password"] = first_line(options.password_file);
  }

  auto const hosts = split(value_or_environment(keywords, "host", "PGHOST"));
  auto const addresses = split(value_or_environment(keywords, "hostaddr", "PGHOSTADDR"));
  auto const ports = split(value_or_environment(keywords, "port", "PGPORT"));
  std::size_t const count = std::max(hosts.size(), addresses.size());
  auto const consistent = [&](std::vector<std::string> const& list) {
    return list.size() == count || (list.size() == 1 && list.front().empty());
  };
  if (!consistent(hosts) || !consistent(addresses) || (ports.size() != 1 && ports.size() != count)) {
    throw InvalidArgument("database_url names " + std::to_string(hosts.size()) + " hosts, " +
                          std::to_string(addresses.size()) + " addresses and " + std::to_string(ports.size()) +
                          " ports; give one port for all or one for each");
  }
  for (std::size_t i = 0; i < count; ++i) {
    auto mine = keywords;
    auto const put = [&](char const* keyword, std::vector<std::string> const& list) {
      std::string const& value = list.size() == 1 ? list.front() : list[i];
      if (!value.empty()) mine[keyword] = value;
      return value;
    };
    std::string const host = put("host", hosts);
    std::string const address = put("hostaddr", addresses);
    std::string const port = put("port", ports);
    if (!port.empty() && !is_port(port)) {
      core::refuse("port", port, "1 to 65535", "check the part after the colon in database_url, or PGPORT");
    }
    Target target;
    target.place = !host.empty() ? host : !address.empty() ? address : "the local socket";
    if (!port.empty()) target.place += " port " + port;
    target.keywords.assign(mine.begin(), mine.end());
    plan.targets.push_back(std::move(target));
  }
  return plan;
}

std::string url_as(std::string const& url, Login const& login) {
  auto keywords = parse(core::normalise_database_url(url));
  // Nothing of the first role's proofs goes to the server in the name of the second, nor what stands in the
  // environment: an empty value hides the variable, and a password file that is not there hides the usual one.
  keywords["user"] = login.user;
  keywords["password"] = login.password;
  keywords["passfile"] = "/nonexistent/posthouse";
  keywords["sslcert"] = login.sslcert;
  keywords["sslkey"] = login.sslkey;
  keywords.erase("sslpassword");
  return text_of(keywords);
}

Endpoint endpoint_of(DatabaseOptions const& options, std::string const& url) {
  auto const plan = plan_connect(options, url);
  auto const& keywords = plan.targets.front().keywords;
  auto const value = [&](std::string_view name) {
    auto const it = std::find_if(keywords.begin(), keywords.end(), [&](auto const& one) { return one.first == name; });
    return it == keywords.end() ? std::string() : it->second;
  };
  auto const or_else = [](std::string found, char const* otherwise) { return found.empty() ? otherwise : found; };
  auto const address = value("hostaddr");
  return {.host = or_else(address.empty() ? value("host") : address, default_socket_folder),
          .port = or_else(value("port"), default_port),
          .user = value("user"),
          .password = value("password"),
          .database = value("dbname")};
}

std::string url_through(std::string const& url, int port) {
  auto keywords = parse(core::normalise_database_url(url));
  auto& host = keywords["host"];
  if (host.empty() || host.front() == '/' || host.find(',') != std::string::npos) host = "127.0.0.1";
  keywords["hostaddr"] = "127.0.0.1";
  keywords["port"] = std::to_string(port);
  return text_of(keywords);
}

}  // namespace posthouse::pg
