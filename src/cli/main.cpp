// SPDX-License-Identifier: Apache-2.0
#include "cli/main.hpp"

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "cli/command.hpp"

namespace posthouse::cli {
namespace {

constexpr char const* kDescription = "Background jobs in PostgreSQL.";
constexpr char const* kFooter =
    "Examples:\n"
    "  posthouse dev start                       a private PostgreSQL to try things with\n"
    "  posthouse install                         create the tables\n"
    "  posthouse enqueue send_mail '{\"to\": 42}'  put a job in\n"
    "  posthouse work --config posthouse.yaml    run jobs with the handlers of a file\n"
    "  posthouse status                          who works, what waits, what is wrong\n"
    "  posthouse stats                           what is there\n"
    "\n"
    "Exit status: 0 done; 1 failed; 2 wrong usage or configuration; 3 verify found a difference; 4 database out of "
    "reach; 5 the time of `jobs wait` was over.\n"
    "Configuration: flags, then POSTHOUSE_... variables, then the file, then defaults; see `posthouse config example`.";

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{kDescription, "posthouse"};
  app.footer(kFooter);
  app.set_version_flag("--version", std::string("posthouse ") + POSTHOUSE_VERSION);
  app.require_subcommand(1);
  Context context;
  node::add_global_flags(app, context.global);
  add_schema_commands(app, context);
  add_enqueue_command(app, context);
  add_work_command(app, context);
  add_start_command(app, context);
  add_jobs_commands(app, context);
  add_schedules_commands(app, context);
  add_dead_commands(app, context);
  add_queues_commands(app, context);
  add_workers_commands(app, context);
  add_status_command(app, context);
  add_stats_command(app, context);
  add_doctor_command(app, context);
  add_limits_commands(app, context);
  add_keys_commands(app, context);
  add_config_commands(app, context);
  add_dev_commands(app, context);
  add_bench_command(app, context);
  add_demo_command(app, context);
  add_manual_commands(app, context);

  return node::guarded(app, "posthouse", [&] {
    app.parse(argc, argv);
    int const status = context.action ? context.action() : node::ExitStatus::usage;
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
      throw std::runtime_error(std::string("cannot write to standard output: ") + std::strerror(errno));
    }
    return status;
  });
}

}  // namespace posthouse::cli
