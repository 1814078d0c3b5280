// SPDX-License-Identifier: Apache-2.0
// What SQL jobs of both sorts, those of the configuration and those of the broker, are told of themselves.
//
// Thread safety: pure functions.
#pragma once

#include <chrono>
#include <string>

#include <posthouse/job.hpp>

namespace posthouse::node {

/// JSON as it is; raw bytes as bytea reads them; "null" for none.
std::string payload_text(Payload const& payload);

/// What is left until the job's deadline, at least 1 ms; 0: it has none.
std::chrono::milliseconds time_left(Job const& job);

}  // namespace posthouse::node
