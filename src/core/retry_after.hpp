// SPDX-License-Identifier: Apache-2.0
// The Retry-After header: a number of seconds or an HTTP date.
//
// Thread safety: a pure function.
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

namespace posthouse::core {

inline constexpr std::chrono::hours longest_retry_after{7 * 24};

/// How long to wait from `now` on: 0 for a date in the past, at most longest_retry_after; nullopt when it is neither a
/// whole number nor one of the three forms of an HTTP date (RFC 9110, 5.6.7).
std::optional<std::chrono::milliseconds> parse_retry_after(std::string_view text,
                                                           std::chrono::system_clock::time_point now);

}  // namespace posthouse::core
