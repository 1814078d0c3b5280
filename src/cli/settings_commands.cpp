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
#include "store/fair.hpp"
#include "store/limits.hpp"

namespace posthouse::cli {
namespace {

struct Flags {
  std::string name{};
  std::optional<std::string> priority{}, concurrency{}, rate{}, burst{};
  std::optional<std::string> key_limit{}, key_rate{}, key_burst{}, serialized{}, weight{}, fair_by{};
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

using Limits = std::vector<store::LimitInfo>;

std::optional<store::LimitInfo> limit_of(Limits const& limits, std::string_view scope, std::string const& name) {
  auto const found = std::find_if(limits.begin(), limits.end(), [&](store::LimitInfo const& info) {
    return info.limit.scope == scope && info.limit.name == name && info.origin != "held";
  });
  return found == limits.end() ? std::nullopt : std::optional(*found);
}

std::string shown(std::optional<int> const& value) { return value ? std::to_string(*value) : "none"; }
std::string shown(std::optional<double> const& value) { return value ? fmt::format("{}", *value) : "none"; }

template <class Number>
std::string json_of(std::optional<Number> const& value) {
  return value ? shown(value) : "null";
}

/// Who says so, in words; declared: what workers say, in words.
std::string origin_of(std::optional<store::LimitInfo> const& info, std::optional<std::string> const& declared) {
  if (!info) return "default";
  auto const by = info->said_by.value_or("");
  if (info->origin == "declared") return by.empty() ? "declared by a worker" : "declared by worker " + by;
  return fmt::format("set by {}; {}", by.empty() ? "an operator" : by,
                     declared ? "workers declare " + *declared : "no worker declares one");
}

std::string origin_of(std::optional<store::LimitInfo> const& info) {
  return origin_of(info, info ? info->declared : std::nullopt);
}

/// Of jobs of one key each.
struct KeyLimits {
  std::optional<store::LimitInfo> limit{}, rate{}, serialized{};

  KeyLimits() = default;
  KeyLimits(Limits const& limits, std::string const& kind)
      : limit(limit_of(limits, "key", kind)),
        rate(limit_of(limits, "key_rate", kind)),
        serialized(limit_of(limits, "serialized", kind)) {}

  [[nodiscard]] std::optional<int> at_once() const { return limit ? limit->limit.concurrency : 1; }
  [[nodiscard]] bool is_serialized() const { return serialized && serialized->limit.concurrency; }
  /// A declaration is there only when it is true.
  [[nodiscard]] std::optional<std::string> serialized_declared() const {
    return serialized && serialized->declared ? std::optional<std::string>("true") : std::nullopt;
  }
};

void add_origin(JsonObject& object, std::string const& name, std::optional<store::LimitInfo> const& info,
                std::optional<std::string> const& declared) {
  object.text(name + "_origin", info ? info->origin : "default")
      .text(name + "_by", info ? info->said_by : std::nullopt)
      .text(name + "_declared", declared);
}

void add_json(JsonObject& object, KeyLimits const& keys) {
  auto const declared = [](auto const& info) { return info ? info->declared : std::nullopt; };
  object.raw("key_limit", json_of(keys.at_once()));
  add_origin(object, "key_limit", keys.limit, declared(keys.limit));
  auto const rate = keys.rate ? keys.rate->limit : store::Limit{};
  object.raw("key_requests_per_second", json_of(rate.per_second)).raw("key_burst", json_of(rate.burst));
  add_origin(object, "key_rate", keys.rate, declared(keys.rate));
  object.boolean("serialized_dispatch", keys.is_serialized());
  add_origin(object, "serialized_dispatch", keys.serialized, keys.serialized_declared());
}

/// weight or fair_by of a kind, as the other settings are shown.
struct Fairness {
  std::optional<store::KindSetting> weight{}, fair_by{};

