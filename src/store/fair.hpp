// SPDX-License-Identifier: Apache-2.0
// Weights of kinds and what their jobs are shared out by: what workers declare, and what is in force.
//
// Thread safety: as the Connection behind it, one thread at a time.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pg/connection.hpp"

namespace posthouse::store {

/// What a worker says of a kind.
struct KindSettings {
  std::string kind{};
  int weight = 1;
  std::string fair_by{};  ///< empty: nothing
};

struct KindChange {
  std::string kind{}, name{}, before{}, after{};
  bool hidden = false;  ///< an operator has set something else, which counts
};

/// One in force.
struct KindSetting {
  std::string kind{}, name{};             ///< name: "weight" or "fair_by"
  std::string origin{};                   ///< "set" or "declared"
  std::optional<std::string> value{};     ///< nullopt: the default
  std::optional<std::string> declared{};  ///< what workers say
  std::optional<std::string> said_by{};   ///< role, or name of a worker
};

class Fair {
 public:
  explicit Fair(pg::Connection& connection) noexcept : connection_(connection) {}

  /// Defaults take an earlier declaration away. Returns what was changed.
  std::vector<KindChange> declare(std::vector<KindSettings> const& kinds, std::string const& said_by);
  std::vector<KindSetting> of(std::string const& kind);

 private:
  pg::Connection& connection_;
};

}  // namespace posthouse::store
