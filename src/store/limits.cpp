// SPDX-License-Identifier: Apache-2.0
// See limits.hpp.
#include "store/limits.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include "store/admin_sql.hpp"
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

void add_name(std::string& json, char const* name) {
  json += json.empty() ? "{\"" : ",\"";
  json += name;
  json += "\":";
}

void add_member(std::string& json, char const* name, auto const& value) {
  if (!value) return;
  add_name(json, name);
  json += maybe_number(*value).value_or("null");
}

}  // namespace

std::vector<LimitChange> Limits::declare(std::vector<Limit> const& limits, std::string const& said_by) {
  std::vector<LimitChange> changes;
  if (limits.empty()) return changes;
  auto const rows = connection_.query(
      "select scope, name, old_value, new_value, hidden from " + function("declare_limits($1::jsonb, $2)"),
      pg::Params().text(json_of(limits)).text(said_by));
  for (int row = 0; row < rows.rows(); ++row) {
    changes.push_back(
        {rows.text(row, 0), rows.text(row, 1), rows.text(row, 2), rows.text(row, 3), rows.field(row, 4) == "t"});
  }
  return changes;
}

std::vector<LimitInfo> Limits::list() {
  auto const rows = connection_.query(
      "select scope, name, origin, concurrency, per_second::float8, burst, declared, running, tokens::text, said_by, " +
      rfc3339("held_until") + " from " + function("limits"));
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
    info.said_by = rows.maybe(row, 9);
    info.held_until = rows.maybe(row, 10);
    list.push_back(std::move(info));
  }
  return list;
}

std::vector<LimitOn> Limits::on(std::int64_t job) {
  auto const rows =
      connection_.query("select o.scope, o.name, o.concurrency, o.running, o.per_second::float8, " +
                            rfc3339("o.free_at") + ", " + rfc3339("o.held_until") +
                            ", (select string_agg(concat_ws(' ', h ->> 'job', h ->> 'worker', h ->> 'since'), ',') "
                            "from pg_catalog.jsonb_array_elements(o.holders) h) from " +
                            function("limits_on($1) o"),
                        pg::Params().int8(job));
  std::vector<LimitOn> list;
  for (int row = 0; row < rows.rows(); ++row) {
    LimitOn one{.scope = rows.text(row, 0), .name = rows.text(row, 1)};
    if (!rows.is_null(row, 2)) one.concurrency = rows.int8(row, 2);
    one.running = rows.int8(row, 3);
    if (!rows.is_null(row, 4)) one.per_second = std::stod(rows.text(row, 4));
    one.free_at = rows.maybe(row, 5);
    one.held_until = rows.maybe(row, 6);
    std::string holders = rows.maybe(row, 7).value_or("");
    for (std::size_t at = 0; at < holders.size();) {
      auto const end = std::min(holders.find(',', at), holders.size());
      auto const first = holders.find(' ', at);
      auto const second = holders.find(' ', first + 1);
      one.holders.push_back({holders.substr(at, first - at), holders.substr(first + 1, second - first - 1),
                             holders.substr(second + 1, end - second - 1)});
      at = end + 1;
    }
    list.push_back(std::move(one));
  }
  return list;
}

void Limits::change(std::string const& scope, std::string const& name, LimitChanges const& changes) {
  std::string json;
  add_member(json, "concurrency", changes.concurrency);
  add_member(json, "per_second", changes.per_second);
  add_member(json, "burst", changes.burst);
  connection_.query("select " + function("change_limit($1, $2, $3::jsonb)"),
                    pg::Params().text(scope).text(name).text(json.empty() ? "{}" : json + "}"));
}

void Limits::change_kind(std::string const& kind, KindChanges const& changes) {
  std::string json;
  add_member(json, "concurrency_limit", changes.of_kind.concurrency);
  add_member(json, "requests_per_second", changes.of_kind.per_second);
  add_member(json, "burst", changes.of_kind.burst);
  add_member(json, "key_limit", changes.key_limit);
  add_member(json, "key_requests_per_second", changes.key_per_second);
  add_member(json, "key_burst", changes.key_burst);
  if (changes.serialized_dispatch) {
    add_name(json, "serialized_dispatch");
    json += *changes.serialized_dispatch ? "true" : "false";
  }
  add_member(json, "weight", changes.weight);
  if (changes.fair_by) {
    add_name(json, "fair_by");
    if (*changes.fair_by) {
      append_json_string(json, **changes.fair_by);
    } else {
      json += "null";
    }
  }
  connection_.query("select " + function("set_kind($1, $2::jsonb)"),
                    pg::Params().text(kind).text(json.empty() ? "{}" : json + "}"));
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

bool Limits::reset_kind(std::string const& kind) {
  return connection_.query("select " + function("reset_kind($1)"), pg::Params().text(kind)).field(0, 0) == "t";
}

}  // namespace posthouse::store
