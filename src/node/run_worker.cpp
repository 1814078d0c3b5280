// SPDX-License-Identifier: Apache-2.0
#include "node/run_worker.hpp"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <utility>

#include "base/log.hpp"
#include "core/names.hpp"
#include "core/refuse.hpp"
#include "execute/exec_handler.hpp"
#include "execute/http_handler.hpp"
#include "execute/sql_handler.hpp"
#include "isolate/serve.hpp"
#include "monitor/server.hpp"
#include "node/declare_schedules.hpp"
#include "node/sql_runner.hpp"
#include "node/worker_door.hpp"
#include "pg/pool.hpp"
#include "store/upkeep.hpp"

namespace posthouse::node {
namespace {

Sources sources_of(GlobalFlags const& global, WorkFlags const& flags) {
  auto sources = sources_of(global);
  auto const add = [&](std::optional<std::string> const& value, char const* key, char const* flag) {
    if (value) sources.flags.push_back({key, *value, flag});
  };
  add(flags.concurrency, "concurrency", "--concurrency");
  add(flags.prefetch, "prefetch_buffer", "--prefetch");
  add(flags.processes, "processes", "--processes");
  add(flags.claim_lease, "claim_lease_ms", "--claim-lease");
  return sources;
}

WorkerOptions worker_options(Config const& config, WorkFlags const& flags, Logger logger) {
  auto options = configured_options(config);
  options.queues = flags.queues;
  options.kinds = flags.kinds;
  options.concurrency = config.concurrency;
  options.prefetch_buffer = config.prefetch_buffer;
  options.queue_limits = config.queue_limits;
  options.processes = processes_of(config);
  options.kill_grace = config.kill_grace;
  options.max_jobs_per_child = config.max_jobs_per_child;
  options.max_memory_per_child_mb = config.max_memory_per_child_mb;
  options.once = flags.once;
  options.logger = std::move(logger);
  return options;
}

execute::ExecOptions exec_options(KindConfig const& kind, Config const& config) {
  execute::ExecOptions options;
  options.output_limit = static_cast<std::size_t>(config.max_result_bytes);
  // The child that runs the program is to see its end before it is killed itself.
  if (isolated(kind, config)) options.kill_grace = std::min(options.kill_grace, config.kill_grace / 2);
  options.argv = kind.exec;
  options.backoff = kind.options.backoff;
  for (auto const& entry : kind.env) {
    if (entry.find('=') != std::string::npos) {
      options.environment.push_back(entry);
    } else if (char const* const value = std::getenv(entry.c_str())) {
      options.environment.push_back(entry + "=" + value);
    }
  }
  return options;
}

bool wanted(std::vector<std::string> const& only, std::string const& kind) {
  return only.empty() || std::find(only.begin(), only.end(), kind) != only.end();
}

/// Null when the configuration names no http.listen.
std::unique_ptr<monitor::Server> start_monitor(Worker& worker, Config const& config, base::Log const& log) {
  if (config.http.address.empty()) return nullptr;
  auto const jobs = std::make_shared<monitor::JobMetrics>();
  WorkerDoor::observe(worker, jobs);
  auto sources = std::make_shared<monitor::Sources>();
  sources->add({.name = config.name,
                .database = config.database,
                .health = [&worker] { return WorkerDoor::health(worker); },
                .jobs = jobs,
                .worker = [&worker] { return WorkerDoor::stats(worker); }});
  auto server = std::make_unique<monitor::Server>(config.http, std::move(sources), log);
  log.info("monitoring", {{"listen", config.http.address}, {"port", std::to_string(server->port())}});
  return server;
}

void check(WorkFlags const& flags) {
  for (auto const& queue : flags.queues) core::check_queue(queue);
  for (auto const& kind : flags.kinds) core::check_kind(kind);
}

/// For a program whose handlers are all in the configuration: says so when there is none, and how to give one.
void check_handlers(Config const& config, WorkFlags const& flags, Sources const& sources) {
  if (config.kinds.empty()) {
    auto const file = config_file(sources);
    throw InvalidArgument(
        file.empty() ? "no job can be run: no configuration file was found, and so no kind has a handler"
                     : "no job can be run: `kinds` is empty in " + core::shown(file) + ", and so no kind has a handler",
        {.hint = "write one into " +
                 (file.empty() ? std::string("./posthouse.yaml, or name a file with --config") : std::string("it")) +
                 ", as in\n    kinds: {hello: {exec: [/usr/bin/wc, -c]}}\n  `posthouse config example` has every key"});
  }
  for (auto const& kind : flags.kinds) {
    if (config.kinds.contains(kind)) continue;
    std::string known;
    for (auto const& [name, ignored] : config.kinds) known += (known.empty() ? "" : ", ") + name;
    core::refuse("--kind", kind, known, "Give it a handler below `kinds`, or leave it out.");
  }
}

}  // namespace

WorkerOptions configured_options(Config const& config) {
  WorkerOptions options;
  options.database = config.database;
  options.claim_lease = config.claim_lease;
  options.claim_lease_given = config.claim_lease_given;
  options.heartbeat_interval = config.heartbeat_interval;
  options.max_result_bytes = static_cast<std::size_t>(config.max_result_bytes);
  options.cluster_wide_cap = config.cluster_wide_cap;
  return options;
}

void add_work_flags(CLI::App& app, WorkFlags& flags) {
  app.add_option("--queue", flags.queues, "work this queue alone; may be repeated (default: every queue)")
      ->type_name("NAME")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--kind", flags.kinds, "work this kind alone; may be repeated (default: every kind with a handler)")
      ->type_name("NAME")
      ->take_all()
      ->allow_extra_args(false);
  add_text(app, "--concurrency", flags.concurrency, "jobs that run at once, 1 to 1000 (default: 4)", "N");
  add_text(app, "--prefetch", flags.prefetch, "jobs claimed ahead of a free slot, 0 to 10000 (default: 0)", "N");
  add_text(app, "--claim-lease", flags.claim_lease,
           "silence after which a worker counts as dead, 1s to 10m; a number is in ms (default: 30s)", "TIME");
  add_text(app, "--processes", flags.processes,
           "child processes that run the handlers, 1 to 1000, one job at a time each (default: 0, threads)", "N");
  app.add_flag("--once", flags.once, "work what is available, then leave");
}

void keep_retention(Config const& config, pg::Connection& connection) {
  if (!config.retain_succeeded && !config.retain_dead && !config.retain_results) return;
  store::Upkeep(connection)
      .keep({.succeeded = config.retain_succeeded, .dead = config.retain_dead, .results = config.retain_results});
}

void register_configured(Worker& worker, Config const& config, std::vector<std::string> const& only,
                         std::shared_ptr<execute::SqlRunner> const& sql) {
  for (auto const& [name, kind] : config.kinds) {
    if (!wanted(only, name)) continue;
    if (!kind.exec.empty()) {
      worker.on(name, kind.options, execute::exec_handler(exec_options(kind, config)));
    } else if (kind.http) {
      auto options = *kind.http;
      options.max_response_bytes =
          std::min(options.max_response_bytes, static_cast<std::size_t>(config.max_result_bytes));
      worker.on(name, kind.options, execute::http_handler(std::move(options)));
    } else {
      worker.on(name, kind.options, execute::sql_handler(kind.sql, sql));
    }
  }
}

void register_configured(Worker& worker, Config const& config, std::vector<std::string> const& only,
                         base::Log const& log) {
  bool const any = std::any_of(config.kinds.begin(), config.kinds.end(), [&](auto const& entry) {
    return !entry.second.sql.empty() && wanted(only, entry.first);
  });
  std::shared_ptr<execute::SqlRunner> sql;
  if (any) {
    sql = std::make_shared<PooledSqlRunner>(config.database, sql_connections_of(config),
                                            static_cast<std::size_t>(config.max_result_bytes), log);
  }
  register_configured(worker, config, only, sql);
}

int work(GlobalFlags const& global, WorkFlags const& flags, std::function<void(Worker&)> const& register_handlers) {
  auto parent = isolate::parent_socket();
  check(flags);
  // A child says nothing that its parent has said.
  auto const sources = sources_of(global, flags);
  auto const config = parent ? load(sources) : load_and_tell(sources);
  require_url(config);
  if (!register_handlers) check_handlers(config, flags, sources);
  auto const logger = base::fd_logger(STDERR_FILENO, config.log_format, config.log_level);
  base::Log const log(logger);
  if (parent) pg::Pool::cap(static_cast<std::size_t>(config.worker_child_pool_max_size));
  if (!config.file.empty() && !parent) log.info("configuration read", {{"file", config.file}});

  Worker worker(worker_options(config, flags, logger));
  register_configured(worker, config, flags.kinds, log);
  if (register_handlers) register_handlers(worker);
  if (parent) return WorkerDoor::serve(worker, *std::move(parent), log);
  WorkerDoor::allow_processes(worker);
  if (config.retain_succeeded || config.retain_dead || config.retain_results) {
    keep_retention(config, *pg::Connection::open(config.database));
  }
  declare_schedules(config, log);
  auto const monitor = start_monitor(worker, config, log);
  worker.run();

  auto const stats = worker.stats();
  log.info("worker ended", {{"succeeded", std::to_string(stats.succeeded)},
                            {"failed", std::to_string(stats.failed)},
                            {"snoozed", std::to_string(stats.snoozed)},
                            {"given_back", std::to_string(stats.released)}});
  return ExitStatus::done;
}

}  // namespace posthouse::node

namespace posthouse {

int run_worker(int argc, char** argv, std::function<void(Worker&)> const& register_handlers) {
  CLI::App app{"A worker of posthouse: runs background jobs from PostgreSQL until SIGTERM or SIGINT."};
  node::GlobalFlags global;
  node::WorkFlags flags;
  node::add_global_flags(app, global);
  node::add_work_flags(app, flags);
  std::string const path = argc > 0 && argv[0] != nullptr ? argv[0] : "worker";
  auto const program = path.substr(path.rfind('/') + 1);
  return node::guarded(app, program, [&] {
    app.parse(argc, argv);
    return node::work(global, flags, register_handlers);
  });
}

}  // namespace posthouse
