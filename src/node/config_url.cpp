// SPDX-License-Identifier: Apache-2.0
// Which database: the order in which the places that may name one are asked.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>

#include "core/database_url.hpp"
#include "node/config_keys.hpp"

namespace posthouse::node {
namespace {

constexpr std::array<std::string_view, 5> kParts{"host", "port", "database", "user", "sslmode"};

std::string libpq_quoted(std::string_view text) {
  std::string out = "'";
  for (char const c : text) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out + "'";
}

std::string percent_encoded(std::string_view text) {
  std::string out;
  for (char const c : text) fmt::format_to(std::back_inserter(out), "%{:02X}", static_cast<unsigned char>(c));
  return out;
}

std::string with_password(std::string url, std::string const& password) {
  if (password.empty()) return url;
  if (!url.starts_with("postgresql://")) return url + " password=" + libpq_quoted(password);
  return url + (url.find('?') == std::string::npos ? "?" : "&") + "password=" + percent_encoded(password);
}

std::string from_parts(DatabaseParts const& parts) {
  auto url = fmt::format("host={} port={} dbname={} user={} sslmode={}", libpq_quoted(parts.host), parts.port,
                         libpq_quoted(parts.database), libpq_quoted(parts.user), parts.sslmode);
  return with_password(std::move(url), parts.password);
}

std::string const* variable(Sources const& sources, std::string_view name) {
  auto const found = std::find_if(sources.environment.begin(), sources.environment.end(),
                                  [&](auto const& entry) { return entry.first == name; });
  return found == sources.environment.end() || found->second.empty() ? nullptr : &found->second;
}

/// Normalises; a URL that is none becomes a problem.
std::string checked(std::string const& url, std::string const& where, std::string const& key,
                    std::vector<Problem>& problems) {
  try {
    return core::normalise_database_url(url);
  } catch (InvalidArgument const& error) {
    problems.push_back({where, key, error.what() + (error.hint().empty() ? "" : "; " + error.hint())});
    return {};
  }
}

/// From POSTHOUSE_PASSWORD on top of a URL that another layer gave, or beside it.
bool password_belongs_to(Tree const* url, Tree const* password) {
  return url != nullptr && password != nullptr && password->layer >= url->layer;
}

}  // namespace

void resolve_entry_url(Tree const& root, std::string const& path, Config& config, std::vector<Problem>& problems) {
  auto const before = problems.size();
  if (root.find("database_url") == nullptr) {
    for (auto const* required : {"database", "user"}) {
      if (root.find(required) != nullptr) continue;
      problems.push_back(
          {root.where, path + required,
           fmt::format("{}{} is missing; without database_url both database and user are required", path, required)});
    }
    if (problems.size() != before) return;
  }
  resolve_url(root, {}, config, problems);
  for (auto i = before; i < problems.size(); ++i) {
    problems[i].text = path + problems[i].text;
    problems[i].key = path + problems[i].key;
  }
}

void resolve_url(Tree const& root, Sources const& sources, Config& config, std::vector<Problem>& problems) {
  auto& database = config.database;
  Tree const* const url = root.find("database_url");
  Tree const* part = nullptr;
  std::string_view part_name;
  for (auto const name : kParts) {
    auto const* node = root.find(name);
    if (node != nullptr && (part == nullptr || node->layer > part->layer)) {
      part = node;
      part_name = name;
    }
  }
  if (!database.session_database_url.empty()) {
    database.session_database_url = checked(database.session_database_url, root.find("session_database_url")->where,
                                            "session_database_url", problems);
  }
  if (url != nullptr && part != nullptr && url->layer == part->layer) {
    problems.push_back({part->where, std::string(part_name),
                        fmt::format("{} stands beside database_url ({}); keep one of them", part_name, url->where)});
    return;
  }
  if (url != nullptr && (part == nullptr || url->layer > part->layer)) {
    config.url_source = url->where;
    database.database_url = checked(database.database_url, url->where, "database_url", problems);
    if (password_belongs_to(url, root.find("password"))) {
      database.database_url = with_password(database.database_url, config.parts.password);
    }
    return;
  }
  if (part != nullptr) {
    config.url_source = part->where;
    for (auto const* required : {"database", "user"}) {
      if (root.find(required) == nullptr) {
        problems.push_back(
            {part->where, required,
             fmt::format("{} is missing; without database_url both database and user are required", required)});
      }
    }
    database.database_url = from_parts(config.parts);
    return;
  }
  if (auto const* given = variable(sources, "DATABASE_URL")) {
    config.url_source = "DATABASE_URL";
    database.database_url =
        with_password(checked(*given, "DATABASE_URL", "DATABASE_URL", problems), config.parts.password);
    return;
  }
  for (auto const* name : {"PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE", "PGPORT", "PGUSER"}) {
    if (variable(sources, name) == nullptr) continue;
    config.url_source = name;
    database.database_url.clear();
    if (!config.parts.password.empty()) database.database_url = "password=" + libpq_quoted(config.parts.password);
    return;
  }
  if (!sources.running_dev_url) return;
  if (auto const running = sources.running_dev_url()) {
    config.url_source = "the running dev server";
    config.url_from_dev = true;
    database.database_url = *running;
  }
}

}  // namespace posthouse::node
