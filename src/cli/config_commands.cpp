// SPDX-License-Identifier: Apache-2.0
// config check, show, example. None of them needs a database.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "base/terminal.hpp"
#include "cli/command.hpp"
#include "cli/print.hpp"
#include "core/database_url.hpp"
#include "node/declare_schedules.hpp"
#include "pg/connection.hpp"

namespace posthouse::cli {
namespace {

int check(Context const& context, bool connect) {
  auto const sources = node::sources_of(context.global);
  auto const config = node::load_and_tell(sources);
  auto const file = config.file.empty() ? "no file; flags and environment" : config.file;
  auto const schedules = static_cast<std::int64_t>(config.schedules.size());
  auto const databases = static_cast<std::int64_t>(config.databases.size());
  print(fmt::format("{}: no error, {}{}{}\n", base::printable(file),
                    databases > 1 ? count_of(databases, "database") + ", " : "",
                    count_of(static_cast<std::int64_t>(config.kinds.size()), "kind"),
                    schedules == 0 ? "" : ", " + count_of(schedules, "schedule")));
  if (!connect) return node::ExitStatus::done;
  if (config.databases.empty()) node::require_url(config);
  // Each is tried, whatever becomes of the others.
  int status = node::ExitStatus::done;
  for (auto const& one : config.databases) {
    auto const place = base::printable(core::redact_database_url(one.database.database_url));
    auto const name = config.databases.size() > 1 ? base::printable(one.name) + ": " : std::string();
    try {
      auto const connection = pg::Connection::open(one.database);
      node::verify_schedules(one, *connection);
      print(fmt::format("{}connected to {} (PostgreSQL {})\n", name, place, connection->server_version() / 10000));
    } catch (node::ConfigError const&) {
      throw;
    } catch (Error const& error) {
      if (config.databases.size() == 1) throw;
      tell(fmt::format("posthouse: {}{}\n", name, base::printable(error.what())));
      status =
          error.error_class() == ErrorClass::unavailable ? node::ExitStatus::unreachable : node::ExitStatus::failed;
    }
  }
  return status;
}

}  // namespace

void add_config_commands(CLI::App& app, Context& context) {
  auto& config = add_command(app, "config", "Check and show the configuration; print an example");
  config.require_subcommand(1);

  auto const connect = std::make_shared<bool>(false);
  auto& check_command = add_command(config, "check", "Report every error at once",
                                    {"posthouse config check --config posthouse.yaml --connect"});
  check_command.add_flag("--connect", *connect, "try to connect too, to each database");
  on_run(check_command, context, [&context, connect] { return check(context, *connect); });

  auto& show = add_command(config, "show", "Every key with its value and where it comes from; secrets are hidden",
                           {"posthouse config show"});
  on_run(show, context, [&context] {
    print(base::printable(node::show(node::sources_of(context.global)), base::Lines::many));
    return node::ExitStatus::done;
  });

  auto& example = add_command(config, "example", "Print a commented configuration to start from",
                              {"posthouse config example > broker.yaml"});
  on_run(example, context, [] {
    print(node::example());
    return node::ExitStatus::done;
  });
}

}  // namespace posthouse::cli
