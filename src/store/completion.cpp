// SPDX-License-Identifier: Apache-2.0
// Finishing a job inside its handler's own transaction.
#include "store/completion.hpp"

#include "pg/text.hpp"

namespace posthouse::store {

namespace {

std::string hex(std::string_view bytes) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string text;
  text.reserve(2 * bytes.size());
  for (char const c : bytes) {
    auto const byte = static_cast<unsigned char>(c);
    text += digits[byte >> 4U];
    text += digits[byte & 15U];
  }
  return text;
}

}  // namespace

bool complete(Transaction const& transaction, std::string const& schema, std::int64_t worker, std::int64_t token,
              int position, std::int64_t job, JobResult const* result) {
  std::vector<std::optional<std::string>> values{std::to_string(worker), std::to_string(token),
                                                 std::to_string(position), std::to_string(job)};
  std::string arguments = "$1::pg_catalog.int8, $2::pg_catalog.int8, $3::pg_catalog.int4, $4::pg_catalog.int8";
  if (result != nullptr) {
    bool const is_json = result->has_value && !result->is_bytes;
    bool const is_bytes = result->has_value && result->is_bytes;
    arguments += ", $5::pg_catalog.jsonb, pg_catalog.decode($6::pg_catalog.text, 'hex'), $7::pg_catalog.text";
    values.push_back(is_json ? std::optional(result->data) : std::nullopt);
    values.push_back(is_bytes ? std::optional(hex(result->data)) : std::nullopt);
    values.push_back(result->problem.empty() ? std::nullopt : std::optional(result->problem));
  }
  auto const rows =
      transaction.executor().query("select " + pg::quote_identifier(schema) +
                                       (result == nullptr ? ".complete(" : ".complete_with(") + arguments + ")",
                                   values);
  return !rows.empty() && !rows.front().empty() && rows.front().front() == "t";
}

}  // namespace posthouse::store
