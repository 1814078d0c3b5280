// SPDX-License-Identifier: Apache-2.0
// From DatabaseOptions to the keywords that libpq connects with, one set a host.
//
// libpq tries several hosts by itself but leaves time-outs to the caller of its asynchronous interface, who cannot
// move it on to the next host; so a list of hosts is taken apart here. Private to src/pg.
// Thread safety: free functions.
#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include <posthouse/options.hpp>

namespace posthouse::pg {

struct Target {
  std::vector<std::pair<std::string, std::string>> keywords{};
  std::string place{};  ///< host and port for messages; never a password
};

/// The keywords as libpq takes them; valid for as long as the target.
struct LibpqArguments {
  explicit LibpqArguments(Target const& target) {
    for (auto const& [name, value] : target.keywords) {
      names.push_back(name.c_str());
      values.push_back(value.c_str());
    }
    names.push_back(nullptr);
    values.push_back(nullptr);
  }
  std::vector<char const*> names{};
  std::vector<char const*> values{};
};

struct ConnectPlan {
  std::vector<Target> targets{};
  std::chrono::milliseconds timeout{5000};  ///< for each target
};

/// Throws InvalidArgument when a URL or an option is not valid, Unavailable when password_file has no password; the
/// message never repeats one.
ConnectPlan plan_connect(DatabaseOptions const& options, std::string const& url);

}  // namespace posthouse::pg
