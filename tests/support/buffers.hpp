// SPDX-License-Identifier: Apache-2.0
// What a statement costs, in pages: the measure of tests that must not depend on time.
//
// Thread safety: as the session.
#pragma once

#include <cstdint>
#include <string>

#include "support/sql.hpp"

namespace posthouse::test {

/// Buffers that the statement touched, in a transaction that is rolled back. The second run: the first one plans.
inline std::int64_t buffers_of(Sql& sql, std::string const& statement) {
  std::int64_t touched = 0;
  for (int i = 0; i < 2; ++i) {
    touched = 0;
    sql.exec("begin");
    auto const plan = sql.column("explain (analyze, buffers, timing off, summary off, costs off) " + statement);
    sql.exec("rollback");
    for (auto const& line : plan) {
      for (std::string const word : {"hit=", "read="}) {
        if (auto const at = line.find(word); at != std::string::npos)
          touched += std::stoll(line.substr(at + word.size()));
      }
      if (line.find("Buffers:") != std::string::npos) break;
    }
  }
  return touched;
}

}  // namespace posthouse::test
