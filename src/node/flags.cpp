// SPDX-License-Identifier: Apache-2.0
#include "node/flags.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <sstream>

#include "base/terminal.hpp"
#include "core/database_url.hpp"
#include "core/refuse.hpp"
#include "dev/dev.hpp"

namespace posthouse::node {
namespace {

void print_error(std::string_view program, std::string_view message, std::string_view hint) {
  bool const colour = base::wants_colour(STDERR_FILENO);
  // The SQL functions begin their errors so, for callers of other languages.
  constexpr std::string_view prefix = "posthouse: ";
  if (message.starts_with(prefix)) message.remove_prefix(prefix.size());
  auto text = fmt::format("{}: {}\n", base::paint(colour, base::Style::red, program),
                          base::printable(message, base::Lines::many));
  if (!hint.empty()) text += fmt::format("  {}\n", base::printable(hint, base::Lines::many));
  std::fwrite(text.data(), 1, text.size(), stderr);
}

void print_warning(std::string_view text) {
  bool const colour = base::wants_colour(STDERR_FILENO);
  fmt::print(stderr, "{}: {}\n", base::paint(colour, base::Style::yellow, "posthouse"), base::printable(text));
}

/// The subcommand that was being read, for the advice to ask it for help.
std::string command_path(CLI::App const& app, std::string_view program) {
  std::string path(program);
  CLI::App const* at = &app;
  for (;;) {
    auto const chosen = at->get_subcommands();
    if (chosen.empty()) return path;
    at = chosen.front();
    path += " " + at->get_name();
  }
}

/// CLI11 says that a subcommand is missing where a word is there which is none.
std::string usage_problem(CLI::App const& app, CLI::ParseError const& error) {
  CLI::App const* at = &app;
  while (!at->get_subcommands().empty()) at = at->get_subcommands().front();
  auto const rest = app.remaining(true);
  bool const missing = error.get_exit_code() == static_cast<int>(CLI::ExitCodes::RequiredError);
  if (!missing || rest.empty() || at->get_require_subcommand_min() == 0) return error.what();
  std::vector<std::string> names;
  for (auto const* command : at->get_subcommands([](CLI::App const*) { return true; })) {
    if (!command->get_group().empty()) names.push_back(command->get_name());
  }
  auto text = fmt::format("there is no command {}", core::shown(rest.front()));
  if (auto const close = nearest(rest.front(), names); !close.empty()) text += "; did you mean " + close + "?";
  return text;
}

int parse_error(CLI::App const& app, std::string_view program, CLI::ParseError const& error) {
  if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
    std::ostringstream out;
    app.exit(error, out, out);
    std::fwrite(out.str().data(), 1, out.str().size(), stdout);
    return ExitStatus::done;
  }
  print_error(program, usage_problem(app, error), fmt::format("See `{} --help`.", command_path(app, program)));
  return ExitStatus::usage;
}

}  // namespace

CLI::Option& add_text(CLI::App& app, std::string const& name, std::optional<std::string>& value,
                      std::string const& description, std::string const& type) {
  return *app.add_option_function<std::string>(
                 name, [&value](std::string const& text) { value = text; }, description)
              ->type_name(type);
}

void add_global_flags(CLI::App& app, GlobalFlags& flags) {
  auto const add = [&](char const* name, std::optional<std::string>& value, char const* description, char const* type) {
    add_text(app, name, value, description, type).group("Global options");
  };
  add("--database-url", flags.database_url, "postgresql://user@host:5432/database", "URL");
  add("--database", flags.database, "which of the configuration's databases, by its name", "NAME");
  add("--schema", flags.schema, "schema of posthouse's tables (default: posthouse)", "NAME");
  add("--config", flags.config, "configuration file, YAML or JSON", "FILE");
  add("--log-level", flags.log_level, "debug, info, warning or error", "LEVEL");
  add("--log-format", flags.log_format, "text or json", "FORMAT");
}

Sources sources_of(GlobalFlags const& flags) {
  Sources sources;
  if (flags.config && flags.config->empty()) core::refuse("--config", "", "the path of a file", "");
  sources.file = flags.config.value_or("");
  sources.database = flags.database.value_or("");
  sources.environment = process_environment();
  sources.running_dev_url = [] { return dev::running_dev_url(); };
  auto const add = [&](std::optional<std::string> const& value, char const* key, char const* flag) {
    if (value) sources.flags.push_back({key, *value, flag});
  };
  add(flags.database_url, "database_url", "--database-url");
  add(flags.schema, "schema", "--schema");
  add(flags.log_level, "logging.level", "--log-level");
  add(flags.log_format, "logging.format", "--log-format");
  return sources;
}

Config load_and_tell(Sources const& sources) {
  auto config = load(sources);
  for (auto const& warning : config.warnings) print_warning(warning);
  if (config.url_from_dev) {
    print_warning("no database URL is given; using the dev server at " +
                  core::redact_database_url(config.database.database_url));
  }
  return config;
}

void require_url(Config const& config) {
  if (!config.url_source.empty()) return;
  if (!config.databases.empty()) {
    std::string names;
    for (auto const& one : config.databases) names += (names.empty() ? "" : ", ") + one.name;
    throw InvalidArgument("the configuration has several databases and this command is about one",
                          {.hint = "Give --database with one of: " + names});
  }
  throw InvalidArgument(
      "there is no database URL",
      {.hint = "Give --database-url, set POSTHOUSE_DATABASE_URL or DATABASE_URL, or write database_url "
               "into the configuration file.\n  To try things out, `posthouse dev start` starts a "
               "private PostgreSQL that every command finds."});
}

int guarded(CLI::App const& app, std::string_view program, std::function<int()> const& body) {
  try {
    return body();
  } catch (CLI::ParseError const& error) {
    return parse_error(app, program, error);
  } catch (InvalidArgument const& error) {
    print_error(program, error.what(), error.hint());
    return ExitStatus::usage;
  } catch (Error const& error) {
    auto hint = error.hint();
    if (error.in_doubt()) hint += std::string(hint.empty() ? "" : "\n  ") + "It may or may not have taken effect.";
    print_error(program, error.what(), hint);
    bool const away = error.error_class() == ErrorClass::unavailable;
    return away ? ExitStatus::unreachable : ExitStatus::failed;
  } catch (std::exception const& error) {
    print_error(program, error.what(), "");
    return ExitStatus::failed;
  }
}

}  // namespace posthouse::node
