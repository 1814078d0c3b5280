// SPDX-License-Identifier: Apache-2.0
// install, upgrade, verify, uninstall, adopt.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include <posthouse/error.hpp>

#include "base/terminal.hpp"
#include "cli/command.hpp"
#include "cli/print.hpp"
#include "core/refuse.hpp"
#include "store/migrate.hpp"

namespace posthouse::cli {
namespace {

struct Flags {
  bool print_sql = false;
  bool yes = false;
  bool json = false;
  bool verify_only = false;
  store::InstallExtras extras{};
};

std::string named(std::string const& schema) { return "schema " + core::shown(schema); }

constexpr std::string_view kByHand =
    "tables and what hangs on them, owners, and what is not part of this version; `posthouse install --print-sql` "
    "has the statements of this version";

int report(store::InstallReport const& result, std::string const& schema, std::string_view next) {
  for (auto const& warning : result.warnings) tell(fmt::format("posthouse: {}\n", base::printable(warning)));
  if (!result.left.empty()) {
    for (auto const& one : result.left) tell("  " + base::printable(one.sentence) + "\n");
    tell(fmt::format("posthouse: {} left in {} to be mended by hand: {}\n",
                     count_of(static_cast<std::int64_t>(result.left.size()), "difference"), named(schema), kByHand));
  }
  if (!result.changed) {
    print(fmt::format("{} is {}; nothing changed\n", named(schema),
                      result.left.empty() ? "up to date" : "of this version"));
    return node::ExitStatus::done;
  }
  std::string applied;
  for (auto const& name : result.applied) applied += (applied.empty() ? "" : ", ") + name;
  print(fmt::format("{} is ready ({})\n{}", named(schema), base::printable(applied), next));
  return node::ExitStatus::done;
}

constexpr std::string_view kNext =
    "Next: `posthouse enqueue KIND PAYLOAD`, then `posthouse work` with handlers in a configuration file.\n";

int verify(Context const& context, Flags const& flags);

// Every database of the configuration; one that fails keeps no other from being installed.
int install_all(node::Config const& config, Flags const& flags) {
  int status = node::ExitStatus::done;
  for (auto const& one : config.databases) {
    auto const name = base::printable(one.name);
    try {
      auto const connection = pg::Connection::open(one.database);
      print(name + ": ");
      report(store::install(*connection, flags.extras, store::Look::closely), connection->schema(), "");
    } catch (Error const& error) {
      tell(fmt::format("posthouse: {}: {}\n", name, base::printable(error.what())));
      if (!error.hint().empty()) tell("  " + base::printable(error.hint()) + "\n");
      bool const away = error.error_class() == ErrorClass::unavailable;
      if (status != node::ExitStatus::failed) {
        status = away ? node::ExitStatus::unreachable : node::ExitStatus::failed;
      }
    }
  }
  return status;
}

int install(Context const& context, Flags const& flags) {
  if (flags.verify_only) return verify(context, flags);
  auto const config = context.config_without_database();
  if (flags.print_sql) {
    print(store::install_sql(config.database.schema, flags.extras));
    return node::ExitStatus::done;
  }
  if (config.databases.size() > 1 && !context.global.database) return install_all(config, flags);
  node::require_url(config);
  auto const connection = pg::Connection::open(config.database);
  return report(store::install(*connection, flags.extras, store::Look::closely), connection->schema(), kNext);
}

int upgrade(Context const& context, Flags const& flags) {
  auto const connection = context.connect();
  try {
    store::check_version(*connection);
  } catch (SchemaMissing const& error) {
    // With an SQLSTATE there is no schema at all; without, it is of another version.
    if (!error.sqlstate().empty()) throw;
  }
  if (flags.print_sql) {
    auto const sql = store::upgrade_sql(*connection);
    print(sql.empty() ? "-- nothing to do\n" : sql);
    return node::ExitStatus::done;
  }
  return report(store::install(*connection, {}, store::Look::closely), connection->schema(), "");
}

/// What ends the differences, each way with how many it ends.
std::string mend_of(std::vector<store::Difference> const& differences) {
  auto const number = [&](store::Mend mend) {
    return std::count_if(differences.begin(), differences.end(), [mend](auto const& one) { return one.mend == mend; });
  };
  std::string text;
  if (number(store::Mend::install) > 0) text += "  `posthouse install` makes it.\n";
  if (auto const some = number(store::Mend::upgrade); some > 0) {
    text += fmt::format("  `posthouse upgrade` mends {}: functions, views, rights of PUBLIC and migrations.\n",
                        with_commas(some));
  }
  if (auto const some = number(store::Mend::hand); some > 0) {
    text += fmt::format("  {} to be mended by hand: {}.\n", with_commas(some), kByHand);
  }
  return text;
}

std::string_view name_of(store::Mend mend) {
  switch (mend) {
    case store::Mend::upgrade:
      return "upgrade";
    case store::Mend::install:
      return "install";
    case store::Mend::hand:
      return "hand";
  }
  return "hand";
}

int verify(Context const& context, Flags const& flags) {
  if (flags.print_sql) {
    print(store::verify_sql(context.config_without_database().database.schema));
    return node::ExitStatus::done;
  }
  auto const connection = context.connect();
  auto const differences = store::verify(*connection);
  if (flags.json) {
    std::vector<std::string> objects;
    for (auto const& one : differences) {
      objects.push_back(JsonObject().text("difference", one.sentence).text("mend", name_of(one.mend)).str());
    }
    print(json_array(objects));
  } else if (differences.empty()) {
    print(fmt::format("{} is as this version expects it\n", named(connection->schema())));
  } else {
    for (auto const& one : differences) print(base::printable(one.sentence) + "\n");
    tell(fmt::format("posthouse: {} in {}\n{}", count_of(static_cast<std::int64_t>(differences.size()), "difference"),
                     named(connection->schema()), mend_of(differences)));
  }
  return differences.empty() ? node::ExitStatus::done : node::ExitStatus::difference;
}

int uninstall(Context const& context, Flags const& flags) {
  if (flags.print_sql) {
    print(store::uninstall_sql(context.config_without_database().database.schema));
    return node::ExitStatus::done;
  }
  if (!flags.yes) {
    throw InvalidArgument("uninstall removes the schema with all jobs in it",
                          {.hint = "Add --yes to do it, or --print-sql to see the statements."});
  }
  auto const connection = context.connect();
  store::uninstall(*connection);
  print(named(connection->schema()) + " is removed\n");
  return node::ExitStatus::done;
}

int adopt(Context const& context) {
  auto const connection = context.connect();
  store::adopt(*connection);
  print(fmt::format("{} belongs to this database now; unfinished jobs will run\n", named(connection->schema())));
  return node::ExitStatus::done;
}

}  // namespace

void add_schema_commands(CLI::App& app, Context& context) {
  auto const flags = std::make_shared<Flags>();
  auto const print_sql = [&](CLI::App& command) {
    command.add_flag("--print-sql", flags->print_sql, "print the SQL instead of running it");
  };
  auto const add = [&](char const* name, char const* description, std::vector<std::string> const& examples,
                       int (*run)(Context const&, Flags const&)) -> CLI::App& {
    auto& command = add_command(app, name, description, examples);
    on_run(command, context, [&context, flags, run] { return run(context, *flags); });
    return command;
  };
  auto& install_command = add(
      "install", "Create the schema, or bring it up to this version",
      {"posthouse install --database-url postgresql://app@localhost/app", "posthouse install --config broker.yaml",
       "posthouse install --schema jobs --print-sql | psql app", "posthouse install --roles --broker-schema public"},
      install);
  print_sql(install_command);
  install_command.add_flag("--roles", flags->extras.roles,
                           "make groups of rights: SCHEMA_owner, _producer, _worker, _admin and _reader");
  install_command
      .add_option("--broker-schema", flags->extras.broker_schema,
                  "put broker_add_job and its like into this schema too, where unqualified calls find them")
      ->type_name("SCHEMA");
  install_command.add_flag("--verify-only", flags->verify_only, "change nothing: the same as `posthouse verify`");
  print_sql(add("upgrade",
                "Bring an installed schema up to this version; functions, views and rights that differ are made anew",
                {"posthouse upgrade", "posthouse upgrade --print-sql"}, upgrade));
  auto& verify_command =
      add("verify", "Compare the schema with what this version expects; exit status 3 when it differs",
          {"posthouse verify", "posthouse verify --json", "posthouse verify --print-sql | psql app"}, verify);
  verify_command.add_flag("--json", flags->json, "print an array of objects");
  print_sql(verify_command);
  auto& remove = add("uninstall", "Remove the schema with all jobs", {"posthouse uninstall --yes"}, uninstall);
  remove.add_flag("--yes", flags->yes, "really do it");
  print_sql(remove);
  add("adopt", "Accept a database that was restored from a dump or upgraded: its unfinished jobs will run here",
      {"posthouse adopt"}, [](Context const& c, Flags const&) { return adopt(c); });
}

}  // namespace posthouse::cli
