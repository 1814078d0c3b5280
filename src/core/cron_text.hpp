// SPDX-License-Identifier: Apache-2.0
// The form of a cron text, for errors before there is a server to ask. What a text means is the server's to say
// (cron_masks in sql/functions); a test compares the two.
//
// Thread safety: pure functions.
#pragma once

#include <string_view>

namespace posthouse::core {

/// Throws InvalidArgument naming `argument`: not five or six fields nor @daily and the like, a value out of range, a
/// step without a range, a day that none of its months has.
void check_cron(std::string_view argument, std::string_view text);

}  // namespace posthouse::core
