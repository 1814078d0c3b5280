// SPDX-License-Identifier: Apache-2.0
// What the commands have in common: each file of commands adds its own to the parser and sets the action to run.
//
// Thread safety: one thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "node/flags.hpp"
#include "pg/connection.hpp"

namespace CLI {
class App;
}

namespace posthouse::cli {

/// One invocation.
class Context {
 public:
  node::GlobalFlags global{};
  std::function<int()> action{};  ///< set by the chosen command

  /// Flags, environment and file; with a URL or an error that says how to give one.
  [[nodiscard]] node::Config config() const;
  /// The same without asking for a URL.
  [[nodiscard]] node::Config config_without_database() const;
  [[nodiscard]] std::unique_ptr<pg::Connection> connect() const;
};

/// A command with examples in its help. Global options may stand behind it.
CLI::App& add_command(CLI::App& parent, std::string const& name, std::string const& description,
                      std::vector<std::string> const& examples = {});

/// Runs `action` when the command was chosen.
void on_run(CLI::App& command, Context& context, std::function<int()> action);

// One function a file of commands, in the order of the help.
void add_schema_commands(CLI::App& app, Context& context);
void add_enqueue_command(CLI::App& app, Context& context);
void add_work_command(CLI::App& app, Context& context);
void add_start_command(CLI::App& app, Context& context);
void add_jobs_commands(CLI::App& app, Context& context);
void add_jobs_wait_command(CLI::App& jobs, Context& context);  // below `jobs`
/// set and show, below `queues` and `kinds`; scope: "queue" or "kind".
void add_settings_commands(CLI::App& parent, Context& context, std::string const& scope);
void add_schedules_commands(CLI::App& app, Context& context);
void add_dead_commands(CLI::App& app, Context& context);
void add_queues_commands(CLI::App& app, Context& context);
void add_workers_commands(CLI::App& app, Context& context);
void add_status_command(CLI::App& app, Context& context);
void add_stats_command(CLI::App& app, Context& context);
void add_doctor_command(CLI::App& app, Context& context);
void add_limits_commands(CLI::App& app, Context& context);
void add_keys_commands(CLI::App& app, Context& context);
void add_config_commands(CLI::App& app, Context& context);
void add_dev_commands(CLI::App& app, Context& context);
void add_bench_command(CLI::App& app, Context& context);
void add_demo_command(CLI::App& app, Context& context);
void add_manual_commands(CLI::App& app, Context& context);

}  // namespace posthouse::cli
