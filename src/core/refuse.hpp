// SPDX-License-Identifier: Apache-2.0
// The one form of every "bad input" error: which argument, what value, what is allowed, what to do.
//
// Thread safety: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace posthouse::core {

/// `value` in quotes for an error message: safe to print, shortened.
std::string shown(std::string_view value);

/// Throws InvalidArgument: `argument is "value"; allowed: …`, with `mend` as the hint. `problem` replaces the value
/// where that is secret or too long to help.
[[noreturn]] void refuse(std::string_view argument, std::string_view value, std::string_view allowed,
                         std::string_view mend);
[[noreturn]] void refuse_because(std::string_view argument, std::string_view problem, std::string_view allowed,
                                 std::string_view mend);

/// Throws InvalidArgument unless least <= value <= most. `unit` as "ms" or "bytes".
void check_range(std::string_view argument, std::int64_t value, std::int64_t least, std::int64_t most,
                 std::string_view unit = {});

}  // namespace posthouse::core
