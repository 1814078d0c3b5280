// SPDX-License-Identifier: Apache-2.0
// start: the broker.
#include <CLI/CLI.hpp>
#include <memory>

#include "cli/command.hpp"
#include "node/run_broker.hpp"

namespace posthouse::cli {

void add_start_command(CLI::App& app, Context& context) {
  auto const flags = std::make_shared<node::StartFlags>();
  auto& command =
      add_command(app, "start", "The broker: serve every database of the configuration, until SIGTERM or SIGINT",
                  {"posthouse start --config broker.yaml", "posthouse start --config broker.yaml --install",
                   "posthouse start --config broker.yaml --standby --log-level debug"});
  command.add_flag("--install", flags->install,
                   "create the schema where it is missing, bring an older one up to date (auto_install)");
  command.add_flag("--standby", flags->standby,
                   "wait where another broker serves every database, instead of ending with status 1");
  on_run(command, context, [&context, flags] { return node::start_broker(context.global, *flags); });
}

}  // namespace posthouse::cli
