// SPDX-License-Identifier: Apache-2.0
// queues list, pause, resume; kinds list, pause, resume.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>

#include "base/terminal.hpp"
#include "cli/command.hpp"
#include "cli/explain.hpp"
#include "cli/print.hpp"
#include "core/names.hpp"
#include "core/refuse.hpp"
#include "store/admin.hpp"

namespace posthouse::cli {
namespace {

struct Flags {
  std::vector<std::string> names{};
  bool json = false;
};

/// A queue or a kind.
struct Line {
  int priority = 0;
  bool paused = false;
  std::optional<std::string> paused_at{};
  std::int64_t workers = 0;  ///< live ones that take its jobs
  std::int64_t available = 0;
  std::int64_t running = 0;
  std::optional<std::string> oldest_at{};  ///< of the available ones
  std::optional<std::int64_t> oldest_ms{};
};

using Lines = std::map<std::string, Line>;

void add(Line& line, store::Stat const& stat) {
  if (stat.state == "running") line.running += stat.jobs;
  if (stat.state != "available") return;
  line.available += stat.jobs;
  if (stat.oldest_ms && (!line.oldest_ms || *stat.oldest_ms > *line.oldest_ms)) {
    line.oldest_ms = stat.oldest_ms;
    line.oldest_at = stat.oldest_at;
  }
}

void print_lines(Lines const& lines, Flags const& flags, std::string const& what) {
  bool const queues = what == "queue";
  if (flags.json) {
    std::vector<std::string> objects;
    for (auto const& [name, line] : lines) {
      JsonObject object;
      object.text(what, name);
      if (queues) object.number("priority", line.priority);
      object.boolean("paused", line.paused)
          .text("paused_at", line.paused_at)
          .number("workers", line.workers)
          .number("available", line.available)
          .number("running", line.running)
          .text("oldest_available_at", line.oldest_at)
          .raw("oldest_available_ms", json_number(line.oldest_ms));
      objects.push_back(object.str());
    }
    print(json_array(objects));
    return;
  }
  if (lines.empty()) {
    print(fmt::format("There are no {}s yet.\n", what));
    return;
  }
  std::vector<std::string> header{queues ? "QUEUE" : "KIND"};
  if (queues) header.emplace_back(">PRIORITY");
  for (auto const* name : {"PAUSED", ">WORKERS", ">AVAILABLE", ">RUNNING", "OLDEST"}) header.emplace_back(name);
  Table table(header);
  for (auto const& [name, line] : lines) {
    std::vector<std::string> row{name};
    if (queues) row.push_back(std::to_string(line.priority));
    row.insert(row.end(), {paused_text(line.paused, line.paused_at), with_commas(line.workers),
                           with_commas(line.available), with_commas(line.running), ago(line.oldest_ms)});
    table.add(row);
  }
  print(table.text(base::wants_colour(STDOUT_FILENO)));
}

int list_queues(Context const& context, Flags const& flags) {
  auto const connection = context.connect();
  store::Admin admin(*connection);
  Lines lines;
  for (auto const& [queue, kind] : admin.names()) lines.try_emplace(queue);
  for (auto const& stat : admin.backlog()) add(lines[stat.queue], stat);
  for (auto const& queue : admin.queues()) {
    auto& line = lines[queue.queue];
    line.priority = queue.priority;
    line.paused = queue.paused;
    line.paused_at = queue.paused_at;
  }
  auto workers = admin.workers();
  std::erase_if(workers, [](auto const& worker) { return !is_alive(worker); });
  for (auto const& worker : workers) {
    for (auto const& name : names_in(worker.queues)) lines.try_emplace(name);
  }
  for (auto& [name, line] : lines) {
    for (auto const& worker : workers) line.workers += worker.queues.empty() || lists(worker.queues, name) ? 1 : 0;
  }
  print_lines(lines, flags, "queue");
  return node::ExitStatus::done;
}

int list_kinds(Context const& context, Flags const& flags) {
  auto const connection = context.connect();
  store::Admin admin(*connection);
  Lines lines;
  for (auto const& [queue, kind] : admin.names()) lines.try_emplace(kind);
  for (auto const& stat : admin.backlog()) add(lines[stat.kind], stat);
  for (auto const& kind : admin.kinds()) {
    auto& line = lines[kind.kind];
    line.paused = kind.paused;
    line.paused_at = kind.paused_at;
  }
  for (auto const& worker : admin.workers()) {
    if (!is_alive(worker)) continue;
    for (auto const& name : names_in(worker.kinds)) ++lines[name].workers;
  }
  print_lines(lines, flags, "kind");
  return node::ExitStatus::done;
}

using Verb = void (store::Admin::*)(std::string const&);

int each(Context const& context, Flags const& flags, void (*check)(std::string_view), Verb verb,
         std::string_view done) {
  for (auto const& name : flags.names) check(name);
  auto const connection = context.connect();
  store::Admin admin(*connection);
  for (auto const& name : flags.names) {
    (admin.*verb)(name);
    print(fmt::format(fmt::runtime(done), name));
  }
  return node::ExitStatus::done;
}

}  // namespace

void add_queues_commands(CLI::App& app, Context& context) {
  auto const flags = std::make_shared<Flags>();
  auto const add_list = [&](CLI::App& parent, char const* description, std::vector<std::string> const& examples,
                            int (*list)(Context const&, Flags const&)) {
    auto& command = add_command(parent, "list", description, examples);
    command.add_flag("--json", flags->json, "print an array of objects");
    on_run(command, context, [&context, flags, list] { return list(context, *flags); });
  };
  auto const add_each = [&](CLI::App& parent, char const* name, char const* description, char const* example,
                            char const* argument, void (*check)(std::string_view), Verb verb, char const* done) {
    auto& command = add_command(parent, name, description, {example});
    command.add_option("NAME", flags->names, argument)->required();
    on_run(command, context, [&context, flags, check, verb, done] { return each(context, *flags, check, verb, done); });
  };

  auto& queues = add_command(app, "queues", "List queues; pause and resume them, set their priority and limits");
  queues.require_subcommand(1);
  add_list(queues, "List queues: priority, whether paused, live workers, jobs, how long the oldest waits",
           {"posthouse queues list", "posthouse queues list --json | jq -r '.[] | select(.paused).queue'"},
           list_queues);
  add_each(queues, "pause", "Claim nothing more from queues; jobs that workers hold run to their end",
           "posthouse queues pause mail", "names of queues", core::check_queue, &store::Admin::pause_queue,
           "queue {}: paused\n");
  add_each(queues, "resume", "Claim from paused queues again", "posthouse queues resume mail", "names of queues",
           core::check_queue, &store::Admin::resume_queue, "queue {}: resumed\n");
  add_settings_commands(queues, context, "queue");

  auto& kinds = add_command(app, "kinds", "List kinds of jobs; pause and resume them, set their limits");
  kinds.require_subcommand(1);
  add_list(kinds, "List kinds: whether paused, live workers with a handler, jobs, how long the oldest waits",
           {"posthouse kinds list", "posthouse kinds list --json | jq -r '.[] | select(.workers == 0).kind'"},
           list_kinds);
  add_each(kinds, "pause", "Claim no more jobs of these kinds, in any queue; those that workers hold run to their end",
           "posthouse kinds pause send_mail", "names of kinds", core::check_kind, &store::Admin::pause_kind,
           "kind {}: paused\n");
  add_each(kinds, "resume", "Claim jobs of paused kinds again", "posthouse kinds resume send_mail", "names of kinds",
           core::check_kind, &store::Admin::resume_kind, "kind {}: resumed\n");
  add_settings_commands(kinds, context, "kind");
}

}  // namespace posthouse::cli
