// SPDX-License-Identifier: Apache-2.0
// See depends.hpp.
#include "store/depends.hpp"

#include <sstream>

namespace posthouse::store {

std::vector<std::int64_t> numbers_in(std::string const& text) {
  std::vector<std::int64_t> numbers;
  std::istringstream words(text);
  for (std::int64_t number = 0; words >> number;) numbers.push_back(number);
  return numbers;
}

std::vector<Awaited> awaited_by(pg::Connection& connection, std::int64_t id, int most) {
  auto const rows = connection.query(
      "select parent, state, kind from " + connection.quoted_schema() + ".waits_for($1, $2::pg_catalog.int4)",
      pg::Params().int8(id).int8(most));
  std::vector<Awaited> list;
  for (int row = 0; row < rows.rows(); ++row) {
    list.push_back({rows.int8(row, 0), rows.text(row, 1), rows.text(row, 2)});
  }
  return list;
}

}  // namespace posthouse::store
