// SPDX-License-Identifier: Apache-2.0
// Keys of jobs: which are busy, pausing them, and what a job that waits for its key waits for.
//
// Thread safety: as the Connection behind it, one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "pg/connection.hpp"

namespace posthouse::store {

/// A job that has a key: it runs, is about to, or waits for its next attempt.
struct KeyHolder {
  std::int64_t id = 0;
  std::string state{};
  std::optional<std::int64_t> worker{};
};

struct KeyInfo {
  std::string kind{}, key{};
  bool paused = false;
  std::optional<std::int64_t> limit{};  ///< jobs at once; none: any number
  std::vector<std::int64_t> holders{};
  std::int64_t parked = 0;  ///< of a job: those that go before it
  std::optional<std::string> since{};
  std::optional<std::string> paused_at{};
  std::optional<std::string> held_until{};  ///< by a handler's RetryAfter
  std::optional<std::string> free_at{};     ///< when hold and rate let the next one start; none: now
  std::optional<std::string> per_second{};  ///< of a job: the rate of its key
};

class Keys {
 public:
  explicit Keys(pg::Connection& connection) noexcept : connection_(connection) {}

  /// Busy, paused or waited for; those with the most jobs parked first. An empty kind: of all.
  std::vector<KeyInfo> list(std::string const& kind, int most);
  void pause(std::string const& kind, std::string const& key);
  void resume(std::string const& kind, std::string const& key);
  /// What an available job waits for on account of its key; nothing when it has none.
  std::optional<KeyInfo> of_job(std::int64_t id);
  std::vector<KeyHolder> holders(std::vector<std::int64_t> const& ids);

 private:
  std::string function(std::string_view name) const { return connection_.quoted_schema() + "." + std::string(name); }
  pg::Connection& connection_;
};

}  // namespace posthouse::store
