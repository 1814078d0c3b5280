// SPDX-License-Identifier: Apache-2.0
// What a worker and its child processes tell each other about one job, as frames.
//
// `number` counts the jobs of a child, so that what is late is not taken for the next job's.
// Thread safety: pure functions.
#pragma once

#include <cstdint>
#include <posthouse/job.hpp>
#include <string>
#include <string_view>

#include "execute/run.hpp"
#include "isolate/frame.hpp"

namespace posthouse::isolate {

/// What is kept of the texts of a failure; the acknowledgement keeps no more.
inline constexpr std::size_t max_text_bytes = 64 * 1024;

struct Order {
  std::int64_t number = 0;
  Job::Facts facts{};
};

struct Ending {
  std::int64_t number = 0;
  execute::Run run{};
};

/// The deadline goes as it is: the steady clock is the same in all processes of a machine.
std::string encode_order(std::int64_t number, Job::Facts const& facts);
Order decode_order(std::string_view body);  ///< throws BadFrame

std::string encode_ending(std::int64_t number, execute::Run const& run);
Ending decode_ending(std::string_view body);  ///< throws BadFrame

}  // namespace posthouse::isolate
