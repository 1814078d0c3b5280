// SPDX-License-Identifier: Apache-2.0
// The longer statements of admin.cpp. Private to src/store.
//
// Thread safety: pure functions.
#pragma once

#include <string>
#include <string_view>

namespace posthouse::store {

/// Columns of the view `jobs` (as j) in the order that admin.cpp reads them.
std::string const& job_columns();

/// A time as RFC 3339 in UTC, whatever the session's settings.
std::string rfc3339(std::string_view column);

/// Ids of jobs, newest first: $1 kind or null, $2 queue or null, $3 only ids below or null, $4 how many. Everything
/// that may be in the state, cheaply; empty for an unknown state. `schema` is quoted and ends with a dot.
std::string candidates_sql(std::string const& schema, std::string_view state);
std::string candidates_sql(std::string const& schema);

/// $1: ended ones too.
std::string workers_sql(std::string const& schema);

}  // namespace posthouse::store
