// SPDX-License-Identifier: Apache-2.0
// The manual page and the bash completion, written from the parser itself, so that they cannot say anything else than
// it does. docs/man/posthouse.1 and completion/posthouse.bash are their output; a test compares.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <iterator>

#include "cli/command.hpp"
#include "cli/print.hpp"

namespace posthouse::cli {
namespace {

std::vector<CLI::App const*> children(CLI::App const& app) {
  std::vector<CLI::App const*> shown;
  for (auto const* command : app.get_subcommands([](CLI::App const*) { return true; })) {
    if (!command->get_group().empty()) shown.push_back(command);
  }
  return shown;
}

std::vector<CLI::Option const*> options(CLI::App const& app) {
  std::vector<CLI::Option const*> shown;
  for (auto const* option : app.get_options()) {
    bool const again = app.get_parent() != nullptr && option == app.get_help_ptr();
    if (!option->get_group().empty() && !again) shown.push_back(option);
  }
  return shown;
}

/// For troff: a leading dot or quote is a request, a backslash an escape, and a plain minus becomes a hyphen.
std::string roff(std::string_view text) {
  std::string out;
  bool line_start = true;
  for (char const c : text) {
    if (line_start && (c == '.' || c == '\'')) out += "\\&";
    line_start = c == '\n';
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
  }
  return out;
}

void write_options(std::string& out, CLI::App const& app) {
  for (auto const* option : options(app)) {
    bool const flag = option->get_items_expected_max() == 0;
    auto const name = option->get_positional() ? option->get_name(true) : option->get_name(false, true);
    out += fmt::format(".TP\n.B {}", roff(name));
    if (!flag && !option->get_positional()) out += " \\fI" + roff(option->get_type_name()) + "\\fR";
    out += "\n" + roff(option->get_description()) + "\n";
  }
}

void write_examples(std::string& out, CLI::App const& app) {
  constexpr std::string_view head = "Examples:\n";
  auto footer = app.get_footer();
  if (!footer.starts_with(head)) return;
  auto const end = footer.find("\n\n");
  out += fmt::format(".PP\nExamples:\n.PP\n.nf\n{}\n.fi\n", roff(footer.substr(head.size(), end - head.size())));
}

void write_command(std::string& out, CLI::App const& app, std::string const& path) {
  auto const below = children(app);
  if (below.empty()) {
    std::string positionals;
    for (auto const* option : options(app)) {
      if (!option->get_positional()) continue;
      auto const name = option->get_name(true) + (option->get_items_expected_max() > 1 ? "..." : "");
      positionals += option->get_required() ? " " + name : " [" + name + "]";
    }
    out += fmt::format(".SS {} [OPTIONS]{}\n{}.\n", roff(path), roff(positionals), roff(app.get_description()));
    write_options(out, app);
    write_examples(out, app);
  }
  for (auto const* command : below) write_command(out, *command, path + " " + command->get_name());
}

std::string manual(CLI::App const& app) {
  auto out = fmt::format(
      ".\\\" Written by `posthouse manual`.\n.TH POSTHOUSE 1 \"\" \"posthouse {}\" \"User Commands\"\n.SH NAME\n"
      "posthouse \\- background jobs in PostgreSQL\n.SH SYNOPSIS\n.B posthouse\n[GLOBAL OPTIONS] COMMAND ...\n"
      ".SH DESCRIPTION\nJobs live in the application's own database, are enqueued in its own transactions, and are run "
      "by\n"
      "workers. This program installs the schema, enqueues jobs, runs them with handlers that a configuration\n"
      "file declares, and shows what became of them.\n"
      ".SH GLOBAL OPTIONS\nThey may stand before or after the command.\n",
      POSTHOUSE_VERSION);
  write_options(out, app);
  out += ".SH COMMANDS\n";
  for (auto const* command : children(app)) write_command(out, *command, command->get_name());
  out +=
      ".SH EXIT STATUS\n0 done; 1 failed; 2 wrong usage or configuration; 3 verification found a difference; 4 "
      "database "
      "out of reach; 5 `jobs wait`: the time was over first.\n"
      ".SH ENVIRONMENT\nEvery key of the configuration is also a variable: POSTHOUSE_ and the path in capitals, "
      "levels\n"
      "joined by two underscores, as POSTHOUSE_LOGGING__LEVEL. Flags go before variables, variables before the file. "
      "The\n"
      "URL alone goes on to DATABASE_URL, the PG* variables of libpq, and a running development server. NO_COLOR\n"
      "turns colours off.\n"
      ".SH FILES\n\\&./posthouse.yaml, \\&./broker.yaml, /etc/posthouse/posthouse.yaml: the first that is there, "
      "unless "
      "POSTHOUSE_CONFIG\nor \\-\\-config names another. `posthouse config example` prints one with every key.\n"
      ".SH SEE ALSO\n.BR psql (1)\n";
  return out;
}

void write_completion(std::string& out, CLI::App const& app, std::string const& path) {
  std::string words;
  for (auto const* command : children(app)) words += " " + command->get_name();
  // The program's own options are offered everywhere.
  for (auto const* option : path.empty() ? std::vector<CLI::Option const*>{} : options(app)) {
    for (auto const& name : option->get_lnames()) words += " --" + name;
  }
  out += fmt::format("    '{}') words='{}' ;;\n", path, words.substr(std::min<std::size_t>(1, words.size())));
  for (auto const* command : children(app)) {
    write_completion(out, *command, path.empty() ? command->get_name() : path + " " + command->get_name());
  }
}

std::string completion(CLI::App const& app) {
  std::string commands;
  std::string global;
  for (auto const* command : children(app)) {
    commands += (commands.empty() ? "" : "|") + command->get_name();
    for (auto const* below : children(*command)) commands += "|" + command->get_name() + " " + below->get_name();
  }
  for (auto const* option : options(app)) {
    for (auto const& name : option->get_lnames()) global += " --" + name;
  }
  // Quoted patterns: a space belongs to the name.
  for (std::size_t at = 0; (at = commands.find('|', at)) != std::string::npos; at += 3) commands.replace(at, 1, "'|'");
  std::string out =
      "# Completion of posthouse's command line for bash. Written by `posthouse completion`.\n"
      "_posthouse() {\n"
      "  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} path='' word next words=''\n"
      "  case $previous in\n"
      "    --config) mapfile -t COMPREPLY < <(compgen -f -- \"$current\"); return ;;\n"
      "    --folder) mapfile -t COMPREPLY < <(compgen -d -- \"$current\"); return ;;\n"
      "    --log-level) mapfile -t COMPREPLY < <(compgen -W 'debug info warning error' -- \"$current\"); return ;;\n"
      "    --log-format) mapfile -t COMPREPLY < <(compgen -W 'text json' -- \"$current\"); return ;;\n"
      "    --state)\n"
      "      mapfile -t COMPREPLY < <(compgen -W 'scheduled blocked available running retryable succeeded failed "
      "cancelled expired' "
      "-- \"$current\")\n"
      "      return ;;\n"
      "  esac\n"
      "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
      "    next=${path:+$path }$word\n"
      "    case $next in\n";
  out += fmt::format("      '{}') path=$next ;;\n", commands);
  out +=
      "    esac\n"
      "  done\n"
      "  case $path in\n";
  write_completion(out, app, "");
  out +=
      "  esac\n"
      "  if [[ $current == -* || -z $path || $path == jobs || $path == dead || $path == queues || $path == "
      "kinds || $path == workers || $path == config || $path == dev ]]; then\n";
  out += fmt::format("    mapfile -t COMPREPLY < <(compgen -W \"$words{}\" -- \"$current\")\n", global);
  out +=
      "  fi\n"
      "}\n"
      "complete -F _posthouse posthouse\n";
  return out;
}

}  // namespace

void add_manual_commands(CLI::App& app, Context& context) {
  // For packagers, so not in the help.
  auto const add = [&](char const* name, std::string (*text)(CLI::App const&)) {
    auto* const command = app.add_subcommand(name)->group("");
    on_run(*command, context, [&app, text] {
      print(text(app));
      return node::ExitStatus::done;
    });
  };
  add("manual", manual);
  add("completion", completion);
}

}  // namespace posthouse::cli
