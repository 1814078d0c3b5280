// SPDX-License-Identifier: Apache-2.0
// What a transaction has enqueued.
#include <posthouse/testing.hpp>

#include "core/headers_json.hpp"
#include "testing/rows.hpp"

namespace posthouse::testing {
namespace {

int nibble(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

}  // namespace

std::string schema_prefix(std::string_view schema) {
  std::string result = "\"";
  for (char const c : schema) {
    if (c == '"') result += '"';
    result += c;
  }
  return result + "\".";
}

Payload payload_from(std::optional<std::string> const& text, std::optional<std::string> const& hex) {
  if (hex) {
    std::string data;
    data.reserve(hex->size() / 2);
    for (std::size_t i = 0; i + 1 < hex->size(); i += 2) {
      data += static_cast<char>(nibble((*hex)[i]) * 16 + nibble((*hex)[i + 1]));
    }
    return bytes{std::move(data)};
  }
  return text ? Payload(json{*text}) : Payload();
}

std::vector<EnqueuedJob> enqueued(Transaction const& transaction, std::string_view kind, std::string_view schema) {
  auto const rows = transaction.executor().query(
      "select id, kind, queue, priority, state, max_attempts, payload::text, encode(payload_bytes, 'hex'), "
      "headers::text, "
      "case when state in ('scheduled', 'retryable') then (extract(epoch from run_at) * 1000000)::bigint end from " +
          schema_prefix(schema) +
          "jobs where kind = $1 and state not in ('succeeded', 'failed', 'cancelled', 'expired') order by id",
      {std::string(kind)});
  std::vector<EnqueuedJob> result;
  result.reserve(rows.size());
  for (auto const& row : rows) {
    EnqueuedJob job;
    job.id = std::stoll(row[0].value());
    job.kind = row[1].value();
    job.queue = row[2].value();
    job.priority = std::stoi(row[3].value());
    job.state = row[4].value();
    job.max_attempts = std::stoi(row[5].value());
    job.payload = payload_from(row[6], row[7]);
    job.headers = core::headers_from_json(row[8].value_or(""));
    if (row[9]) job.run_at.emplace(std::chrono::microseconds(std::stoll(*row[9])));
    result.push_back(std::move(job));
  }
  return result;
}

}  // namespace posthouse::testing
