// SPDX-License-Identifier: Apache-2.0
#include "node/config.hpp"

#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/terminal.hpp"
#include "node/config_keys.hpp"

namespace posthouse::node {
namespace {

std::string lines(std::vector<Problem> const& problems) {
  std::string text;
  for (auto const& problem : problems) {
    if (!text.empty()) text += '\n';
    if (!problem.where.empty()) text += base::printable(problem.where) + ": ";
    text += base::printable(problem.text);
  }
  return text;
}

}  // namespace

ConfigError::ConfigError(std::vector<Problem> problems)
    : InvalidArgument(lines(problems)), problems_(std::move(problems)) {}

std::vector<std::pair<std::string, std::string>> process_environment() {
  std::vector<std::pair<std::string, std::string>> result;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    std::string_view const text(*entry);
    auto const equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    result.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  return result;
}

std::string config_file(Sources const& sources) {
  if (!sources.file.empty()) return sources.file;
  for (auto const& [name, value] : sources.environment) {
    if (name == "POSTHOUSE_CONFIG" && !value.empty()) return value;
  }
  for (auto const* path : {"posthouse.yaml", "broker.yaml", "/etc/posthouse/posthouse.yaml"}) {
    std::error_code ignored;
    if (std::filesystem::exists(path, ignored)) return path;
  }
  return {};
}

namespace {

/// What commands about one database use: the chosen entry, or the only one.
void choose(Sources const& sources, Config& config, std::vector<Problem>& problems) {
  auto const& all = config.databases;
  Config const* chosen = all.size() == 1 && sources.database.empty() ? &all.front() : nullptr;
  std::string names;
  for (auto const& one : all) {
    names += (names.empty() ? "" : ", ") + one.name;
    if (one.name == sources.database) chosen = &one;
  }
  if (chosen == nullptr && !sources.database.empty()) {
    problems.push_back({"--database", "", "there is no database '" + sources.database + "'; allowed: " + names});
  }
  if (chosen == nullptr) return;
  auto list = std::move(config.databases);
  auto one = *chosen;
  one.databases = std::move(list);
  one.file = config.file;
  one.warnings = config.warnings;
  config = std::move(one);
}

}  // namespace

void fill(Tree const& root, Sources const& sources, Config& config, std::vector<Problem>& problems) {
  apply_tree(root, config, problems);
  if (root.find("databases") != nullptr) {
    choose(sources, config, problems);
  } else {
    resolve_url(root, sources, config, problems);
    config.fingerprint = fingerprint_of(root, config);
    if (!config.url_source.empty()) {
      auto one = config;
      config.databases.push_back(std::move(one));
    }
    if (!sources.database.empty() && sources.database != config.name) {
      problems.push_back({"--database", "", "there is no database '" + sources.database + "'; allowed: default"});
    }
  }
  // What stands outside of `databases` is wrong once, however many entries it is wrong for.
  std::vector<Problem> once;
  for (auto& problem : problems) {
    auto const same = [&](Problem const& p) { return p.where == problem.where && p.text == problem.text; };
    if (std::none_of(once.begin(), once.end(), same)) once.push_back(std::move(problem));
  }
  problems = std::move(once);
}

int processes_of(Config const& config) {
  return config.processes.value_or(config.isolated.value_or(false) ? config.concurrency : 0);
}

int sql_connections_of(Config const& config) {
  bool const any =
      std::any_of(config.kinds.begin(), config.kinds.end(), [](auto const& kind) { return !kind.second.sql.empty(); });
  if (!any) return 0;
  int const most =
      config.pool.said() ? config.pool.open() : config.worker_pool_size + config.worker_max_overflow - own_connections;
  return std::clamp(most, 1, config.concurrency);
}

PoolOptions producers_pool(Config const& config) {
  auto const& said = config.pool;
  // With the defaults of a pool, not with those of the daemon's SQL jobs.
  PoolOptions options{.database = config.database, .name = config.name};
  int const size = said.pool_size.value_or(said.max_idle_conns.value_or(options.pool_size));
  options.pool_size = std::max(1, said.max_open_conns ? std::min(size, *said.max_open_conns) : size);
  options.max_overflow = said.max_open_conns ? std::max(0, *said.max_open_conns - options.pool_size)
                                             : said.max_overflow.value_or(options.max_overflow);
  options.pool_timeout = said.timeout;
  options.pool_pre_ping = said.pre_ping;
  options.pool_recycle = said.pool_recycle ? *said.pool_recycle : said.conn_max_lifetime.value_or(options.pool_recycle);
  options.pool_idle_timeout =
      said.pool_idle_timeout ? *said.pool_idle_timeout : said.conn_max_idle_time.value_or(options.pool_idle_timeout);
  options.echo = said.echo;
  return options;
}

Config load(Sources const& sources) {
  Config config;
  std::vector<Problem> problems;
  auto const root = merged(sources, config, problems);
  fill(root, sources, config, problems);
  if (!problems.empty()) throw ConfigError(std::move(problems));
  return config;
}

}  // namespace posthouse::node
