// SPDX-License-Identifier: Apache-2.0
// schedules list, add, set, remove, pause, resume, run, next, history.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <map>
#include <memory>

#include "base/terminal.hpp"
#include "cli/command.hpp"
#include "cli/print.hpp"
#include "core/duration.hpp"
#include "core/headers_json.hpp"
#include "core/payload_check.hpp"
#include "core/refuse.hpp"
#include "core/time_format.hpp"
#include "store/json_text.hpp"
#include "store/produce.hpp"
#include "store/schedules.hpp"

namespace posthouse::cli {
namespace {

/// What add and set may be told; what is absent stays as it is.
struct Flags {
  std::vector<std::string> names{};  ///< of a command that takes several
  std::optional<std::string> name{}, kind{}, payload{}, cron{}, every{}, at{}, time_zone{}, queue{}, jitter{},
      misfire{}, overlap{}, from{}, dedupe_key{}, on_duplicate{}, dedupe_scope{}, dedupe_window{}, expires_in{},
      timeout{}, key{};
  std::optional<int> priority{}, max_attempts{}, misfire_limit{};
  std::vector<std::string> headers{};
  bool raw = false;
  bool enabled = false;
  bool disabled = false;
  bool json = false;
  int n = 10;
};

std::string headers_of(std::vector<std::string> const& texts) {
  std::map<std::string, std::string> headers;
  for (auto const& text : texts) {
    auto const equals = text.find('=');
    if (equals == std::string::npos || equals == 0) core::refuse("--header", text, "NAME=VALUE", "");
    if (!headers.emplace(text.substr(0, equals), text.substr(equals + 1)).second) {
      core::refuse("--header", text, "each name once", "");
    }
  }
  return core::headers_to_json(headers);
}

/// The flags as the JSON object that the SQL functions take.
std::string definition_of(Flags const& flags) {
  JsonObject object;
  auto const text = [&object](char const* key, std::optional<std::string> const& value) {
    if (value) object.text(key, *value);
  };
  auto const number = [&object](char const* key, std::optional<int> value) {
    if (value) object.number(key, *value);
  };
  auto const duration = [&text](char const* key, char const* flag, std::optional<std::string> const& value) {
    if (!value) return;
    text(key, fmt::format("{} milliseconds", core::parse_duration(flag, *value, std::chrono::seconds(1)).count()));
  };
  text("kind", flags.kind);
  text("cron", flags.cron);
  duration("every", "--every", flags.every);
  if (flags.at) object.text("at", core::format_time(core::parse_time("--at", *flags.at)));
  text("time_zone", flags.time_zone);
  if (flags.payload) {
    if (flags.raw) {
      std::string base64;
      store::append_base64_string(base64, *flags.payload);
      object.raw("payload_bytes", base64);
    } else {
      core::check_json("PAYLOAD", *flags.payload);
      object.raw("payload", *flags.payload);
    }
  }
  text("queue", flags.queue);
  number("priority", flags.priority);
  if (!flags.headers.empty()) object.raw("headers", headers_of(flags.headers));
  number("max_attempts", flags.max_attempts);
  text("key", flags.key);
  text("dedupe_key", flags.dedupe_key);
  text("on_duplicate", flags.on_duplicate);
  text("dedupe_scope", flags.dedupe_scope);
  duration("dedupe_window", "--dedupe-window", flags.dedupe_window);
  duration("expires_in", "--expires-in", flags.expires_in);
  duration("timeout", "--timeout", flags.timeout);
  duration("jitter", "--jitter", flags.jitter);
  text("misfire", flags.misfire);
  number("misfire_limit", flags.misfire_limit);
  text("overlap", flags.overlap);
  if (flags.enabled || flags.disabled) object.boolean("enabled", flags.enabled);
  return object.str();
}

std::string when(Schedule const& schedule) {
  if (schedule.every) return "every " + core::format_duration(*schedule.every);
  if (schedule.at) return "at " + core::format_time(*schedule.at);
  return schedule.time_zone == "UTC" ? schedule.cron : schedule.cron + " " + schedule.time_zone;
}

std::string state(ScheduleInfo const& info) {
  if (!info.schedule.enabled) return "disabled";
  if (info.paused) return "paused";
  return info.next_at ? "active" : "ended";
}

std::string json_of(ScheduleInfo const& info) {
  auto const& schedule = info.schedule;
  JsonObject object;
  object.text("name", schedule.name)
      .text("owner", info.owner)
      .text("state", state(info))
      .text("kind", schedule.kind)
      .text("queue", schedule.options.queue)
      .number("priority", schedule.options.priority);
  auto const maybe_text = [&object](char const* key, bool there, std::string const& value) {
    object.text(key, there ? std::optional<std::string_view>(value) : std::nullopt);
  };
  maybe_text("cron", !schedule.cron.empty(), schedule.cron);
  auto const maybe_ms = [&](char const* key, std::optional<std::chrono::milliseconds> const& value) {
    object.raw(key, json_number(value ? std::optional<std::int64_t>(value->count()) : std::nullopt));
  };
  maybe_ms("every_ms", schedule.every);
  maybe_text("at", schedule.at.has_value(), schedule.at ? core::format_time(*schedule.at) : "");
  object.text("time_zone", schedule.time_zone)
      .raw("payload", schedule.payload.is_json() ? schedule.payload.data() : std::string_view("null"));
  maybe_text("payload_bytes", schedule.payload.is_bytes(), hex(schedule.payload.data()));
  object.raw("headers", info.headers);
  object.raw("max_attempts", json_number(schedule.options.max_attempts));
  auto const& options = schedule.options;
  maybe_text("key", !options.key.empty(), options.key);
  maybe_text("dedupe_key", !options.dedupe_key.empty(), options.dedupe_key);
  object.text("on_duplicate", store::name_of(options.on_duplicate))
      .text("dedupe_scope", store::name_of(options.dedupe_scope));
  maybe_ms("dedupe_window_ms", options.dedupe_window);
  maybe_ms("expires_in_ms", options.expires_in);
  maybe_ms("timeout_ms", options.timeout);
  object.number("jitter_ms", schedule.jitter.count())
      .text("misfire", store::name_of(schedule.misfire))
      .number("misfire_limit", schedule.misfire_limit)
      .text("overlap", store::name_of(schedule.overlap))
      .boolean("enabled", schedule.enabled)
      .boolean("paused", info.paused)
      .text("next_at", info.next_at)
      .text("due_at", info.due_at)
      .text("last_tick", info.last_tick)
      .text("last_fired_at", info.last_fired_at)
      .id("last_job", info.last_job)
      .text("last_error", info.last_error);
  return object.str();
}

int list(Context const& context, Flags const& flags) {
  auto const connection = context.connect();
  auto const schedules = store::ScheduleBook(*connection).list();
  if (flags.json) {
    std::vector<std::string> objects;
    for (auto const& info : schedules) objects.push_back(json_of(info));
    print(json_array(objects));
    return node::ExitStatus::done;
  }
  if (schedules.empty()) {
    print("There are no schedules; `posthouse schedules add --help` shows how to add one.\n");
    return node::ExitStatus::done;
  }
  Table table({"NAME", "STATE", "KIND", "WHEN", "NEXT", "LAST TICK", ">LAST JOB", "OWNER", "LAST ERROR"});
  for (auto const& info : schedules) {
    table.add({info.schedule.name, state(info), info.schedule.kind, when(info.schedule), info.next_at.value_or(""),
               info.last_tick.value_or(""), info.last_job ? std::to_string(*info.last_job) : "",
               info.owner.value_or(""), info.last_error.value_or("")});
  }
  print(table.text(base::wants_colour(STDOUT_FILENO)));
  return node::ExitStatus::done;
}

int add(Context const& context, Flags const& flags) {
  auto const definition = definition_of(flags);
  auto const connection = context.connect();
  store::ScheduleBook book(*connection);
  book.add(*flags.name, definition);
  auto const info = book.find(*flags.name);
  print(flags.json ? json_array({info ? json_of(*info) : "null"})
                   : fmt::format("schedule {}: {}\n", *flags.name,
                                 info && info->next_at ? "next at " + *info->next_at : "added"));
  return node::ExitStatus::done;
}

int set(Context const& context, Flags const& flags) {
  auto const changes = definition_of(flags);
  if (changes == "{}") throw InvalidArgument("nothing to set", {.hint = "`posthouse schedules set --help` says what."});
  auto const connection = context.connect();
  store::ScheduleBook book(*connection);
  bool const changed = book.set(*flags.name, changes);
  auto const info = book.find(*flags.name);
  print(flags.json ? json_array({info ? json_of(*info) : "null"})
                   : fmt::format("schedule {}: {}{}\n", *flags.name, changed ? "changed" : "unchanged",
                                 info && info->next_at ? ", next at " + *info->next_at : ""));
  return node::ExitStatus::done;
}

/// Applies a verb to each name; what it says is printed. With several, the first that fails ends the command.
template <class Verb>
int each(Context const& context, Flags const& flags, Verb verb) {
  auto const connection = context.connect();
  store::ScheduleBook book(*connection);
  bool all = true;
  std::vector<std::string> objects;
  for (auto const& name : flags.names) {
    std::optional<std::int64_t> job;
    std::string const said = verb(book, name, job);
    if (said.empty()) {
      tell(fmt::format("posthouse: there is no schedule {}\n", core::shown(name)));
      all = false;
    } else if (flags.json) {
      objects.push_back(JsonObject().text("name", name).id("job", job).str());
    } else {
      print(fmt::format("schedule {}: {}\n", name, said));
    }
  }
  if (flags.json) print(json_array(objects));
  return all ? node::ExitStatus::done : node::ExitStatus::failed;
}

int next(Context const& context, Flags const& flags) {
  if (flags.name.has_value() == flags.cron.has_value()) {
    core::refuse_because("next", flags.cron ? "got both a name and --cron" : "got neither a name nor --cron",
                         "one of them", "");
  }
  if (!flags.cron && flags.time_zone) {
    core::refuse_because("--time-zone", "is given without --cron", "together with it", "A schedule has its own.");
  }
  core::check_range("-n", flags.n, 1, 10'000);
  std::optional<std::string> from;
  if (flags.from) from = core::format_time(core::parse_time("--from", *flags.from));
  auto const connection = context.connect();
  store::ScheduleBook book(*connection);
  auto const ticks = flags.cron ? book.preview(*flags.cron, flags.time_zone.value_or("UTC"), flags.n, from)
                                : book.next(*flags.name, flags.n, from);
  if (flags.json) {
    std::vector<std::string> objects;
    for (auto const& tick : ticks) objects.push_back(JsonObject().text("at", tick.at).text("local", tick.local).str());
    print(json_array(objects));
    return node::ExitStatus::done;
  }
  for (auto const& tick : ticks) print(fmt::format("{}  {}\n", tick.at, tick.local));
  if (ticks.empty()) print("There is no next tick.\n");
  return node::ExitStatus::done;
}

int history(Context const& context, Flags const& flags) {
  core::check_range("-n", flags.n, 1, 10'000);
  auto const connection = context.connect();
  auto const fires = store::ScheduleBook(*connection).history(*flags.name, flags.n);
  if (flags.json) {
    std::vector<std::string> objects;
    for (auto const& fire : fires) {
      objects.push_back(JsonObject()
                            .text("tick", fire.tick)
                            .text("outcome", fire.outcome)
                            .id("job", fire.job)
                            .text("note", fire.note)
                            .text("at", fire.at)
                            .str());
    }
    print(json_array(objects));
    return node::ExitStatus::done;
  }
  Table table({"TICK", "OUTCOME", ">JOB", "FIRED AT", "NOTE"});
  for (auto const& fire : fires) {
    table.add({fire.tick, fire.outcome, fire.job ? std::to_string(*fire.job) : "", fire.at, fire.note});
  }
  print(table.empty() ? "Nothing has been fired.\n" : table.text(base::wants_colour(STDOUT_FILENO)));
  return node::ExitStatus::done;
}

void add_definition_flags(CLI::App& command, Flags& flags) {
  node::add_text(command, "--cron", flags.cron, "minute hour day month weekday, seconds first if six, or @daily ...",
                 "TEXT");
  node::add_text(command, "--every", flags.every, "1s to 366d, counted from now", "TIME");
  node::add_text(command, "--at", flags.at, "once, as 2030-01-31T12:00:00Z", "TIME");
  node::add_text(command, "--time-zone", flags.time_zone, "of --cron, as Europe/Berlin (default: UTC)", "NAME");
  node::add_text(command, "--queue", flags.queue, "queue (default: default)", "NAME");
  command.add_option("--priority", flags.priority, "higher runs first (default: 0)")->type_name("N");
  command.add_option("--header", flags.headers, "free metadata; may be repeated")
      ->type_name("NAME=VALUE")
      ->take_all()
      ->allow_extra_args(false);
  command.add_option("--max-attempts", flags.max_attempts, "1 to 32767 (default: the kind's own)")->type_name("N");
  node::add_text(command, "--key", flags.key, "its jobs run in turn with those of the kind with the same key", "KEY");
  node::add_text(command, "--dedupe-key", flags.dedupe_key, "while another job holds it a tick enqueues none", "KEY");
  node::add_text(command, "--on-duplicate", flags.on_duplicate,
                 "then: skip (default), replace (that job's payload, unless it has started), error", "ACTION");
  node::add_text(command, "--dedupe-scope", flags.dedupe_scope,
                 "the key is held until the job ends or is claimed: unfinished (default), until_claimed", "SCOPE");
  node::add_text(command, "--dedupe-window", flags.dedupe_window, "held at least that long, up to 3650d", "TIME");
  node::add_text(command, "--expires-in", flags.expires_in, "not started so long after its firing, a job expires",
                 "TIME");
  node::add_text(command, "--timeout", flags.timeout, "an attempt is asked to stop after that long", "TIME");
  node::add_text(command, "--jitter", flags.jitter, "fire each tick up to this long later, 0 to 1d (default: 0)",
                 "TIME");
  node::add_text(command, "--misfire", flags.misfire, "late ticks: skip, latest, all (default: latest)", "POLICY");
  command.add_option("--misfire-limit", flags.misfire_limit, "how many of all, 1 to 1000 (default: 100)")
      ->type_name("N");
  node::add_text(command, "--overlap", flags.overlap,
                 "while an earlier job is not finished: allow, skip, replace (default: allow)", "POLICY");
  command.add_flag("--raw", flags.raw, "the payload is bytes, not JSON");
}

}  // namespace

void add_schedules_commands(CLI::App& app, Context& context) {
  auto& schedules = add_command(app, "schedules", "List, add and change schedules; pause, resume and run them");
  schedules.require_subcommand(1);
  auto const flags = std::make_shared<Flags>();
  auto const name = [&flags](CLI::App& command) -> CLI::Option& {
    return node::add_text(command, "NAME", flags->name, "name of the schedule", "");
  };
  auto const json_flag = [&flags](CLI::App& command) {
    command.add_flag("--json", flags->json, "print an array of objects");
  };

  auto& list_command = add_command(schedules, "list", "List schedules with their next and last ticks",
                                   {"posthouse schedules list", "posthouse schedules list --json"});
  json_flag(list_command);
  on_run(list_command, context, [&context, flags] { return list(context, *flags); });

  auto& add_one = add_command(schedules, "add", "Add a schedule: --cron, --every or --at",
                              {"posthouse schedules add nightly backup --cron '0 3 * * *' --time-zone Europe/Berlin",
                               "posthouse schedules add ping check_site '{\"site\": 7}' --every 30s --overlap skip"});
  name(add_one).required();
  node::add_text(add_one, "KIND", flags->kind, "name of the handler", "").required();
  node::add_text(add_one, "PAYLOAD", flags->payload, "JSON", "");
  add_definition_flags(add_one, *flags);
  add_one.add_flag("--disabled", flags->disabled, "never fired until enabled");
  json_flag(add_one);
  on_run(add_one, context, [&context, flags] { return add(context, *flags); });

  auto& set_one = add_command(schedules, "set", "Change what is named of a schedule",
                              {"posthouse schedules set nightly --cron '30 4 * * mon-fri'",
                               "posthouse schedules set nightly --payload '{\"full\": true}'"});
  name(set_one).required();
  node::add_text(set_one, "--kind", flags->kind, "name of the handler", "NAME");
  node::add_text(set_one, "--payload", flags->payload, "JSON", "JSON");
  add_definition_flags(set_one, *flags);
  set_one.add_flag("--enabled", flags->enabled, "fired again");
  set_one.add_flag("--disabled", flags->disabled, "never fired until enabled")->excludes("--enabled");
  json_flag(set_one);
  on_run(set_one, context, [&context, flags] { return set(context, *flags); });

  using Verb = std::string (*)(store::ScheduleBook&, std::string const&, std::optional<std::int64_t>&);
  auto const add_each = [&](char const* verb, char const* description, char const* example, Verb act) {
    auto& command = add_command(schedules, verb, description, {example});
    command.add_option("NAME", flags->names, "names of schedules")->required();
    json_flag(command);
    on_run(command, context, [&context, flags, act] { return each(context, *flags, act); });
  };
  add_each("remove", "Remove schedules; their jobs and history stay", "posthouse schedules remove nightly",
           [](store::ScheduleBook& book, std::string const& one, std::optional<std::int64_t>&) {
             return std::string(book.remove(one) ? "removed" : "");
           });
  add_each("pause", "Fire no tick until resumed", "posthouse schedules pause nightly ping",
           [](store::ScheduleBook& book, std::string const& one, std::optional<std::int64_t>&) {
             book.pause(one);
             return std::string("paused");
           });
  add_each("resume", "End a pause; ticks that passed in it are left out", "posthouse schedules resume nightly",
           [](store::ScheduleBook& book, std::string const& one, std::optional<std::int64_t>&) {
             book.resume(one);
             return std::string("resumed");
           });
  add_each("run", "Enqueue a job of a schedule now, paused or not", "posthouse schedules run nightly",
           [](store::ScheduleBook& book, std::string const& one, std::optional<std::int64_t>& job) {
             job = book.run(one);
             return fmt::format("job {}", *job);
           });

  auto& next_command = add_command(schedules, "next", "Show the next ticks of a schedule or of a cron text",
                                   {"posthouse schedules next nightly -n 5",
                                    "posthouse schedules next --cron '30 2 * * *' --time-zone Europe/Berlin"});
  name(next_command);
  node::add_text(next_command, "--cron", flags->cron, "a cron text instead", "TEXT");
  node::add_text(next_command, "--time-zone", flags->time_zone, "of --cron (default: UTC)", "NAME");
  node::add_text(next_command, "--from", flags->from, "ticks after then (default: now)", "TIME");
  next_command.add_option("-n", flags->n, "1 to 10000 (default: 10)")->type_name("N");
  json_flag(next_command);
  on_run(next_command, context, [&context, flags] { return next(context, *flags); });

  auto& history_command = add_command(schedules, "history", "Show what became of a schedule's ticks, newest first",
                                      {"posthouse schedules history nightly -n 100 --json"});
  name(history_command).required();
  history_command.add_option("-n", flags->n, "1 to 10000 (default: 10)")->type_name("N");
  json_flag(history_command);
  on_run(history_command, context, [&context, flags] { return history(context, *flags); });
}

}  // namespace posthouse::cli
