// SPDX-License-Identifier: Apache-2.0
// work: a worker with the handlers of the configuration.
#include <CLI/CLI.hpp>
#include <memory>

#include "cli/command.hpp"
#include "node/run_worker.hpp"

namespace posthouse::cli {

void add_work_command(CLI::App& app, Context& context) {
  auto const flags = std::make_shared<node::WorkFlags>();
  auto& command =
      add_command(app, "work", "Run jobs with the handlers that the configuration declares, until SIGTERM or SIGINT",
                  {"posthouse work --config posthouse.yaml --concurrency 8", "posthouse work --queue bulk --once",
                   "posthouse work --config posthouse.yaml --processes 4"});
  node::add_work_flags(command, *flags);
  on_run(command, context, [&context, flags] { return node::work(context.global, *flags, {}); });
}

}  // namespace posthouse::cli
