// SPDX-License-Identifier: Apache-2.0
// dev: a private PostgreSQL for trying things.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include <posthouse/error.hpp>

#include "base/terminal.hpp"
#include "cli/command.hpp"
#include "cli/print.hpp"
#include "dev/dev.hpp"

namespace posthouse::cli {
namespace {

struct Flags {
  std::string folder{};
  bool fast = false;
  bool remove = false;
  std::vector<std::string> psql{};
};

int start(Flags const& flags) {
  auto const result = dev::dev_start({.folder = flags.folder, .fast = flags.fast});
  print(fmt::format("{} in {}\n{}\n", result.started ? "started" : "runs already",
                    base::printable(result.folder.string()), result.url));
  if (result.started) {
    tell(
        "Every command without a URL of its own uses it now. Next: `posthouse install`; at the end `posthouse dev "
        "stop`.\n");
  }
  return node::ExitStatus::done;
}

int stop(Flags const& flags) {
  bool const found = flags.remove ? dev::dev_remove() : dev::dev_stop();
  if (found) {
    print(flags.remove ? "stopped, data removed\n" : "stopped; the data stay for the next start\n");
  } else {
    print(flags.remove ? "there is nothing to remove\n" : "it was not running\n");
  }
  return node::ExitStatus::done;
}

int psql(Flags const& flags) {
  auto argv = dev::dev_psql_argv(flags.psql);
  std::vector<char*> pointers;
  for (auto& argument : argv) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  ::execv(pointers[0], pointers.data());
  throw Unavailable("cannot run " + argv[0] + ": " + std::strerror(errno));
}

}  // namespace

void add_dev_commands(CLI::App& app, Context& context) {
  auto& dev = add_command(app, "dev", "A private PostgreSQL for trying things; other commands find it",
                          {"posthouse dev start && posthouse install && posthouse enqueue hello"});
  dev.require_subcommand(1);
  auto const flags = std::make_shared<Flags>();

  auto& start_command = add_command(dev, "start", "Start it, on a socket only", {"posthouse dev start"});
  start_command.add_option("--folder", flags->folder, "where its data are (default: the folder of before)")
      ->type_name("FOLDER");
  start_command.add_flag("--fast", flags->fast, "without fsync: quicker, and not for data that matter");
  on_run(start_command, context, [flags] { return start(*flags); });

  auto& stop_command = add_command(dev, "stop", "Stop it; its data stay", {"posthouse dev stop"});
  stop_command.add_flag("--remove", flags->remove, "remove its data too");
  on_run(stop_command, context, [flags] { return stop(*flags); });

  auto& url = add_command(dev, "url", "Print its URL", {"psql \"$(posthouse dev url)\""});
  on_run(url, context, [] {
    print(dev::dev_url() + "\n");
    return node::ExitStatus::done;
  });

  auto& psql_command = add_command(dev, "psql", "Run psql on it; arguments of psql's stand behind --",
                                   {"posthouse dev psql", "posthouse dev psql -- -c 'select * from posthouse.jobs'"});
  psql_command.add_option("ARGUMENTS", flags->psql, "for psql");
  on_run(psql_command, context, [flags] { return psql(*flags); });
}

}  // namespace posthouse::cli
