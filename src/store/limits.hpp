// SPDX-License-Identifier: Apache-2.0
// Limits: what workers declare, what operators set, and what is in force.
//
// Thread safety: as the Connection behind it, one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "pg/connection.hpp"

namespace posthouse::store {

struct Limit {
  std::string scope{};  ///< "kind", "queue" or "all"
  std::string name{};   ///< empty for "all"
  std::optional<int> concurrency{};
  std::optional<double> per_second{};
  std::optional<int> burst{};
};

/// One in force.
struct LimitInfo {
  Limit limit{};
  std::string origin{};                   ///< "set" or "declared"
  std::optional<std::string> declared{};  ///< in words
  std::int64_t running = 0;
  std::optional<std::string> tokens{};  ///< jobs that the rate lets start now
};

struct LimitChange {
  std::string scope{}, name{}, before{}, after{};
  bool hidden = false;  ///< an operator has set something else, which counts
};

class Limits {
 public:
  explicit Limits(pg::Connection& connection) noexcept : connection_(connection) {}

  /// Limits without values take an earlier declaration away. Returns what was changed.
  std::vector<LimitChange> declare(std::vector<Limit> const& limits);
  std::vector<LimitInfo> list();
  void set(Limit const& limit);
  /// False: there was nothing.
  bool reset(std::string const& scope, std::string const& name);

 private:
  std::string function(std::string_view name) const { return connection_.quoted_schema() + "." + std::string(name); }
  pg::Connection& connection_;
};

}  // namespace posthouse::store
