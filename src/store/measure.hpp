// SPDX-License-Identifier: Apache-2.0
// The gauges of a database: what measure() says.
//
// Thread safety: as the Connection, one thread at a time.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pg/connection.hpp"

namespace posthouse::store {

struct Gauge {
  std::string name{};
  std::optional<std::string> queue{};
  std::optional<std::string> kind{};
  std::optional<std::string> state{};
  double value = 0;
};

/// Counts go up to `most` a lane or table, 1 to 1,000,000.
std::vector<Gauge> measure(pg::Connection& connection, int most = 10'000);

}  // namespace posthouse::store
