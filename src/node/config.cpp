// SPDX-License-Identifier: Apache-2.0
#include "node/config.hpp"

#include <unistd.h>

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

Config load(Sources const& sources) {
  Config config;
  std::vector<Problem> problems;
  auto const root = merged(sources, config, problems);
  apply_tree(root, config, problems);
  resolve_url(root, sources, config, problems);
  if (!problems.empty()) throw ConfigError(std::move(problems));
  return config;
}

}  // namespace posthouse::node
