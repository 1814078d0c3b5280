// SPDX-License-Identifier: Apache-2.0
// The `options` of a job's row: what the hot path needs to know of one job beyond its payload. Most jobs have none.
//
// Thread safety: plain values.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace posthouse::core {

struct JobOptions {
  std::optional<int> max_attempts{};                   ///< unset: the handler's own
  std::optional<std::chrono::milliseconds> timeout{};  ///< unset: the handler's own

  std::optional<std::chrono::milliseconds> expires_in{};  ///< from the claim's reply on; unset: never

  std::int64_t child_crashes = 0;  ///< child processes that it has cost

  std::vector<std::int64_t> depends_on{};  ///< what it was to wait for, ended or not

  bool operator==(JobOptions const&) const = default;
};

/// Empty text is the default. Other keys are ignored: SQL keeps its own here (crashes, enqueued_at), and a newer
/// version may add some. Throws InvalidArgument when the text is no JSON object or a key has a value of another type.
JobOptions parse_job_options(std::string_view text);

}  // namespace posthouse::core
