// SPDX-License-Identifier: Apache-2.0
// See limits.hpp.
#include "store/limits.hpp"

#include <array>
#include <charconv>

#include "store/json_text.hpp"

namespace posthouse::store {
namespace {

std::string number(double value) {
  std::array<char, 64> text{};
  auto const [end, code] = std::to_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  return {text.data(), code == std::errc{} ? end : text.data()};
}

std::optional<std::string> maybe_number(std::optional<double> const& value) {
  if (!value) return std::nullopt;
  return number(*value);
}

std::optional<std::string> maybe_number(std::optional<int> const& value) {
  if (!value) return std::nullopt;
  return std::to_string(*value);
}

std::string json_of(std::vector<Limit> const& limits) {
  std::string json = "[";
  for (auto const& limit : limits) {
    json += json.size() > 1 ? ",{\"scope\":" : "{\"scope\":";
    append_json_string(json, limit.scope);
    json += ",\"name\":";
    append_json_string(json, limit.name);
    json += ",\"concurrency\":" + maybe_number(limit.concurrency).value_or("null") +
            ",\"per_second\":" + maybe_number(limit.per_second).value_or("null") +
            ",\"burst\":" + maybe_number(limit.burst).value_or("null") + "}";
  }
  return json + "]";
}

}  // namespace

std::vector<LimitChange> Limits::declare(std::vector<Limit> const& limits) {
  std::vector<LimitChange> changes;
  if (limits.empty()) return changes;
  auto const rows = connection_.query(
      "select scope, name, old_value, new_value, hidden from " + function("declare_limits($1::jsonb)"),
      pg::Params().text(json_of(limits)));
  for (int row = 0; row < rows.rows(); ++row) {
    changes.push_back(
        {rows.text(row, 0), rows.text(row, 1), rows.text(row, 2), rows.text(row, 3), rows.field(row, 4) == "t"});
  }
  return changes;
}

std::vector<LimitInfo> Limits::list() {
  auto const rows = connection_.query(
      "select scope, name, origin, concurrency, per_second::float8, burst, declared, running, tokens::text from " +
      function("limits"));
  std::vector<LimitInfo> list;
  for (int row = 0; row < rows.rows(); ++row) {
    LimitInfo info;
    info.limit.scope = rows.text(row, 0);
    info.limit.name = rows.text(row, 1);
    info.origin = rows.text(row, 2);
    if (!rows.is_null(row, 3)) info.limit.concurrency = static_cast<int>(rows.int8(row, 3));
    if (!rows.is_null(row, 4)) info.limit.per_second = std::stod(rows.text(row, 4));
    if (!rows.is_null(row, 5)) info.limit.burst = static_cast<int>(rows.int8(row, 5));
    info.declared = rows.maybe(row, 6);
    info.running = rows.int8(row, 7);
    info.tokens = rows.maybe(row, 8);
    list.push_back(std::move(info));
  }
  return list;
}

void Limits::set(Limit const& limit) {
  connection_.query("select " + function("set_limit($1, $2, $3::int, $4::numeric, $5::int)"),
                    pg::Params()
                        .text(limit.scope)
                        .text(limit.name)
                        .text(maybe_number(limit.concurrency))
                        .text(maybe_number(limit.per_second))
                        .text(maybe_number(limit.burst)));
}

bool Limits::reset(std::string const& scope, std::string const& name) {
  return connection_.query("select " + function("reset_limit($1, $2)"), pg::Params().text(scope).text(name))
             .field(0, 0) == "t";
}

}  // namespace posthouse::store
