// SPDX-License-Identifier: Apache-2.0
// status: one screen that says whether all is well.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>

#include "base/terminal.hpp"
#include "cli/command.hpp"
#include "cli/explain.hpp"
#include "cli/print.hpp"
#include "store/admin.hpp"
#include "store/broker_instance.hpp"
#include "store/migrate.hpp"

namespace posthouse::cli {
namespace {

std::string holder_text(store::XminHolder const& holder) {
  auto text = holder.what;
  if (holder.name) text += " " + *holder.name;
  if (holder.pid) text += fmt::format(" of process {}", *holder.pid);
  if (holder.role && !holder.role->empty()) text += ", role " + *holder.role;
  if (holder.application && !holder.application->empty()) text += ", application " + *holder.application;
  if (holder.state && !holder.state->empty()) text += ", " + *holder.state;
  if (holder.open_ms) text += ", open for " + length_of(*holder.open_ms);
  if (holder.xmin_age) text += fmt::format(", {} ago", count_of(*holder.xmin_age, "transaction"));
  return text;
}

std::string leader_text(store::Status const& status) {
  if (!status.leader) return "none: due jobs wait until a worker leads";
  return fmt::format("worker {} ({}), for {}, last renewed {}", *status.leader, status.leader_name.value_or(""),
                     length_of(status.leader_ms.value_or(0)), ago(status.leader_silent_ms));
}

std::string joined(std::vector<std::string> const& names) {
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

std::string broker_text(std::optional<store::BrokerInstance> const& broker) {
  if (!broker) return "none";
  return fmt::format("{} on {}, process {}, {}, {}, since {}", broker->name, broker->host, broker->pid,
                     count_of(broker->queue_count, "numbered queue"), broker->status, broker->started_at);
}

void print_people(std::string const& schema, store::Status const& status, std::vector<store::XminHolder> const& holders,
                  std::optional<store::BrokerInstance> const& broker) {
  auto const line = [](std::string_view name, std::string_view value) {
    print(fmt::format("{:<18}{}\n", name, base::printable(value)));
  };
  line("schema", fmt::format("{}, version {}, by posthouse {}", schema, status.schema_version, status.program_version));
  line("leader", leader_text(status));
  line("workers", status.workers == 0
                      ? std::string("none is alive; `posthouse work` starts one")
                      : fmt::format("{} alive, {}", with_commas(status.workers), count_of(status.slots, "slot")));
  line("broker", broker_text(broker));
  line("running", count_of(status.running, "job"));
  line("available", count_of(status.available, "job") +
                        (status.oldest_available_ms ? ", the oldest waits for " + length_of(std::max<std::int64_t>(
                                                                                      0, *status.oldest_available_ms))
                                                    : std::string()));
  if (status.next_due_ms) {
    line("next due", *status.next_due_ms >= 0 ? "in " + length_of(*status.next_due_ms)
                                              : "overdue for " + length_of(-*status.next_due_ms));
  }
  line("queues paused", joined(status.queues_paused));
  line("kinds paused", joined(status.kinds_paused));
  line("dead, last hour", count_of(status.dead_last_hour, "job"));
  if (holders.empty()) line("old transactions", "none");
  for (auto const& holder : holders) {
    line(&holder == &holders.front() ? "old transactions" : "", holder_text(holder));
  }
}

std::string broker_json(store::BrokerInstance const& broker) {
  return JsonObject()
      .id("id", broker.id)
      .text("name", broker.name)
      .text("host", broker.host)
      .number("pid", broker.pid)
      .text("version", broker.version)
      .number("queue_count", broker.queue_count)
      .text("status", broker.status)
      .text("started_at", broker.started_at)
      .text("last_ping_at", broker.last_ping_at)
      .str();
}

std::string status_json(std::string const& name, std::string const& schema, store::Status const& status,
                        std::vector<store::XminHolder> const& holders,
                        std::optional<store::BrokerInstance> const& broker) {
  std::vector<std::string> list;
  for (auto const& holder : holders) {
    list.push_back(JsonObject()
                       .text("what", holder.what)
                       .text("name", holder.name)
                       .raw("pid", json_number(holder.pid))
                       .text("role", holder.role)
                       .text("application", holder.application)
                       .text("state", holder.state)
                       .text("since", holder.since)
                       .raw("open_ms", json_number(holder.open_ms))
                       .raw("xmin_age", json_number(holder.xmin_age))
                       .str());
  }
  return JsonObject()
      .text("database", name)
      .text("schema", schema)
      .text("schema_version", status.schema_version)
      .text("program_version", status.program_version)
      .id("leader", status.leader)
      .raw("broker", broker ? broker_json(*broker) : "null")
      .text("leader_name", status.leader_name)
      .text("leader_since", status.leader_since)
      .raw("leader_ms", json_number(status.leader_ms))
      .raw("leader_silent_ms", json_number(status.leader_silent_ms))
      .number("workers", status.workers)
      .number("slots", status.slots)
      .number("running", status.running)
      .number("available", status.available)
      .text("oldest_available_at", status.oldest_available_at)
      .raw("oldest_available_ms", json_number(status.oldest_available_ms))
      .raw("next_due_ms", json_number(status.next_due_ms))
      .raw("queues_paused", json_strings(status.queues_paused))
      .raw("kinds_paused", json_strings(status.kinds_paused))
      .number("dead_last_hour", status.dead_last_hour)
      .raw("old_transactions", fmt::format("[{}]", fmt::join(list, ", ")))
      .str();
}

struct Seen {
  std::string schema{};
  store::Status status{};
  std::vector<store::XminHolder> holders{};
  std::optional<store::BrokerInstance> broker{};
};

Seen look(pg::Connection& connection) {
  store::check_version(connection);
  store::Admin admin(connection);
  return {.schema = connection.schema(),
          .status = admin.status(),
          .holders = admin.xmin_holders(),
          .broker = store::BrokerInstances(connection).current()};
}

// One after the other, whatever becomes of the others.
int run_all(node::Config const& config, bool json) {
  int status = node::ExitStatus::done;
  std::vector<std::string> objects;
  for (auto const& one : config.databases) {
    if (!json) print(fmt::format("{}{}\n", &one == &config.databases.front() ? "" : "\n", base::printable(one.name)));
    try {
      auto const seen = look(*pg::Connection::open(one.database));
      if (json) {
        objects.push_back(status_json(one.name, seen.schema, seen.status, seen.holders, seen.broker));
      } else {
        print_people(seen.schema, seen.status, seen.holders, seen.broker);
      }
    } catch (Error const& error) {
      bool const away = error.error_class() == ErrorClass::unavailable;
      if (json) {
        objects.push_back(JsonObject().text("database", one.name).text("problem", error.what()).str());
      } else {
        print(fmt::format("{:<18}{}\n", "problem", base::printable(error.what())));
      }
      if (status != node::ExitStatus::failed) {
        status = away ? node::ExitStatus::unreachable : node::ExitStatus::failed;
      }
    }
  }
  if (json) print(json_array(objects));
  return status;
}

int run(Context const& context, bool json) {
  auto const config = context.config_without_database();
  if (config.databases.size() > 1 && !context.global.database) return run_all(config, json);
  node::require_url(config);
  auto const seen = look(*pg::Connection::open(config.database));
  if (json) {
    print(json_array({status_json(config.name, seen.schema, seen.status, seen.holders, seen.broker)}));
  } else {
    print_people(seen.schema, seen.status, seen.holders, seen.broker);
  }
  return node::ExitStatus::done;
}

}  // namespace

void add_status_command(CLI::App& app, Context& context) {
  auto const json = std::make_shared<bool>(false);
  auto& command = add_command(app, "status", "Say on one screen who works, what waits, what is paused, what is wrong",
                              {"posthouse status", "posthouse status --config broker.yaml",
                               "posthouse status --json | jq '.[0].oldest_available_ms'"});
  command.add_flag("--json", *json, "print an array of one object a database");
  on_run(command, context, [&context, json] { return run(context, *json); });
}

}  // namespace posthouse::cli
