// SPDX-License-Identifier: Apache-2.0
// The states of jobs, and why a job is not running, in words.
//
// Thread safety: pure functions, but for the clock.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "store/admin.hpp"

namespace posthouse::cli {

/// Every state, in the order in which a job lives through them.
inline constexpr std::array<std::string_view, 9> job_states{"scheduled", "blocked", "available", "running", "retryable",
                                                            "succeeded", "failed",  "cancelled", "expired"};

/// False when it has ended, or has been silent for longer than its lease and nobody has said so yet.
bool is_alive(store::WorkerInfo const& worker);

/// Sentences, the most important first. `workers` includes those that have ended.
std::vector<std::string> explain(JobInfo const& job, std::vector<store::WorkerInfo> const& workers,
                                 std::vector<store::QueueInfo> const& queues);

}  // namespace posthouse::cli
