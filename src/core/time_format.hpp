// SPDX-License-Identifier: Apache-2.0
// Points in time as RFC 3339 text in UTC, to the microsecond.
//
// Thread safety: pure functions.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

namespace posthouse::core {

/// "2025-11-21T07:58:00.123456Z", always with six decimals.
std::string format_time(std::chrono::system_clock::time_point time);

/// RFC 3339 with any offset, or PostgreSQL's ISO form (a space for the T, "+00"). Throws InvalidArgument naming
/// `argument`: no offset, no such day, infinity, outside 1678 to 2261 (what system_clock holds).
std::chrono::system_clock::time_point parse_time(std::string_view argument, std::string_view text);

}  // namespace posthouse::core
