// SPDX-License-Identifier: Apache-2.0
// One value out of a JSON text, as it stands there: numbers keep all their digits.
//
// Thread safety: pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace posthouse::core {

/// The text of the value at `path`: names of members, indexes of arrays. `json` is valid JSON. Nullopt: there is none.
/// The path's steps are looked for in turn; an empty path is the whole.
std::optional<std::string_view> json_at(std::string_view json, std::vector<std::string> const& path);

/// The text that a JSON string stands for. `json` begins and ends with a quote and is valid.
std::string json_unquoted(std::string_view json);

/// `text`, which is UTF-8, as the inside of a JSON string, without the quotes.
std::string json_escaped(std::string_view text);

}  // namespace posthouse::core
