// SPDX-License-Identifier: Apache-2.0
// limits list, set, reset.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "base/terminal.hpp"
#include "cli/command.hpp"
#include "cli/print.hpp"
#include "core/names.hpp"
#include "core/refuse.hpp"
#include "store/limits.hpp"

namespace posthouse::cli {
namespace {

struct Flags {
  std::string scope{};
  std::string name{};
  std::optional<int> concurrency{};
  std::optional<double> rate{};
  std::optional<int> burst{};
  bool json = false;
};

void check(Flags const& flags) {
  if (flags.scope == "kind" || flags.scope == "key" || flags.scope == "key_rate" || flags.scope == "serialized") {
    core::check_kind(flags.name);
  } else if (flags.scope == "queue") {
    core::check_queue(flags.name);
  } else if (flags.scope != "all") {
    core::refuse("SCOPE", flags.scope, "kind, queue, all, key, key_rate or serialized", "");
  } else if (!flags.name.empty()) {
    core::refuse("NAME", flags.name, "no name with all", "");
  }
}

std::string target(Flags const& flags) { return flags.name.empty() ? flags.scope : flags.scope + " " + flags.name; }

std::string shown(std::optional<int> const& value) { return value ? std::to_string(*value) : ""; }

int list(Context const& context, Flags const& flags) {
  auto const connection = context.connect();
  auto const limits = store::Limits(*connection).list();
  if (flags.json) {
    std::vector<std::string> objects;
    for (auto const& info : limits) {
      auto const raw = [](std::optional<int> const& value) { return value ? std::to_string(*value) : "null"; };
      objects.push_back(
          JsonObject()
              .text("scope", info.limit.scope)
              .text("name", info.limit.name)
              .text("origin", info.origin)
              .raw("concurrency", raw(info.limit.concurrency))
              .raw("per_second", info.limit.per_second ? fmt::format("{}", *info.limit.per_second) : "null")
              .raw("burst", raw(info.limit.burst))
              .text("declared", info.declared)
              .number("running", info.running)
              .raw("tokens", info.tokens.value_or("null"))
              .text("said_by", info.said_by)
              .text("held_until", info.held_until)
              .str());
    }
    print(json_array(objects));
    return node::ExitStatus::done;
  }
  if (limits.empty()) {
    print("There are no limits. `posthouse limits set kind NAME --concurrency 2` makes one.\n");
    return node::ExitStatus::done;
  }
  Table table({"SCOPE", "NAME", ">CONCURRENCY", ">RUNNING", ">PER SECOND", ">BURST", ">TOKENS", "ORIGIN", "BY",
               "DECLARED", "HELD UNTIL"});
  for (auto const& info : limits) {
    table.add({info.limit.scope, info.limit.name, shown(info.limit.concurrency), std::to_string(info.running),
               info.limit.per_second ? fmt::format("{}", *info.limit.per_second) : "", shown(info.limit.burst),
               info.tokens.value_or(""), info.origin, info.said_by.value_or(""),
               info.origin == "set" ? info.declared.value_or("") : "", info.held_until.value_or("")});
  }
  print(table.text(base::wants_colour(STDOUT_FILENO)));
  return node::ExitStatus::done;
}

int said(Flags const& flags, std::string_view text) {
  if (flags.json) {
    print(json_array({JsonObject().text("scope", flags.scope).text("name", flags.name).text("result", text).str()}));
  } else {
    print(fmt::format("{}: {}\n", target(flags), text));
  }
  return node::ExitStatus::done;
}

int set(Context const& context, Flags const& flags) {
  check(flags);
  auto const connection = context.connect();
  store::Limits(*connection)
      .set({.scope = flags.scope,
            .name = flags.name,
            .concurrency = flags.concurrency,
            .per_second = flags.rate,
            .burst = flags.burst});
  return said(flags, flags.concurrency || flags.rate ? "limit set" : "no limit, whatever workers declare");
}

int reset(Context const& context, Flags const& flags) {
  check(flags);
  auto const connection = context.connect();
  if (store::Limits(*connection).reset(flags.scope, flags.name)) return said(flags, "limit reset");
  tell(fmt::format("posthouse: {}: has no limit\n", target(flags)));
  return node::ExitStatus::failed;
}

}  // namespace

void add_limits_commands(CLI::App& app, Context& context) {
  auto& limits = add_command(app, "limits", "List, set and reset limits of what runs at once and starts in a second");
  limits.require_subcommand(1);
  auto const flags = std::make_shared<Flags>();

  auto& list_command = add_command(limits, "list", "List the limits in force",
                                   {"posthouse limits list", "posthouse limits list --json | jq -r '.[].name'"});
  list_command.add_flag("--json", flags->json, "print an array of objects");
  on_run(list_command, context, [&context, flags] { return list(context, *flags); });

  auto const add_target = [&flags](CLI::App& command) {
    command
        .add_option("SCOPE", flags->scope,
                    "kind, queue, all; key, key_rate: each key of a kind, at once or starts; serialized: a kind, one "
                    "after another")
        ->required();
    command.add_option("NAME", flags->name, "name of the kind or queue; none with all");
    command.add_flag("--json", flags->json, "print an array of one object");
  };
  auto& set_command =
      add_command(limits, "set", "Limit a kind, a queue or all jobs, whatever workers declare",
                  {"posthouse limits set kind send_mail --concurrency 2", "posthouse limits set queue slow --rate 10",
                   "posthouse limits set all --concurrency 100", "posthouse limits set key sync --concurrency 2",
                   "posthouse limits set key_rate sync --rate 5 --burst 1"});
  add_target(set_command);
  set_command
      .add_option("--concurrency", flags->concurrency, "jobs at once in all workers, 1 or more; without: no limit")
      ->type_name("N");
  set_command
      .add_option("--rate", flags->rate, "starts in a second in all workers, 0.0001 to 1000000; without: no limit")
      ->type_name("N");
  set_command
      .add_option("--burst", flags->burst, "starts at once after a pause, 1 or more (default: one second's worth)")
      ->type_name("N");
  on_run(set_command, context, [&context, flags] { return set(context, *flags); });

  auto& reset_command = add_command(limits, "reset", "Forget what was set, so that what workers declare counts again",
                                    {"posthouse limits reset kind send_mail"});
  add_target(reset_command);
  on_run(reset_command, context, [&context, flags] { return reset(context, *flags); });
}

}  // namespace posthouse::cli
