// SPDX-License-Identifier: Apache-2.0
// The states of jobs, and why a job is not running, in words.
//
// Thread safety: pure functions, but for the clock.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/admin.hpp"
#include "store/depends.hpp"
#include "store/keys.hpp"
#include "store/limits.hpp"

namespace posthouse::cli {

/// Every state, in the order in which a job lives through them.
inline constexpr std::array<std::string_view, 9> job_states{"scheduled", "blocked", "available", "running", "retryable",
                                                            "succeeded", "failed",  "cancelled", "expired"};

/// False when it has ended, or has been silent for longer than its lease and nobody has said so yet.
bool is_alive(store::WorkerInfo const& worker);

/// alive, late (silent for two thirds of its lease), lost (for all of it, or ended by others) or ended.
std::string worker_state(store::WorkerInfo const& worker);

/// The names of a comma-separated list.
std::vector<std::string> names_in(std::string_view names);
bool lists(std::string_view names, std::string_view name);

/// "3s ago"; empty for none.
std::string ago(std::optional<std::int64_t> ms);
/// "paused", and for how long if that is known; empty when it is not paused.
std::string paused_text(bool paused, std::optional<std::string> const& paused_at);
/// A length of time in words, to the second when it is longer than ten.
std::string length_of(std::int64_t ms);

/// What of the database bears on one job.
struct Around {
  std::vector<store::WorkerInfo> workers{};  ///< those that have ended, too
  std::vector<store::QueueInfo> queues{};
  std::vector<store::KindInfo> kinds{};
  std::vector<store::LimitOn> limits{};         ///< that count it
  std::optional<store::KeyInfo> key{};          ///< of an available job
  std::vector<store::KeyHolder> key_holders{};  ///< the first few
  std::vector<store::Awaited> parents{};        ///< of a blocked job: the first few that have not ended
  std::int64_t ahead = 0;                       ///< available jobs of its lane that go first, up to most_ahead
};
inline constexpr int most_ahead = 1'000;

/// Sentences, the most important first.
std::vector<std::string> explain(JobInfo const& job, Around const& around);

}  // namespace posthouse::cli
