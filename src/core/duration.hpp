// SPDX-License-Identifier: Apache-2.0
// Durations as people write them: "250ms", "30s", "5m", "1h", "2d", or a plain number in the unit that the key names.
//
// Thread safety: pure functions.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

namespace posthouse::core {

/// Throws InvalidArgument naming `argument`. Fractions are fine as far as they are whole milliseconds ("1.5s"); the
/// longest is 36,500 days; nothing is negative.
std::chrono::milliseconds parse_duration(std::string_view argument, std::string_view text,
                                         std::chrono::milliseconds plain_unit);

/// The two largest units: "250ms", "1.5s", "3m 20s", "2d 4h".
std::string format_duration(std::chrono::milliseconds duration);

}  // namespace posthouse::core
