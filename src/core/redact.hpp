// SPDX-License-Identifier: Apache-2.0
// SQL for a log: what it does, without the values in it.
//
// Thread safety: a pure function.
#pragma once

#include <string>
#include <string_view>

namespace posthouse::core {

/// Literals (texts, dollar-quoted texts, numbers) become "?", comments go, names and $1 stay; white space becomes one
/// blank. At most `most` bytes, then "…".
std::string redact_sql(std::string_view sql, std::size_t most = 2000);

}  // namespace posthouse::core
