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
  std::string scope{};  ///< "kind", "queue", "all"; of a kind also "key", "key_rate", "serialized"
  std::string name{};   ///< empty for "all"
  std::optional<int> concurrency{};
  std::optional<double> per_second{};
  std::optional<int> burst{};
};

/// One in force.
struct LimitInfo {
  Limit limit{};
  std::string origin{};                   ///< "set", "declared" or "held" (a hold alone)
  std::optional<std::string> declared{};  ///< in words
  std::int64_t running = 0;
  std::optional<std::string> tokens{};      ///< jobs that the rate lets start now
  std::optional<std::string> said_by{};     ///< role, or name of a worker
  std::optional<std::string> held_until{};  ///< RFC 3339: by a handler's RetryAfter
};

/// One that counts a certain job.
struct LimitOn {
  std::string scope{}, name{};
  std::optional<std::int64_t> concurrency{};
  std::int64_t running = 0;
  struct Holder {
    std::string job{}, worker{}, since{};
  };
  std::vector<Holder> holders{};  ///< up to five of those that run
  std::optional<double> per_second{};
  std::optional<std::string> free_at{};  ///< the rate is used up until then
  std::optional<std::string> held_until{};
};

/// What a command changes; an outer nullopt leaves it as it is, an inner one takes it away.
struct LimitChanges {
  std::optional<std::optional<int>> concurrency{};
  std::optional<std::optional<double>> per_second{};
  std::optional<std::optional<int>> burst{};
};

/// The same for a kind.
struct KindChanges {
  LimitChanges of_kind{};
  std::optional<std::optional<int>> key_limit{};
  std::optional<std::optional<double>> key_per_second{};
  std::optional<std::optional<int>> key_burst{};
  std::optional<bool> serialized_dispatch{};
  std::optional<std::optional<int>> weight{};
  std::optional<std::optional<std::string>> fair_by{};
};

struct LimitChange {
  std::string scope{}, name{}, before{}, after{};
  bool hidden = false;  ///< an operator has set something else, which counts
};

class Limits {
 public:
  explicit Limits(pg::Connection& connection) noexcept : connection_(connection) {}

  /// Limits without values take an earlier declaration away. Returns what was changed.
  std::vector<LimitChange> declare(std::vector<Limit> const& limits, std::string const& said_by);
  std::vector<LimitInfo> list();
  std::vector<LimitOn> on(std::int64_t job);
  void change(std::string const& scope, std::string const& name, LimitChanges const& changes);
  /// All of it or nothing.
  void change_kind(std::string const& kind, KindChanges const& changes);
  void set(Limit const& limit);
  /// False: there was nothing.
  bool reset(std::string const& scope, std::string const& name);
  /// All that was set of a kind; false: there was nothing.
  bool reset_kind(std::string const& kind);

 private:
  std::string function(std::string_view name) const { return connection_.quoted_schema() + "." + std::string(name); }
  pg::Connection& connection_;
};

}  // namespace posthouse::store
