// SPDX-License-Identifier: Apache-2.0
// Finds what the server would refuse in a payload before it is sent, so that the caller's transaction survives.
//
// Thread safety: pure functions.
#pragma once

#include <cstddef>
#include <posthouse/payload.hpp>
#include <string_view>

namespace posthouse::core {

/// Deepest nesting of arrays and objects in a JSON payload.
inline constexpr std::size_t max_json_depth = 128;

/// Throws InvalidArgument when the payload has more than `max_bytes` or is JSON that jsonb cannot hold: malformed,
/// invalid UTF-8, \u0000, half a surrogate pair, deeper than max_json_depth, a number beyond numeric's range.
void check_payload(Payload const& payload, std::size_t max_bytes);

/// The JSON part alone; `argument` names the text in the message.
void check_json(std::string_view argument, std::string_view text);

}  // namespace posthouse::core
