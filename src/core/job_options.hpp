// SPDX-License-Identifier: Apache-2.0
// The `options` of a job's row: what the hot path needs to know of one job beyond its payload. Most jobs have none.
//
// Thread safety: plain values.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace posthouse::core {

struct JobOptions {
  std::optional<int> max_attempts{};                   ///< unset: the handler's own
  std::optional<std::chrono::milliseconds> timeout{};  ///< unset: the handler's own
  int crashes = 0;                                     ///< times that a worker died while it ran the job
  std::string enqueued_at{};                           ///< when the row was rewritten since; as PostgreSQL wrote it

  bool operator==(JobOptions const&) const = default;
};

/// Empty text is the default; unknown keys are ignored, since a newer version may have written them. Throws
/// InvalidArgument when the text is no JSON object or a key has a value of another type.
JobOptions parse_job_options(std::string_view text);

/// JSON text; empty when all is default.
std::string write_job_options(JobOptions const& options);

}  // namespace posthouse::core
