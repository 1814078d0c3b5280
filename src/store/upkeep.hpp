// SPDX-License-Identifier: Apache-2.0
// What the leader asks of the database about once a minute: partitions ahead, old ones away, retention.
//
// Needs a real session (not a transaction pooler): it sets lock_timeout and detaches concurrently.
// Thread safety: as the Connection behind it, one thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "pg/connection.hpp"

namespace posthouse::store {

struct Retention {
  std::optional<std::chrono::milliseconds> succeeded{};  ///< nullopt: as it is in the database (default 1 day)
  std::optional<std::chrono::milliseconds> dead{};       ///< nullopt: as it is in the database (default 30 days)
  std::optional<std::chrono::milliseconds> results{};    ///< nullopt: as it is in the database (default 1 day)
};

class Upkeep {
 public:
  explicit Upkeep(pg::Connection& connection) noexcept : connection_(connection) {}

  void keep(Retention const& retention);
  /// Partitions made; -1 when a lock was busy and the next round must try again.
  int rotate_ahead();
  std::vector<std::string> droppable();              ///< partitions past retention with nothing unfinished
  std::vector<std::string> detaching();              ///< detached half-way by a round that was interrupted
  std::vector<std::string> detached();               ///< detached and not dropped yet
  bool detach(std::string const& partition);         ///< false: somebody still uses it
  bool finish_detach(std::string const& partition);  ///< false: somebody still uses it
  bool drop_detached(std::string const& partition);
  std::vector<std::string> unfrozen();
  void freeze(std::string const& partition);
  std::int64_t prune(int limit);

 private:
  std::vector<std::string> names(std::string const& sql);
  bool alter(std::string const& sql);
  std::string table(std::string const& name) const;
  pg::Connection& connection_;
};

}  // namespace posthouse::store
