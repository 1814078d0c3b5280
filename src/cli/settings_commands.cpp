// SPDX-License-Identifier: Apache-2.0
// queues set, show; kinds set, show: limits, rates and the priority of a queue, with what they are and who said so.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "base/terminal.hpp"
#include "cli/command.hpp"
#include "cli/print.hpp"
#include "core/names.hpp"
#include "core/refuse.hpp"
#include "store/admin.hpp"
#include "store/limits.hpp"

namespace posthouse::cli {
namespace {

struct Flags {
  std::string name{};
  std::optional<std::string> priority{}, concurrency{}, rate{}, burst{};
  bool reset = false;
  bool json = false;
};

constexpr std::string_view no_limit = "none";

template <class Number>
void read(char const* flag, std::optional<std::string> const& text, std::string_view allowed,
          std::optional<std::optional<Number>>& value) {
  if (!text) return;
  Number number{};
  if (*text == no_limit) {
    value.emplace();
  } else if (CLI::detail::lexical_cast(*text, number)) {
    value.emplace(number);
  } else {
    core::refuse(flag, *text, allowed, "");
  }
}

char const* limit_flag(std::string const& scope) {
  return scope == "queue" ? "--max-concurrency" : "--concurrency-limit";
}

std::optional<store::LimitInfo> limit_of(pg::Connection& connection, std::string const& scope,
                                         std::string const& name) {
  for (auto& info : store::Limits(connection).list()) {
    if (info.limit.scope == scope && info.limit.name == name) return std::move(info);
  }
  return std::nullopt;
}

std::string shown(std::optional<int> const& value) { return value ? std::to_string(*value) : "none"; }
std::string shown(std::optional<double> const& value) { return value ? fmt::format("{}", *value) : "none"; }

/// Who says so, in words.
std::string origin_of(std::optional<store::LimitInfo> const& info) {
  if (!info || info->origin == "held") return "default";
  auto const by = info->said_by.value_or("");
  if (info->origin == "declared") return by.empty() ? "declared by a worker" : "declared by worker " + by;
  return fmt::format("set by {}; {}", by.empty() ? "an operator" : by,
                     info->declared ? "workers declare " + *info->declared : "no worker declares one");
}

int show(Context const& context, Flags const& flags, std::string const& scope) {
  core::check_name(scope, flags.name);
  auto const connection = context.connect();
  store::Admin admin(*connection);
  bool const queue = scope == "queue";
  int priority = 0;
  bool paused = false;
  if (queue) {
    for (auto const& one : admin.queues()) {
      if (one.queue == flags.name) std::tie(priority, paused) = std::pair(one.priority, one.paused);
    }
  } else {
    for (auto const& one : admin.kinds()) paused = paused || (one.kind == flags.name && one.paused);
  }
  auto const info = limit_of(*connection, scope, flags.name);
  auto const limit = info ? info->limit : store::Limit{};
  auto const concurrency_name = queue ? "max_concurrency" : "concurrency_limit";
  if (flags.json) {
    auto const raw = [](auto const& value) { return value ? shown(value) : "null"; };
    JsonObject object;
    object.text(scope, flags.name);
    if (queue) object.number("priority", priority).text("priority_origin", priority == 0 ? "default" : "set");
    object.boolean("paused", paused)
        .text("paused_origin", paused ? "set" : "default")
        .raw(concurrency_name, raw(limit.concurrency))
        .raw("requests_per_second", raw(limit.per_second))
        .raw("burst", raw(limit.burst))
        .text("limit_origin", !info || info->origin == "held" ? "default" : info->origin)
        .text("limit_by", info && info->origin != "held" ? info->said_by : std::nullopt)
        .text("limit_declared", info ? info->declared : std::nullopt)
        .raw("running", info ? std::to_string(info->running) : "null")
        .raw("tokens", info ? info->tokens.value_or("null") : "null")
        .text("held_until", info ? info->held_until : std::nullopt);
    print(json_array({object.str()}));
    return node::ExitStatus::done;
  }
  auto const line = [](std::string_view name, std::string_view value, std::string_view origin) {
    auto text = base::printable(fmt::format("{:<21}{:<10}{}", name, value, origin));
    text.erase(text.find_last_not_of(' ') + 1);
    print(text + "\n");
  };
  line(scope, flags.name, "");
  if (queue) line("priority", std::to_string(priority), priority == 0 ? "default" : "set");
  line("paused", paused ? "yes" : "no", paused ? "set" : "default");
  auto const origin = origin_of(info);
  line(concurrency_name, shown(limit.concurrency), origin);
  line("requests_per_second", shown(limit.per_second), origin);
  if (limit.per_second) line("burst", shown(limit.burst), origin);
  if (limit.concurrency) line("running", std::to_string(info->running), "counted by the limit, started or not");
  if (info && info->tokens) line("tokens", *info->tokens, "starts that the rate allows now");
  if (info && info->held_until) line("held until", *info->held_until, " by a handler's RetryAfter");
  return node::ExitStatus::done;
}

int set(Context const& context, Flags const& flags, std::string const& scope) {
  core::check_name(scope, flags.name);
  store::LimitChanges changes;
  read(limit_flag(scope), flags.concurrency, "1 or more, or none", changes.concurrency);
  read("--requests-per-second", flags.rate, "0.0001 to 1000000, or none", changes.per_second);
  read("--burst", flags.burst, "1 or more, or none", changes.burst);
  bool const limits = changes.concurrency || changes.per_second || changes.burst;
  std::optional<int> priority;
  if (flags.priority) {
    int number = 0;
    if (!CLI::detail::lexical_cast(*flags.priority, number)) {
      core::refuse("--priority", *flags.priority, "a whole number, -2147483648 to 2147483647", "");
    }
    priority = number;
  }
  if (flags.reset && limits) {
    core::refuse_because("--reset", "is given together with a limit", "one of them", "Reset first, then set.");
  }
  if (!flags.reset && !limits && !priority) {
    throw InvalidArgument("nothing to set",
                          {.hint = fmt::format("`posthouse {}s set --help` says what there is.", scope)});
  }
  auto const connection = context.connect();
  bool nothing = false;
  if (priority) store::Admin(*connection).set_queue_priority(flags.name, *priority);
  if (flags.reset) nothing = !store::Limits(*connection).reset(scope, flags.name);
  if (limits) store::Limits(*connection).change(scope, flags.name, changes);
  if (nothing) tell(fmt::format("posthouse: {} {}: has no limit\n", scope, flags.name));
  if (priority && !limits && !flags.reset && !flags.json) {
    print(fmt::format("queue {} has priority {}\n", flags.name, *priority));
    return node::ExitStatus::done;
  }
  int const shown = show(context, flags, scope);
  return nothing && !priority ? node::ExitStatus::failed : shown;
}

}  // namespace

void add_settings_commands(CLI::App& parent, Context& context, std::string const& scope) {
  bool const queue = scope == "queue";
  auto const flags = std::make_shared<Flags>();
  auto const add_name = [&](CLI::App& command) {
    command.add_option("NAME", flags->name, "name of the " + scope)->required();
    command.add_flag("--json", flags->json, "print an array of one object");
  };
  auto& set_command = add_command(
      parent, "set", queue ? "Set the priority and limits of a queue" : "Set the limits of a kind",
      queue ? std::vector<std::string>{"posthouse queues set urgent --priority 10",
                                       "posthouse queues set reports --max-concurrency 20 --rps 100 --burst 200",
                                       "posthouse queues set reports --reset"}
            : std::vector<std::string>{"posthouse kinds set send_mail --concurrency-limit 2 --rps 10",
                                       "posthouse kinds set send_mail --rps none",
                                       "posthouse kinds set send_mail --reset"});
  add_name(set_command);
  if (queue) {
    node::add_text(set_command, "--priority", flags->priority,
                   "jobs of queues with a higher one go first, before the priority of jobs counts; default: 0", "N");
  }
  node::add_text(set_command, limit_flag(scope), flags->concurrency,
                 "jobs at once in all workers together, 1 or more; none: no limit, whatever workers declare", "N");
  node::add_text(set_command, "--requests-per-second,--rps", flags->rate,
                 "starts in a second in all workers together, 0.0001 to 1000000, or none", "N");
  node::add_text(set_command, "--burst", flags->burst,
                 "starts at once after a pause, 1 or more; none: one second's worth", "N");
  set_command.add_flag("--reset", flags->reset, "forget what was set: what workers declare counts again; ends a hold");
  on_run(set_command, context, [&context, flags, scope] { return set(context, *flags, scope); });

  auto& show_command = add_command(parent, "show", "Show the settings with their values and who said so",
                                   {queue ? "posthouse queues show reports" : "posthouse kinds show send_mail --json"});
  add_name(show_command);
  on_run(show_command, context, [&context, flags, scope] { return show(context, *flags, scope); });
}

}  // namespace posthouse::cli
