// SPDX-License-Identifier: Apache-2.0
// keys list, pause, resume.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "base/terminal.hpp"
#include "cli/command.hpp"
#include "cli/explain.hpp"
#include "cli/print.hpp"
#include "core/names.hpp"
#include "store/keys.hpp"

namespace posthouse::cli {
namespace {

struct Flags {
  std::string kind{};
  std::vector<std::string> keys{};
  int limit = 50;
  bool json = false;
};

std::string joined(std::vector<std::int64_t> const& ids) { return fmt::format("{}", fmt::join(ids, ", ")); }

int list(Context const& context, Flags const& flags) {
  if (!flags.kind.empty()) core::check_kind(flags.kind);
  auto const connection = context.connect();
  auto const keys = store::Keys(*connection).list(flags.kind, flags.limit);
  if (flags.json) {
    std::vector<std::string> objects;
    for (auto const& info : keys) {
      objects.push_back(JsonObject()
                            .text("kind", info.kind)
                            .text("key", info.key)
                            .boolean("paused", info.paused)
                            .text("paused_at", info.paused_at)
                            .text("held_until", info.held_until)
                            .text("free_at", info.free_at)
                            .raw("limit", info.limit ? std::to_string(*info.limit) : "null")
                            .raw("holders", "[" + joined(info.holders) + "]")
                            .number("parked", info.parked)
                            .text("since", info.since)
                            .str());
    }
    print(json_array(objects));
    return node::ExitStatus::done;
  }
  if (keys.empty()) {
    print("No key is busy or paused. `posthouse enqueue KIND --key KEY` gives a job a key.\n");
    return node::ExitStatus::done;
  }
  Table table({"KIND", "KEY", "PAUSED", ">LIMIT", ">WAITING", "HELD BY", "SINCE", "NEXT START"});
  for (auto const& info : keys) {
    table.add({info.kind, info.key, paused_text(info.paused, info.paused_at),
               info.limit ? std::to_string(*info.limit) : "none", with_commas(info.parked), joined(info.holders),
               info.since.value_or(""), info.free_at.value_or("")});
  }
  print(table.text(base::wants_colour(STDOUT_FILENO)));
  return node::ExitStatus::done;
}

int each(Context const& context, Flags const& flags, void (store::Keys::*act)(std::string const&, std::string const&),
         std::string_view result) {
  core::check_kind(flags.kind);
  for (auto const& key : flags.keys) core::check_key(key);
  auto const connection = context.connect();
  store::Keys store(*connection);
  std::vector<std::string> objects;
  for (auto const& key : flags.keys) {
    (store.*act)(flags.kind, key);
    if (flags.json) {
      objects.push_back(JsonObject().text("kind", flags.kind).text("key", key).text("result", result).str());
    } else {
      print(fmt::format("key {} of {}: {}\n", key, flags.kind, result));
    }
  }
  if (flags.json) print(json_array(objects));
  return node::ExitStatus::done;
}

}  // namespace

void add_keys_commands(CLI::App& app, Context& context) {
  auto& keys = add_command(app, "keys", "List keys that are busy; pause and resume keys");
  keys.require_subcommand(1);
  auto const flags = std::make_shared<Flags>();

  auto& list_command =
      add_command(keys, "list", "List keys that are busy, paused or waited for, the most waited for first",
                  {"posthouse keys list", "posthouse keys list --kind sync --json | jq -r '.[].key'"});
  list_command.add_option("--kind", flags->kind, "of this kind alone")->type_name("KIND");
  list_command.add_option("--limit", flags->limit, "at most so many, 1 to 10000")
      ->type_name("N")
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
  list_command.add_flag("--json", flags->json, "print an array of objects");
  on_run(list_command, context, [&context, flags] { return list(context, *flags); });

  auto const add_each = [&](char const* name, char const* what, char const* example, auto act, char const* result) {
    auto& command = add_command(keys, name, what, {example});
    command.add_option("KIND", flags->kind, "the kind of the jobs")->required();
    command.add_option("KEY", flags->keys, "keys, as enqueue --key has them")->required();
    command.add_flag("--json", flags->json, "print an array of objects");
    on_run(command, context, [&context, flags, act, result] { return each(context, *flags, act, result); });
  };
  add_each("pause", "Claim no more jobs of a kind with these keys; those that workers hold run to their end",
           "posthouse keys pause sync_account account:7", &store::Keys::pause, "paused");
  add_each("resume", "Claim jobs with paused keys again; ends the hold of a handler's RetryAfter, too",
           "posthouse keys resume sync_account account:7", &store::Keys::resume, "resumed");
}

}  // namespace posthouse::cli