  Fairness() = default;
  Fairness(pg::Connection& connection, std::string const& kind) {
    for (auto& one : store::Fair(connection).of(kind)) (one.name == "weight" ? weight : fair_by) = std::move(one);
  }
  [[nodiscard]] std::string turns() const { return weight ? weight->value.value_or("1") : "1"; }
  [[nodiscard]] std::optional<std::string> by() const { return fair_by ? fair_by->value : std::nullopt; }
};

void add_json(JsonObject& object, Fairness const& fairness) {
  auto const add = [&](std::string const& name, std::optional<store::KindSetting> const& setting) {
    object.text(name + "_origin", setting ? setting->origin : "default")
        .text(name + "_by", setting ? setting->said_by : std::nullopt)
        .text(name + "_declared", setting ? setting->declared : std::nullopt);
  };
  object.raw("weight", fairness.turns());
  add("weight", fairness.weight);
  object.text("fair_by", fairness.by());
  add("fair_by", fairness.fair_by);
}

void show_line(std::string_view name, std::string_view value, std::string_view origin) {
  auto text = base::printable(fmt::format("{:<24}{:<10}{}", name, value, origin));
  text.erase(text.find_last_not_of(' ') + 1);
  print(text + "\n");
}

void show_people(KeyLimits const& keys) {
  show_line("key_limit", shown(keys.at_once()), origin_of(keys.limit));
  auto const rate = keys.rate ? keys.rate->limit : store::Limit{};
  show_line("key_requests_per_second", shown(rate.per_second), origin_of(keys.rate));
  if (rate.per_second) show_line("key_burst", shown(rate.burst), origin_of(keys.rate));
  show_line("serialized_dispatch", keys.is_serialized() ? "true" : "false",
            origin_of(keys.serialized, keys.serialized_declared()));
}

void show_people(Fairness const& fairness) {
  auto const origin = [](std::optional<store::KindSetting> const& setting) -> std::string {
    if (!setting) return "default";
    store::LimitInfo info;
    info.origin = setting->origin;
    info.said_by = setting->said_by;
    return origin_of(info, setting->declared);
  };
  show_line("weight", fairness.turns(), origin(fairness.weight));
  show_line("fair_by", fairness.by().value_or("none") + " ", origin(fairness.fair_by));
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
  auto const limits = store::Limits(*connection).list();
  auto const info = limit_of(limits, scope, flags.name);
  std::optional<std::string> held_until;
  for (auto const& one : limits) {
    if (one.limit.scope == scope && one.limit.name == flags.name) held_until = one.held_until;
  }
  auto const keys = queue ? KeyLimits() : KeyLimits(limits, flags.name);
  auto const fairness = queue ? Fairness() : Fairness(*connection, flags.name);
  auto const limit = info ? info->limit : store::Limit{};
  auto const concurrency_name = queue ? "max_concurrency" : "concurrency_limit";
  if (flags.json) {
    JsonObject object;
    object.text(scope, flags.name);
    if (queue) object.number("priority", priority).text("priority_origin", priority == 0 ? "default" : "set");
    object.boolean("paused", paused)
        .text("paused_origin", paused ? "set" : "default")
        .raw(concurrency_name, json_of(limit.concurrency))
        .raw("requests_per_second", json_of(limit.per_second))
        .raw("burst", json_of(limit.burst));
    add_origin(object, "limit", info, info ? info->declared : std::nullopt);
    object.raw("running", info ? std::to_string(info->running) : "null")
        .raw("tokens", info ? info->tokens.value_or("null") : "null")
        .text("held_until", held_until);
    if (!queue) {
      add_json(object, keys);
      add_json(object, fairness);
    }
    print(json_array({object.str()}));
    return node::ExitStatus::done;
  }
  show_line(scope, flags.name, "");
  if (queue) show_line("priority", std::to_string(priority), priority == 0 ? "default" : "set");
  show_line("paused", paused ? "yes" : "no", paused ? "set" : "default");
  auto const origin = origin_of(info);
  show_line(concurrency_name, shown(limit.concurrency), origin);
  show_line("requests_per_second", shown(limit.per_second), origin);
  if (limit.per_second) show_line("burst", shown(limit.burst), origin);
  if (!queue) {
    show_people(keys);
    show_people(fairness);
  }
  if (limit.concurrency) show_line("running", std::to_string(info->running), "counted by the limit, started or not");
  if (info && info->tokens) show_line("tokens", *info->tokens, "starts that the rate allows now");
  if (held_until) show_line("held until", *held_until, " by a handler's RetryAfter");
  return node::ExitStatus::done;
}

store::KindChanges changes_of(Flags const& flags, std::string const& scope) {
  store::KindChanges changes;
  auto& limits = changes.of_kind;
  read(limit_flag(scope), flags.concurrency, "1 or more, or none", limits.concurrency);
  read("--requests-per-second", flags.rate, "0.0001 to 1000000, or none", limits.per_second);
  read("--burst", flags.burst, "1 or more, or none", limits.burst);
  read("--key-limit", flags.key_limit, "1 to 1000000, or none", changes.key_limit);
  read("--key-requests-per-second", flags.key_rate, "0.0001 to 1000000, or none", changes.key_per_second);
  read("--key-burst", flags.key_burst, "1 to 1000000, or none", changes.key_burst);
  if (flags.serialized) {
    if (*flags.serialized != "true" && *flags.serialized != "false") {
      core::refuse("--serialized-dispatch", *flags.serialized, "true or false", "");
    }
    changes.serialized_dispatch = *flags.serialized == "true";
  }
  read("--weight", flags.weight, "1 to 100, or none", changes.weight);
  if (flags.fair_by) {
    changes.fair_by.emplace();
    if (*flags.fair_by != no_limit) {
      core::check_fair_by("--fair-by", *flags.fair_by);
      changes.fair_by->emplace(*flags.fair_by);
    }
  }
  return changes;
}

int set(Context const& context, Flags const& flags, std::string const& scope) {
  core::check_name(scope, flags.name);
  auto const changes = changes_of(flags, scope);
  bool const limits = flags.concurrency || flags.rate || flags.burst || flags.key_limit || flags.key_rate ||
                      flags.key_burst || flags.serialized || flags.weight || flags.fair_by;
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
  store::Limits rules(*connection);
  bool const queue = scope == "queue";
  bool nothing = false;
  if (priority) store::Admin(*connection).set_queue_priority(flags.name, *priority);
  if (flags.reset) nothing = !(queue ? rules.reset(scope, flags.name) : rules.reset_kind(flags.name));
  if (limits && queue) rules.change(scope, flags.name, changes.of_kind);
  if (limits && !queue) rules.change_kind(flags.name, changes);
  if (nothing) tell(fmt::format("posthouse: {} {}: has no limit\n", scope, flags.name));
  if (priority && !limits && !flags.reset && !flags.json) {
    print(fmt::format("queue {} has priority {}\n", flags.name, *priority));
    return node::ExitStatus::done;
  }
  int const status = show(context, flags, scope);
  return nothing && !priority ? node::ExitStatus::failed : status;
}

void add_key_options(CLI::App& command, Flags& flags) {
  node::add_text(command, "--key-limit", flags.key_limit,
                 "jobs of one key at once in all workers together, 1 (in order) to 1000000; none: any number", "N");
  node::add_text(command, "--key-requests-per-second,--key-rps", flags.key_rate,
                 "starts of one key in a second in all workers together, 0.0001 to 1000000, or none", "N");
  node::add_text(command, "--key-burst", flags.key_burst,
                 "starts of one key at once after a pause, 1 to 1000000; none: one second's worth", "N");
  node::add_text(command, "--serialized-dispatch", flags.serialized,
                 "true: one job at once of each key, else of each dedupe key, else of the kind", "BOOL");
  node::add_text(command, "--weight", flags.weight,
                 "turns that the kind has where one of weight 1 and the same priority has one, 1 to 100; none: 1", "N");
  node::add_text(command, "--fair-by", flags.fair_by,
                 "key, or header:NAME: jobs enqueued from now on that differ in it share the kind's turns; none",
                 "WHAT");
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
      parent, "set",
      queue ? "Set the priority and limits of a queue" : "Set the limits of a kind, and how it shares turns",
      queue ? std::vector<std::string>{"posthouse queues set urgent --priority 10",
                                       "posthouse queues set reports --max-concurrency 20 --rps 100 --burst 200",
                                       "posthouse queues set reports --reset"}
            : std::vector<std::string>{"posthouse kinds set send_mail --concurrency-limit 2 --rps 10",
                                       "posthouse kinds set send_mail --rps none",
                                       "posthouse kinds set sync --key-limit 2 --key-rps 5 --key-burst 1",
                                       "posthouse kinds set sync --serialized-dispatch true",
                                       "posthouse kinds set send_mail --weight 3 --fair-by header:tenant",
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
  if (!queue) add_key_options(set_command, *flags);
  set_command.add_flag("--reset", flags->reset, "forget what was set: what workers declare counts again; ends a hold");
  on_run(set_command, context, [&context, flags, scope] { return set(context, *flags, scope); });

  auto& show_command = add_command(parent, "show", "Show the settings with their values and who said so",
                                   {queue ? "posthouse queues show reports" : "posthouse kinds show send_mail --json"});
  add_name(show_command);
  on_run(show_command, context, [&context, flags, scope] { return show(context, *flags, scope); });
}

}  // namespace posthouse::cli
