// SPDX-License-Identifier: Apache-2.0
// What `posthouse work` and run_worker() share: the flags of a worker, and a worker from flags and configuration.
//
// Thread safety: one thread at a time; signals are handled while work() runs.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <posthouse/worker.hpp>

#include "base/log.hpp"
#include "execute/sql_handler.hpp"
#include "node/flags.hpp"
#include "pg/connection.hpp"

namespace posthouse::node {

struct WorkFlags {
  std::vector<std::string> queues{};
  std::vector<std::string> kinds{};
  std::optional<std::string> concurrency{};
  std::optional<std::string> prefetch{};
  std::optional<std::string> claim_lease{};
  std::optional<std::string> processes{};
  bool once = false;
};

void add_work_flags(CLI::App& app, WorkFlags& flags);

/// What the configuration says of every worker, whoever starts it.
WorkerOptions configured_options(Config const& config);

/// The handlers of `kinds` in the configuration; of those in `only` when that is not empty.
void register_configured(Worker& worker, Config const& config, std::vector<std::string> const& only,
                         base::Log const& log);

/// The same with connections for `sql` that the caller shares among workers.
void register_configured(Worker& worker, Config const& config, std::vector<std::string> const& only,
                         std::shared_ptr<execute::SqlRunner> const& sql);

/// What `retention` says, into the database.
void keep_retention(Config const& config, pg::Connection& connection);

/// Runs a worker until a signal, or with --once until nothing is left. `register_handlers` may be empty.
int work(GlobalFlags const& global, WorkFlags const& flags, std::function<void(Worker&)> const& register_handlers);

}  // namespace posthouse::node
