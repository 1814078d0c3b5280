// SPDX-License-Identifier: Apache-2.0
// See declare_schedules.hpp.
#include "node/declare_schedules.hpp"

#include "store/json_text.hpp"
#include "store/migrate.hpp"
#include "store/schedules.hpp"

namespace posthouse::node {

namespace {

std::string list_of(Config const& config) {
  std::string list = "[";
  for (auto const& [name, schedule] : config.schedules) {
    list += list.size() > 1 ? ", {\"name\": " : "{\"name\": ";
    store::append_json_string(list, name);
    for (auto const& [argument, json] : schedule.arguments) list += ", \"" + argument + "\": " + json;
    list += "}";
  }
  return list + "]";
}

}  // namespace

void verify_schedules(Config const& config, pg::Connection& connection) {
  if (config.application.empty()) return;
  store::check_version(connection);
  std::vector<Problem> problems;
  for (auto const& found : store::ScheduleBook(connection).problems(config.application, list_of(config))) {
    auto entry = config.schedules.begin();
    std::advance(entry, static_cast<std::ptrdiff_t>(found.index));
    auto const full = "schedules." + entry->first;
    problems.push_back(
        {entry->second.where, full, full + ": " + found.problem + (found.hint.empty() ? "" : "; " + found.hint)});
  }
  if (!problems.empty()) throw ConfigError(std::move(problems));
}

void declare_schedules(Config const& config, base::Log const& log) {
  if (config.application.empty()) return;
  auto const connection = pg::Connection::open(config.database);
  verify_schedules(config, *connection);
  auto const made = store::ScheduleBook(*connection).declare(config.application, list_of(config));
  if (made.added + made.changed + made.removed == 0) return;
  log.info("schedules declared", {{"application", config.application},
                                  {"added", std::to_string(made.added)},
                                  {"changed", std::to_string(made.changed)},
                                  {"removed", std::to_string(made.removed)},
                                  {"unchanged", std::to_string(made.unchanged)}});
}

}  // namespace posthouse::node
