// SPDX-License-Identifier: Apache-2.0
// See fair.hpp.
#include "store/fair.hpp"

#include "store/json_text.hpp"

namespace posthouse::store {

std::vector<KindChange> Fair::declare(std::vector<KindSettings> const& kinds, std::string const& said_by) {
  std::vector<KindChange> changes;
  if (kinds.empty()) return changes;
  std::string json = "[";
  for (auto const& kind : kinds) {
    json += json.size() > 1 ? ",{\"kind\":" : "{\"kind\":";
    append_json_string(json, kind.kind);
    json += ",\"weight\":" + std::to_string(kind.weight);
    if (!kind.fair_by.empty()) append_json_string(json += ",\"fair_by\":", kind.fair_by);
    json += '}';
  }
  auto const rows = connection_.query("select kind, name, old_value, new_value, hidden from " +
                                          connection_.quoted_schema() + ".declare_kinds($1::jsonb, $2)",
                                      pg::Params().text(json += ']').text(said_by));
  for (int row = 0; row < rows.rows(); ++row) {
    changes.push_back(
        {rows.text(row, 0), rows.text(row, 1), rows.text(row, 2), rows.text(row, 3), rows.field(row, 4) == "t"});
  }
  return changes;
}

std::vector<KindSetting> Fair::of(std::string const& kind) {
  auto const rows = connection_.query("select kind, name, origin, value, declared, said_by from " +
                                          connection_.quoted_schema() + ".kind_settings where kind = $1",
                                      pg::Params().text(kind));
  std::vector<KindSetting> settings;
  for (int row = 0; row < rows.rows(); ++row) {
    settings.push_back({rows.text(row, 0), rows.text(row, 1), rows.text(row, 2), rows.maybe(row, 3), rows.maybe(row, 4),
                        rows.maybe(row, 5)});
  }
  return settings;
}

}  // namespace posthouse::store
