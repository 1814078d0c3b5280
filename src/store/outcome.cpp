// SPDX-License-Identifier: Apache-2.0
#include "store/outcome.hpp"

namespace posthouse::store {

std::vector<JobOutcome> outcomes(pg::Connection& connection, std::span<std::int64_t const> ids) {
  enum Column { id, state, value, value_bytes, problem, error, progress, progress_text };
  auto const rows = connection.prepared(
      "select id, state, result, result_bytes, result_problem, error, (progress * 1e6)::int4, "
      "progress_text from " +
          connection.quoted_schema() + ".outcome(variadic $1)",
      pg::Params().int8_array(ids), pg::Format::binary);
  std::vector<JobOutcome> list;
  list.reserve(static_cast<std::size_t>(rows.rows()));
  for (int row = 0; row < rows.rows(); ++row) {
    JobOutcome outcome;
    outcome.id = rows.binary_int8(row, id);
    outcome.state = rows.text(row, state);
    if (!rows.is_null(row, value)) {
      outcome.result = json{std::string(rows.binary_jsonb(row, value))};
    } else if (!rows.is_null(row, value_bytes)) {
      outcome.result = bytes{rows.binary_bytea(row, value_bytes)};
    }
    outcome.result_problem = rows.maybe(row, problem);
    outcome.error = rows.maybe(row, error);
    if (!rows.is_null(row, progress)) outcome.progress = rows.binary_int4(row, progress) / 1e6;
    outcome.progress_text = rows.text(row, progress_text);
    list.push_back(std::move(outcome));
  }
  return list;
}

}  // namespace posthouse::store
