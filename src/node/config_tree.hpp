// SPDX-License-Identifier: Apache-2.0
// YAML or JSON text as a plain tree in which every node knows where it came from.
//
// The only file that names yaml-cpp is config_tree.cpp. Duplicate keys, which yaml-cpp keeps silently, several
// documents, and texts that would grow beyond bounds through aliases are errors here. Thread safety: plain values and
// pure functions.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace posthouse::node {

/// Something wrong with the configuration. All of them are collected and shown together.
struct Problem {
  std::string where{};  ///< "posthouse.yaml:7", "POSTHOUSE_SCHEMA" or "--schema"; may be empty
  std::string key{};    ///< "kinds.mail.timeout"; empty for the text as a whole
  std::string text{};   ///< what is wrong and what is allowed
};

/// Layers in order of precedence.
enum class Layer { none, file, environment, flag };

struct Tree {
  enum class Kind { null, scalar, list, map };
  using Member = std::pair<std::string, Tree>;

  Kind kind = Kind::null;
  std::string text{};             ///< scalar: as written, without quotes
  bool quoted = false;            ///< scalar: it had quotes, so it is a text whatever it looks like
  std::vector<Tree> items{};      ///< list
  std::vector<Member> members{};  ///< map, in order, each key once
  std::string where{};
  Layer layer = Layer::none;

  [[nodiscard]] Tree const* find(std::string_view key) const;
  [[nodiscard]] Tree* find(std::string_view key);
  /// The member; makes a null one at the end when there is none.
  Tree& at(std::string_view key);
  /// The value for messages: a scalar in quotes and shortened, else "a list" or "a mapping".
  [[nodiscard]] std::string shown() const;

  static Tree scalar(std::string text, std::string where, Layer layer);
};

/// `name` is put before the line numbers. A text that cannot be read gives a null tree and one problem.
Tree parse_tree(std::string const& text, std::string const& name, Layer layer, std::vector<Problem>& problems);

/// Reads a file of at most 4 MiB; problems name it.
Tree read_tree(std::string const& path, std::vector<Problem>& problems);

/// The candidate most like `word`, or empty when none is close.
std::string nearest(std::string_view word, std::vector<std::string> const& candidates);

}  // namespace posthouse::node
