// SPDX-License-Identifier: Apache-2.0
// What a schema consists of, read from the server's catalogue, so that two schemas can be compared.
//
// Thread safety: as the Connection behind it, one thread at a time.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "pg/connection.hpp"

namespace posthouse::store {

/// Object ("table job", "column job.id", "function ring(bigint)") → aspect ("definition", "body", …) → value.
using Description = std::map<std::string, std::map<std::string, std::string>>;

/// The query behind describe(); its parameter $1 is the schema's name, which must also be first in the search_path.
std::string_view describe_query() noexcept;

/// Describes a schema inside the open transaction; sets search_path locally. The partitions of `job` are left out,
/// since they come and go.
Description describe(pg::Connection& connection, std::string_view schema);

/// One sentence a difference.
std::vector<std::string> differences(Description const& expected, Description const& found);

/// The description as text for people and for sql/schema.golden.sql; function bodies, which are files of their own,
/// are left out.
std::string to_text(Description const& description);

}  // namespace posthouse::store
