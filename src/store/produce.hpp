// SPDX-License-Identifier: Apache-2.0
// Enqueue: one job, many through the function, or many by COPY.
//
// Everything in a NewJob has been checked by the caller; nothing here parses or rewrites a payload.
// Thread safety: as the Connection or Transaction behind it, one thread at a time.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <posthouse/client.hpp>
#include <posthouse/payload.hpp>
#include <posthouse/transaction.hpp>

#include "pg/connection.hpp"

namespace posthouse::store {

/// The views must live as long as the call.
struct NewJob {
  std::string_view kind{};
  std::string_view queue{};
  int priority = 0;
  Payload const* payload = nullptr;
  std::string_view headers{};  ///< JSON object; empty: none
  std::optional<int> max_attempts{};
  std::optional<std::chrono::milliseconds> delay{};
  std::optional<std::chrono::system_clock::time_point> run_at{};
  std::string_view dedupe_key{};  ///< empty: none
  OnDuplicate on_duplicate = OnDuplicate::skip;
  DedupeScope dedupe_scope = DedupeScope::unfinished;
  std::optional<std::chrono::milliseconds> dedupe_window{};
  std::string_view token{};  ///< empty: none
  std::optional<std::chrono::system_clock::time_point> expires_at{};
  std::optional<std::chrono::milliseconds> expires_in{};
  std::optional<std::chrono::milliseconds> timeout{};
  std::string_view key{};  ///< empty: none
  std::span<std::int64_t const> depends_on{};
  std::span<std::size_t const> depends_on_elements{};  ///< only in a JobList
  bool depends_on_all_ok = true;

  [[nodiscard]] bool deferred() const noexcept { return delay.has_value() || run_at.has_value(); }
  [[nodiscard]] bool keyed() const noexcept { return !dedupe_key.empty() || !token.empty(); }
  [[nodiscard]] bool timed() const noexcept { return expires_at || expires_in || timeout; }
  [[nodiscard]] bool dependent() const noexcept { return !depends_on.empty() || !depends_on_elements.empty(); }
  [[nodiscard]] bool special() const noexcept { return keyed() || timed() || !key.empty() || dependent(); }
};

/// Jobs made when they are asked for, so that a million of them need no second list.
struct JobList {
  std::size_t size = 0;
  std::function<NewJob(std::size_t)> at{};
};

/// As SQL has them.
std::string_view name_of(OnDuplicate value);
std::string_view name_of(DedupeScope value);

EnqueueOutcome enqueue(pg::Connection& connection, NewJob const& job);
EnqueueOutcome enqueue(Transaction const& transaction, std::string const& schema, NewJob const& job);

/// All or none, ids in order: through the function, in as few statements as their size allows.
std::vector<EnqueueOutcome> enqueue_many(pg::Connection& connection, JobList const& jobs);
std::vector<EnqueueOutcome> enqueue_many(Transaction const& transaction, std::string const& schema,
                                         JobList const& jobs);

/// The same by COPY under ids reserved beforehand; deferred jobs and those with a key of either sort, a token,
/// an expiry, a timeout or dependencies go through the function in the same transaction; all do when one names another
/// by its index. Joins an open transaction of the connection.
std::vector<EnqueueOutcome> copy_many(pg::Connection& connection, JobList const& jobs);

}  // namespace posthouse::store
