// SPDX-License-Identifier: Apache-2.0
// Environment variables and flags, laid over the file.
#include <algorithm>
#include <charconv>
#include <iterator>

#include "node/config_keys.hpp"

namespace posthouse::node {
namespace {

constexpr std::string_view kPrefix = "POSTHOUSE_";

/// Facts of a job, and variables of the tests, the dev server and the benchmark: not configuration.
bool is_for_others(std::string_view rest) {
  constexpr std::string_view prefixes[] = {"JOB_", "TEST_", "DEV_", "PG_", "BENCH_"};
  return std::any_of(std::begin(prefixes), std::end(prefixes), [&](auto prefix) { return rest.starts_with(prefix); });
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
char variable_char(char c) {
  if (c >= 'a' && c <= 'z') return static_cast<char>(c - 'a' + 'A');
  return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ? c : '_';
}

std::vector<std::string> split(std::string_view text, std::string_view separator) {
  std::vector<std::string> parts;
  for (;;) {
    auto const at = text.find(separator);
    parts.emplace_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + separator.size());
  }
}

std::string lowered(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), lower);
  return text;
}

std::string as_variable(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), variable_char);
  return text;
}

/// Where a variable's value goes: the key's names from the root on, and the key itself when it is known.
struct Target {
  std::vector<std::string> names{};
  Key const* key = nullptr;
  bool known = false;
};

Target find_target(Tree const& root, std::vector<std::string> const& segments) {
  Target target;
  std::string pattern;
  Tree const* node = &root;
  for (auto const& segment : segments) {
    auto name = lowered(segment);
    if (target.key != nullptr) {
      if (!target.key->structured) return {};
    } else if (target.names.empty() && name == "databases") {
      target.names.push_back(name);
      node = root.find(name);
      continue;
    } else if (target.names.size() == 1 && target.names[0] == "databases") {
      // By its name as it looks in a variable, else by its index.
      for (std::size_t i = 0; node != nullptr && i < node->items.size(); ++i) {
        auto const* const given = node->items[i].find("name");
        if (given != nullptr && as_variable(given->text) == segment) name = std::to_string(i);
      }
      target.names.push_back(name);
      std::size_t index = 0;
      auto const [end, code] = std::from_chars(name.data(), name.data() + name.size(), index);
      if (code != std::errc{} || end != name.data() + name.size()) return {};
      node = node != nullptr && index < node->items.size() ? &node->items[index] : nullptr;
      continue;
    } else if (pattern == "kinds" || pattern == "queues" || pattern == "schedules" || pattern == "run_as") {
      // A kind, queue, schedule or role of the file by its name as it looks in a variable; else a new one in small letters.
      for (auto const& [member, value] : node == nullptr ? std::vector<Tree::Member>{} : node->members) {
        if (as_variable(member) == segment) name = member;
      }
      pattern += ".*";
    } else {
      pattern += (pattern.empty() ? "" : ".") + name;
    }
    target.names.push_back(name);
    node = node == nullptr ? nullptr : node->find(name);
    if (target.key == nullptr) {
      if (target.names.size() == 3 && target.names[0] == "databases" && name == "name") {
        target.known = segments.size() == 3;
        return target;
      }
      auto const all = keys();
      auto const found = std::find_if(all.begin(), all.end(), [&](Key const& k) { return k.path == pattern; });
      if (found != all.end()) target.key = &*found;
    }
    // A later version's key: put it in, so that it is refused like one in the file.
    auto const later = later_keys();
    if (std::find(later.begin(), later.end(), pattern) != later.end()) {
      target.known = true;
      return target;
    }
  }
  target.known = target.key != nullptr;
  return target;
}

Tree value_tree(Key const* key, std::string const& text, std::string const& where, Layer layer,
                std::vector<Problem>& problems) {
  auto const first = text.find_first_not_of(" \t\n");
  bool const looks_structured = first != std::string::npos && (text[first] == '[' || text[first] == '{');
  if (key != nullptr && key->structured && looks_structured) return parse_tree(text, where, layer, problems);
  return Tree::scalar(text, where, layer);
}

/// Lists are entered by index, from 0, at most one beyond their end.
Tree* list_item(Tree& list, std::string const& name) {
  std::size_t index = 0;
  auto const [end, code] = std::from_chars(name.data(), name.data() + name.size(), index);
  if (code != std::errc{} || end != name.data() + name.size() || index > list.items.size()) return nullptr;
  if (index == list.items.size()) list.items.emplace_back();
  return &list.items[index];
}

/// False when something on the way is neither a mapping nor a list with such an index.
bool put(Tree& root, std::vector<std::string> const& names, Tree value) {
  Tree* node = &root;
  for (auto const& name : names) {
    if (node->where.empty()) {
      node->where = value.where;
      node->layer = value.layer;
    }
    bool const number =
        !name.empty() && std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (node->kind == Tree::Kind::null && number && node != &root) node->kind = Tree::Kind::list;
    if (node->kind == Tree::Kind::list) {
      node = list_item(*node, name);
      if (node == nullptr) return false;
    } else if (node->kind == Tree::Kind::null || node->kind == Tree::Kind::map) {
      node = &node->at(name);
    } else {
      return false;
    }
  }
  *node = std::move(value);
  return true;
}

std::vector<std::string> all_variables() {
  std::vector<std::string> names{"POSTHOUSE_CONFIG"};
  for (auto const& key : keys()) {
    if (key.path.find('*') != std::string_view::npos) continue;
    std::string name(kPrefix);
    for (auto const& part : split(key.path, "."))
      name += (name.size() > kPrefix.size() ? "__" : "") + as_variable(part);
    names.push_back(std::move(name));
  }
  return names;
}

}  // namespace

void merge_environment(Tree& root, std::vector<std::pair<std::string, std::string>> const& environment,
                       std::vector<std::string>& warnings, std::vector<Problem>& problems) {
  for (auto const& [name, value] : environment) {
    if (!name.starts_with(kPrefix) || value.empty()) continue;
    auto const rest = std::string_view(name).substr(kPrefix.size());
    if (rest == "CONFIG" || is_for_others(rest)) continue;
    auto const target = find_target(root, split(rest, "__"));
    if (!target.known || as_variable(name) != name) {
      auto const close = nearest(name, all_variables());
      warnings.push_back("the environment variable " + name + " is not one of posthouse" +
                         (close.empty() ? "" : "; did you mean " + close + "?"));
      continue;
    }
    if (!put(root, target.names, value_tree(target.key, value, name, Layer::environment, problems))) {
      problems.push_back({name, "",
                          name + " cannot be put into the configuration: a list is entered by the index of "
                                 "an entry, from 0, and only lists and mappings have entries"});
    }
  }
}

Tree merged(Sources const& sources, Config& config, std::vector<Problem>& problems) {
  config.file = config_file(sources);
  auto root = config.file.empty() ? Tree{} : read_tree(config.file, problems);
  if (root.kind != Tree::Kind::map && root.kind != Tree::Kind::null) return root;
  expand_variables(root, sources.environment, problems);
  merge_environment(root, sources.environment, config.warnings, problems);
  for (auto const& flag : sources.flags) {
    put(root, split(flag.key, "."), Tree::scalar(flag.value, flag.flag, Layer::flag));
  }
  return root;
}

}  // namespace posthouse::node
