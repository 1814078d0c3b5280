// SPDX-License-Identifier: Apache-2.0
#include "store/measure.hpp"

#include <cstdlib>

namespace posthouse::store {

std::vector<Gauge> measure(pg::Connection& connection, int most) {
  pg::Result const rows = connection.query(
      "select name, queue, kind, state, value from " + connection.quoted_schema() + ".measure($1::int)",
      pg::Params().int8(most));
  std::vector<Gauge> gauges;
  gauges.reserve(static_cast<std::size_t>(rows.rows()));
  for (int row = 0; row < rows.rows(); ++row) {
    gauges.push_back({.name = rows.text(row, 0),
                      .queue = rows.maybe(row, 1),
                      .kind = rows.maybe(row, 2),
                      .state = rows.maybe(row, 3),
                      .value = std::strtod(rows.text(row, 4).c_str(), nullptr)});
  }
  return gauges;
}

}  // namespace posthouse::store
