// SPDX-License-Identifier: Apache-2.0
// The one list of configuration keys: what each takes, its default, what it means, and where it goes.
//
// Reading, checking, showing, the example and the names of environment variables all come from this list.
// Thread safety: pure functions over constant data.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "node/config.hpp"

namespace posthouse::node {

struct Key {
  /// "logging.level"; a `*` stands for any name: "kinds.*.timeout".
  std::string_view path{};
  std::string_view fallback{};  ///< default as people would write it; empty: none
  std::string_view meaning{};   ///< unit and range included
  std::string_view sample{};    ///< for the example, as YAML; empty: the default
  bool secret = false;
  bool structured = false;  ///< takes a list or a mapping too: its environment variable is read as YAML
  /// Throws InvalidArgument. `name` is what the `*` stands for, `argument` the whole key for messages.
  void (*apply)(Config& config, std::string const& name, std::string const& argument, Tree const& value) = nullptr;
};

std::span<Key const> keys();

/// The share of `schedules`, and what they must say together.
std::span<Key const> schedule_keys();
void check_schedules(Tree const& root, Config& config, std::vector<Problem>& problems);

/// The share of `start`: queues, pools, broker, run_as.
std::span<Key const> broker_keys();
void check_broker(Tree const& root, Config const& config, std::vector<Problem>& problems);

/// One entry of `databases` laid over what stands outside of the list.
Tree entry_over(Tree const& outside, Tree const& entry);
/// Changes with anything that the tree says, and with secrets that it names files for.
std::string fingerprint_of(Tree const& root, Config const& config);
/// Reads `databases` into config.databases; `outside` is everything else, already in `config`.
void apply_databases(Tree const& list, Tree const& outside, Config& config, std::vector<Problem>& problems);
/// The walk of apply_tree alone. `path` is put before each key in messages.
void walk_tree(Tree const& tree, std::string const& path, Config& config, std::vector<Problem>& problems);
void check_tree(Tree const& root, Config& config, std::vector<Problem>& problems);

/// Puts the environment's values for ${NAME} into a file's texts; $${ stands for ${. Programs and statements are left
/// as they are, since shells have a meaning for it.
void expand_variables(Tree& root, std::vector<std::pair<std::string, std::string>> const& environment,
                      std::vector<Problem>& problems);

/// The shares of `kinds.NAME.http` and `http`.
std::span<Key const> http_keys();
void check_http(Tree const& root, Config& config, std::vector<Problem>& problems);

/// A node as JSON. Without quotes, true, false, null and numbers are what they are in YAML.
std::string json_of(Tree const& value);

/// Documented for later versions; refused by this one instead of being ignored.
std::span<std::string_view const> later_keys();

/// All layers in one tree: file, then environment, then flags over it. Unknown variables become warnings.
Tree merged(Sources const& sources, Config& config, std::vector<Problem>& problems);

/// Walks the tree, fills `config` and collects what is wrong.
void apply_tree(Tree const& root, Config& config, std::vector<Problem>& problems);

/// All of it: the walk, the list of databases, URLs; the one that commands use; each problem once.
void fill(Tree const& root, Sources const& sources, Config& config, std::vector<Problem>& problems);

/// Puts POSTHOUSE_… variables into the tree. Names that mean nothing become warnings.
void merge_environment(Tree& root, std::vector<std::pair<std::string, std::string>> const& environment,
                       std::vector<std::string>& warnings, std::vector<Problem>& problems);

/// Fills database.database_url and url_source from what the layers say.
void resolve_url(Tree const& root, Sources const& sources, Config& config, std::vector<Problem>& problems);
/// The same for one entry of `databases`, where nothing but the configuration counts.
void resolve_entry_url(Tree const& root, std::string const& path, Config& config, std::vector<Problem>& problems);

}  // namespace posthouse::node
