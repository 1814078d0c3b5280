// SPDX-License-Identifier: Apache-2.0
// Text that goes into the database: PostgreSQL takes valid UTF-8 without NUL and refuses everything else.
//
// Thread safety: pure functions.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace posthouse::core {

bool is_valid_utf8(std::string_view text) noexcept;

/// Throws InvalidArgument with the position when `value` has a NUL byte or is not UTF-8.
void check_text(std::string_view argument, std::string_view value);

/// The longest start of `text` that has at most `max_bytes` and ends between two characters.
std::string_view truncate_utf8(std::string_view text, std::size_t max_bytes) noexcept;

/// `text` made storable: NUL bytes dropped, invalid bytes replaced by U+FFFD, at most `max_bytes` long. For error
/// messages of handlers and programs, which must be kept whatever is in them.
std::string sanitise(std::string_view text, std::size_t max_bytes);

}  // namespace posthouse::core
