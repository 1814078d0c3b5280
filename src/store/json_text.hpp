// SPDX-License-Identifier: Apache-2.0
// JSON text made by hand, where checked JSON of users goes in as it is and must not be parsed and written again.
//
// Thread safety: pure functions.
#pragma once

#include <string>
#include <string_view>

namespace posthouse::store {

/// Appends `text`, which is UTF-8 without NUL, as a JSON string with its quotes.
void append_json_string(std::string& json, std::string_view text);

/// Appends any bytes as base64 in quotes.
void append_base64_string(std::string& json, std::string_view bytes);

}  // namespace posthouse::store
