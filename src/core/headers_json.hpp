// SPDX-License-Identifier: Apache-2.0
// A job's headers between the map that users see and the JSON object that is stored.
//
// Thread safety: pure functions.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>

namespace posthouse::core {

/// As jsonb stores them: eight bytes, and for each header its name, its value and eight more. The server counts so too,
/// and what it refuses would abort the caller's transaction.
inline constexpr std::size_t max_headers_bytes = 16 * 1024;

/// Throws InvalidArgument: an empty name, NUL or invalid UTF-8, more than max_headers_bytes.
std::string headers_to_json(std::map<std::string, std::string> const& headers);

/// Values that are no strings (SQL may store any JSON) become their compact JSON text with all digits. Empty text is an
/// empty map; anything but an object throws InvalidArgument.
std::map<std::string, std::string> headers_from_json(std::string_view text);

}  // namespace posthouse::core
