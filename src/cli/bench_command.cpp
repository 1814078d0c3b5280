// SPDX-License-Identifier: Apache-2.0
// bench: measures the engine beside plain SQL.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "bench/bench.hpp"
#include "cli/command.hpp"

namespace posthouse::cli {

void add_bench_command(CLI::App& app, Context& context) {
  auto const options = std::make_shared<bench::Options>();
  std::string names;
  for (auto const& scenario : bench::scenarios()) {
    names += fmt::format("{}{}: {}", names.empty() ? "" : "; ", scenario.name, scenario.description);
  }
  auto& command = add_command(app, "bench", "Measure the engine, each figure beside the limit of plain SQL",
                              {"posthouse bench throughput", "posthouse bench latency --json"});
  command.add_option("SCENARIO", options->scenario, names);
  command
      .add_option("--jobs", options->jobs,
                  "jobs of one repetition, 1000 to 100000000 (default: 300000; held-snapshot, backlog, rtt: 1000000)")
      ->type_name("N");
  command.add_option("--repetitions", options->repetitions, "1 to 100 (default: 3)")->type_name("N");
  command.add_option("--seconds", options->seconds, "how long idle workers are watched, 1 to 3600 (default: 60)")
      ->type_name("N");
  command.add_flag("--json", options->json, "print one document");
  command.add_flag("--quiet", options->quiet, "no progress on standard error");
  on_run(command, context, [&context, options] {
    options->database = context.config().database;
    return bench::run(*options);
  });

  // What the scenarios workers and backlog start; not for people.
  auto* const drain = app.add_subcommand("bench-drain-process")->group("");
  drain->callback([&context] { context.action = bench::run_drain_process; });
}

}  // namespace posthouse::cli
