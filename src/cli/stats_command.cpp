// SPDX-License-Identifier: Apache-2.0
// stats: how many jobs there are, by state, how old and how fast, and who works on them.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <map>
#include <memory>

#include "base/terminal.hpp"
#include "cli/command.hpp"
#include "cli/explain.hpp"
#include "cli/print.hpp"
#include "core/duration.hpp"
#include "store/admin.hpp"

namespace posthouse::cli {
namespace {

/// The oldest of what waits or runs, and how many came to each end lately.
void print_ages(std::vector<store::Stat> const& stats, bool colour) {
  Table table({"QUEUE", "KIND", "STATE", "OLDEST", ">LAST MINUTE", ">LAST HOUR"});
  for (auto const& stat : stats) {
    auto const number = [](std::optional<std::int64_t> value) { return value ? with_commas(*value) : std::string(); };
    table.add(
        {stat.queue, stat.kind, stat.state, ago(stat.oldest_ms), number(stat.last_minute), number(stat.last_hour)});
  }
  print(table.text(colour));
}

void print_people(std::vector<store::Stat> const& counts, std::vector<store::WorkerInfo> workers) {
  bool const colour = base::wants_colour(STDOUT_FILENO);
  std::map<std::pair<std::string, std::string>, std::map<std::string, std::int64_t>> by_kind;
  std::map<std::string, std::int64_t> total;
  for (auto const& count : counts) {
    by_kind[{count.queue, count.kind}][count.state] += count.jobs;
    total[count.state] += count.jobs;
  }
  std::vector<std::string> header{"QUEUE", "KIND"};
  std::vector<std::string_view> states;
  for (auto const state : job_states) {
    if (!total.contains(std::string(state))) continue;
    states.push_back(state);
    header.push_back(">" + std::string(state));
  }
  auto const cells = [&](std::map<std::string, std::int64_t> const& row, std::vector<std::string> line) {
    for (auto const state : states) {
      auto const found = row.find(std::string(state));
      line.push_back(found == row.end() ? "" : with_commas(found->second));
    }
    return line;
  };
  if (by_kind.empty()) {
    print("There are no jobs yet. `posthouse enqueue KIND PAYLOAD` puts one in.\n");
  } else {
    Table table(header);
    for (auto const& [names, row] : by_kind) table.add(cells(row, {names.first, names.second}));
    if (by_kind.size() > 1) table.add(cells(total, {"all", ""}));
    print(table.text(colour));
    print("\n");
    print_ages(counts, colour);
  }
  print("\n");
  std::erase_if(workers, [](store::WorkerInfo const& worker) { return !is_alive(worker); });
  if (workers.empty()) {
    print("No worker is alive. `posthouse work` starts one.\n");
    return;
  }
  Table table({">WORKER", "NAME", ">SLOTS", ">RUNNING", "LAST SEEN", "KINDS"});
  for (auto const& worker : workers) {
    table.add({std::to_string(worker.id), worker.name + (worker.leader ? " (leader)" : ""),
               std::to_string(worker.slots), std::to_string(worker.running),
               core::format_duration(std::chrono::milliseconds(worker.silent_ms)) + " ago", worker.kinds});
  }
  print(table.text(colour));
}

}  // namespace

void add_stats_command(CLI::App& app, Context& context) {
  auto const json = std::make_shared<bool>(false);
  auto& command =
      add_command(app, "stats", "Count the jobs by queue, kind and state, with ages and rates; list the live workers",
                  {"posthouse stats", "posthouse stats --json | jq 'map(.jobs) | add'"});
  command.add_flag("--json", *json, "print an array of objects, one a queue, kind and state");
  on_run(command, context, [&context, json] {
    auto const connection = context.connect();
    store::Admin admin(*connection);
    auto const counts = admin.stats();
    if (*json) {
      std::vector<std::string> objects;
      for (auto const& count : counts) {
        objects.push_back(JsonObject()
                              .text("queue", count.queue)
                              .text("kind", count.kind)
                              .text("state", count.state)
                              .number("jobs", count.jobs)
                              .text("oldest_at", count.oldest_at)
                              .raw("oldest_ms", json_number(count.oldest_ms))
                              .raw("last_minute", json_number(count.last_minute))
                              .raw("last_hour", json_number(count.last_hour))
                              .str());
      }
      print(json_array(objects));
    } else {
      print_people(counts, admin.workers());
    }
    return node::ExitStatus::done;
  });
}

}  // namespace posthouse::cli
