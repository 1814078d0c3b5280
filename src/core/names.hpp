// SPDX-License-Identifier: Apache-2.0
// Names of kinds, queues and schemas, dedupe keys and tokens. Each check throws InvalidArgument.
//
// Thread safety: pure functions.
#pragma once

#include <string_view>

namespace posthouse::core {

/// [A-Za-z0-9][A-Za-z0-9_.:/-]{0,99}, also for queues.
void check_name(std::string_view argument, std::string_view name);
void check_kind(std::string_view kind);
void check_queue(std::string_view queue);
/// 1 to 512 bytes of UTF-8 without NUL.
void check_dedupe_key(std::string_view key);
void check_key(std::string_view key);
/// A UUID in its usual form of 36 characters.
void check_token(std::string_view token);
/// 1 to 48 bytes of UTF-8 without NUL, not one of PostgreSQL's own (pg_…).
void check_schema(std::string_view schema);

/// "key" or "header:NAME".
void check_fair_by(std::string_view argument, std::string_view value);

}  // namespace posthouse::core
