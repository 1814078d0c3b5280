// SPDX-License-Identifier: Apache-2.0
#include "node/config_tree.hpp"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <numeric>
#include <sstream>

namespace posthouse::node {
namespace {

constexpr std::size_t kMaxBytes = 4 * 1024 * 1024;
constexpr std::size_t kMaxNodes = 100'000;

class Converter {
 public:
  Converter(std::string const& name, Layer layer, std::vector<Problem>& problems)
      : name_(name), layer_(layer), problems_(problems) {}

  Tree convert(YAML::Node const& node, std::string const& path) {
    Tree tree;
    tree.where = where(node.Mark());
    tree.layer = layer_;
    if (++nodes_ > kMaxNodes) {
      if (nodes_ == kMaxNodes + 1) {
        problems_.push_back(
            {tree.where, path, "the configuration has more than 100,000 values; are its aliases meant?"});
      }
      return tree;
    }
    switch (node.Type()) {
      case YAML::NodeType::Scalar:
        tree.kind = Tree::Kind::scalar;
        tree.text = node.Scalar();
        tree.quoted = node.Tag() == "!";
        break;
      case YAML::NodeType::Sequence:
        tree.kind = Tree::Kind::list;
        for (auto const& item : node) {
          tree.items.push_back(convert(item, path + "[" + std::to_string(tree.items.size()) + "]"));
          if (nodes_ > kMaxNodes) break;
        }
        break;
      case YAML::NodeType::Map:
        convert_map(node, path, tree);
        break;
      case YAML::NodeType::Null:
      case YAML::NodeType::Undefined:
        break;
    }
    return tree;
  }

 private:
  std::string where(YAML::Mark const& mark) const {
    return mark.is_null() ? name_ : name_ + ":" + std::to_string(mark.line + 1);
  }

  void convert_map(YAML::Node const& node, std::string const& path, Tree& tree) {
    tree.kind = Tree::Kind::map;
    for (auto const& member : node) {
      auto const at = where(member.first.Mark());
      if (!member.first.IsScalar()) {
        problems_.push_back({at, path, "a key here is a list or a mapping; keys are plain words"});
        continue;
      }
      auto const& key = member.first.Scalar();
      auto const full = path.empty() ? key : path + "." + key;
      if (auto const* before = tree.find(key)) {
        problems_.push_back({at, full, full + " stands twice, first at " + before->where + "; keep one of them"});
        continue;
      }
      auto value = convert(member.second, full);
      // A scalar's line is more useful than its container's, but a key's line is where people look.
      value.where = at;
      tree.members.emplace_back(key, std::move(value));
      if (nodes_ > kMaxNodes) return;
    }
  }

  std::string const& name_;
  Layer layer_;
  std::vector<Problem>& problems_;
  std::size_t nodes_ = 0;
};

std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    auto diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      auto const above = row[j + 1];
      row[j + 1] = std::min({above + 1, row[j] + 1, diagonal + (a[i] == b[j] ? 0U : 1U)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

Tree const* Tree::find(std::string_view key) const {
  auto const found = std::find_if(members.begin(), members.end(), [&](Member const& m) { return m.first == key; });
  return found == members.end() ? nullptr : &found->second;
}

Tree* Tree::find(std::string_view key) { return const_cast<Tree*>(std::as_const(*this).find(key)); }  // NOLINT

Tree& Tree::at(std::string_view key) {
  kind = Kind::map;
  if (auto* found = find(key)) return *found;
  members.emplace_back(std::string(key), Tree{});
  return members.back().second;
}

std::string Tree::shown() const {
  switch (kind) {
    case Kind::null:
      return "nothing";
    case Kind::list:
      return "a list";
    case Kind::map:
      return "a mapping";
    case Kind::scalar:
      break;
  }
  constexpr std::size_t longest = 60;
  if (text.size() <= longest) return "'" + text + "'";
  auto cut = longest;
  while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xC0U) == 0x80U) --cut;
  return "'" + text.substr(0, cut) + "…'";
}

Tree Tree::scalar(std::string text, std::string where, Layer layer) {
  Tree tree;
  tree.kind = Kind::scalar;
  tree.text = std::move(text);
  tree.where = std::move(where);
  tree.layer = layer;
  return tree;
}

Tree parse_tree(std::string const& text, std::string const& name, Layer layer, std::vector<Problem>& problems) {
  try {
    auto const documents = YAML::LoadAll(text);
    if (documents.size() > 1) {
      problems.push_back({name, "", "there are several documents (---) in it; a configuration is one document"});
      return {};
    }
    if (documents.empty()) return {};
    return Converter(name, layer, problems).convert(documents[0], "");
  } catch (YAML::Exception const& error) {
    auto const where = error.mark.is_null() ? name : name + ":" + std::to_string(error.mark.line + 1);
    auto const column = error.mark.is_null() ? "" : " (column " + std::to_string(error.mark.column + 1) + ")";
    problems.push_back({where, "", "cannot be read as YAML or JSON: " + error.msg + column});
    return {};
  }
}

Tree read_tree(std::string const& path, std::vector<Problem>& problems) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text;
  if (file) {
    text.resize(kMaxBytes + 1);
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(file.gcount()));
  }
  if (!file && !file.eof()) {
    problems.push_back({path, "", std::string("cannot be read: ") + std::strerror(errno)});
    return {};
  }
  if (text.size() > kMaxBytes) {
    problems.push_back({path, "", "is larger than 4 MiB, which no configuration is"});
    return {};
  }
  return parse_tree(text, path, Layer::file, problems);
}

std::string nearest(std::string_view word, std::vector<std::string> const& candidates) {
  std::string best;
  auto best_distance = std::max<std::size_t>(1, word.size() / 3) + 1;
  for (auto const& candidate : candidates) {
    auto const d = distance(word, candidate);
    if (d < best_distance) {
      best_distance = d;
      best = candidate;
    }
  }
  return best;
}

}  // namespace posthouse::node
