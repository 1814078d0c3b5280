// SPDX-License-Identifier: Apache-2.0
// Finishing a job inside its handler's own transaction.
#include "store/completion.hpp"

#include "pg/text.hpp"

namespace posthouse::store {

bool complete(Transaction const& transaction, std::string const& schema, std::int64_t worker, std::int64_t token,
              int position, std::int64_t job) {
  auto const rows = transaction.executor().query(
      "select " + pg::quote_identifier(schema) +
          ".complete($1::pg_catalog.int8, $2::pg_catalog.int8, $3::pg_catalog.int4, $4::pg_catalog.int8)",
      {std::to_string(worker), std::to_string(token), std::to_string(position), std::to_string(job)});
  return !rows.empty() && !rows.front().empty() && rows.front().front() == "t";
}

}  // namespace posthouse::store
