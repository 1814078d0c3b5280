// SPDX-License-Identifier: Apache-2.0
// The last gate before a text goes to the server: what PostgreSQL would refuse half-way is refused here, unsent.
//
// Thread safety: free functions.
#pragma once

#include <string>
#include <string_view>

namespace posthouse::pg {

/// Throws InvalidArgument when the text holds a NUL byte or is not UTF-8.
void check_text(std::string_view text);

/// An SQL identifier in double quotes.
std::string quote_identifier(std::string_view name);

/// An SQL literal; right whatever standard_conforming_strings says.
std::string quote_literal(std::string_view text);

}  // namespace posthouse::pg
