// SPDX-License-Identifier: Apache-2.0
#include "cli/command.hpp"

#include <CLI/CLI.hpp>
#include <utility>

namespace posthouse::cli {

node::Config Context::config_without_database() const { return node::load_and_tell(node::sources_of(global)); }

node::Config Context::config() const {
  auto config = config_without_database();
  node::require_url(config);
  return config;
}

std::unique_ptr<pg::Connection> Context::connect() const { return pg::Connection::open(config().database); }

CLI::App& add_command(CLI::App& parent, std::string const& name, std::string const& description,
                      std::vector<std::string> const& examples) {
  auto* const command = parent.add_subcommand(name, description);
  command->fallthrough();
  std::string footer;
  for (auto const& example : examples) footer += (footer.empty() ? "Examples:\n  " : "\n  ") + example;
  footer += std::string(footer.empty() ? "" : "\n\n") + "Global options: see `posthouse --help`.";
  command->footer(footer);
  return *command;
}

void on_run(CLI::App& command, Context& context, std::function<int()> action) {
  command.callback([&context, action = std::move(action)] { context.action = action; });
}

}  // namespace posthouse::cli
