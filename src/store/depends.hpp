// SPDX-License-Identifier: Apache-2.0
// Jobs that wait for other jobs.
//
// Thread safety: as the Connection, one thread at a time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pg/connection.hpp"

namespace posthouse::store {

/// A job that has not ended and that a blocked job waits for.
struct Awaited {
  std::int64_t id = 0;
  std::string state{}, kind{};
};

/// At most `most`, by id.
std::vector<Awaited> awaited_by(pg::Connection& connection, std::int64_t id, int most);

/// Numbers between spaces, as array_to_string(…, ' ') has them.
std::vector<std::int64_t> numbers_in(std::string const& text);

}  // namespace posthouse::store
