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

/// What ends a difference.
enum class Mend {
  upgrade,  ///< `posthouse upgrade`: functions, views and rights of PUBLIC are made anew, missing migrations applied
  install,  ///< there is no schema yet
  hand      ///< tables and what hangs on them, owners, and whatever is not part of this version
};

struct Difference {
  std::string sentence{};
  Mend mend = Mend::hand;
  /// What `create or replace` cannot change, and is to be dropped before: "function fence()", "view jobs".
  std::string drop{};
};

std::vector<Difference> differences(Description const& expected, Description const& found);

/// After differences(), in the same transaction, with the found schema first in the search_path: what has to be dropped and
/// cannot be, since other objects depend on it, keeps an upgrade from mending anything, and is said to be for a hand.
void find_blocked(pg::Connection& connection, std::vector<Difference>& differences);

/// One sentence each.
std::vector<std::string> sentences(std::vector<Difference> const& differences);

/// The description as text for people and for sql/schema.golden.sql; function bodies, which are files of their own,
/// are left out.
std::string to_text(Description const& description);

}  // namespace posthouse::store
