// SPDX-License-Identifier: Apache-2.0
// Configuration: flags, environment, file and defaults as one set of values, with every error reported at once.
//
// Precedence is flag, then POSTHOUSE_… variable, then file, then default. The URL alone goes on to DATABASE_URL, to
// libpq's own PG* variables, and to a running `posthouse dev` server.
// Thread safety: plain values and functions; load() reads the process's environment, which must not change meanwhile.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <posthouse/error.hpp>
#include <posthouse/options.hpp>
#include <posthouse/worker.hpp>

#include "base/log.hpp"
#include "execute/http_handler.hpp"
#include "monitor/server.hpp"
#include "node/config_tree.hpp"
#include "node/run_as.hpp"

namespace posthouse::node {

/// One entry of `kinds`: how its jobs run without code, and its policies.
struct KindConfig {
  std::vector<std::string> exec{};  ///< argv; empty: not a program
  std::vector<std::string> sql{};   ///< statements; empty: not SQL
  std::optional<execute::HttpOptions> http{};
  std::vector<std::string> env{};  ///< NAME (passed on when set) or NAME=VALUE, for exec
  HandlerOptions options{};
};

/// One entry of `schedules`: the arguments of add_schedule as JSON, by name.
struct ScheduleConfig {
  std::map<std::string, std::string> arguments{};
  std::string where{};
};

/// The parts that make up a URL when none is given.
struct DatabaseParts {
  std::string host = "localhost";
  int port = 5432;
  std::string database{};
  std::string user{};
  std::string password{};
  std::string sslmode = "prefer";
};

/// `queues.N` for a number N: a numbered queue of the broker.
struct NumberedQueueConfig {
  std::optional<int> concurrency{};
  std::optional<int> buffer_size{};
  std::optional<std::chrono::milliseconds> idle_timeout{};
};

/// What `posthouse start` needs beyond a worker. Defaults are those of pgsql-broker.
struct BrokerKeys {
  std::string name = "pgsql-broker";
  int queue_count = 4;
  int queue_concurrency = 1;
  int max_attempts = 1;
  bool auto_install = false;
  int fetch_query_que_size = 100;
  std::chrono::milliseconds queue_timer{10'000};
  int queue_buffer_size = 50;
  std::chrono::milliseconds worker_idle_timeout{10'000};
  std::chrono::milliseconds notify_retry{30'000};
  bool enable_debug = false;
  std::map<int, NumberedQueueConfig> queues{};

  [[nodiscard]] int concurrency_of(int queue) const {
    auto const it = queues.find(queue);
    return it == queues.end() ? queue_concurrency : it->second.concurrency.value_or(queue_concurrency);
  }
  /// The shortest that is said for any of them.
  [[nodiscard]] std::chrono::milliseconds idle_timeout() const {
    auto shortest = worker_idle_timeout;
    for (auto const& [number, queue] : queues) {
      if (queue.idle_timeout && *queue.idle_timeout < shortest) shortest = *queue.idle_timeout;
    }
    return shortest;
  }
};

/// Connections for SQL jobs, and of producers that ask for BrokerConfig::pool(); the names on the right are those of
/// pgsql-broker and mean the same.
struct PoolConfig {
  std::optional<int> pool_size{}, max_overflow{}, max_open_conns{}, max_idle_conns{};
  std::optional<std::chrono::milliseconds> pool_recycle{}, pool_idle_timeout{}, conn_max_lifetime{},
      conn_max_idle_time{};
  std::chrono::milliseconds timeout{30'000};
  bool pre_ping = true;
  bool echo = false;

  /// Anything was.
  [[nodiscard]] bool said() const { return pool_size || max_overflow || max_open_conns; }
  [[nodiscard]] int open() const {
    if (max_open_conns) return *max_open_conns;
    return pool_size || max_overflow ? pool_size.value_or(5) + max_overflow.value_or(10) : 25;
  }
  [[nodiscard]] int idle() const { return max_idle_conns.value_or(pool_size.value_or(5)); }
  [[nodiscard]] std::chrono::milliseconds lifetime() const {
    return conn_max_lifetime.value_or(pool_recycle.value_or(std::chrono::minutes{5}));
  }
  [[nodiscard]] std::chrono::milliseconds idle_time() const {
    return conn_max_idle_time.value_or(pool_idle_timeout.value_or(std::chrono::minutes{10}));
  }
};

struct Config {
  std::string file{};         ///< the file that was read; empty: none
  std::string url_source{};   ///< where the URL comes from, for people; empty: there is no URL
  bool url_from_dev = false;  ///< nobody named one; the running dev server's is used
  DatabaseParts parts{};      ///< as given; already part of database.database_url when that is made of them
  DatabaseOptions database{};
  LogLevel log_level = LogLevel::info;
  base::LogFormat log_format = base::LogFormat::text;
  int concurrency = 4;
  std::optional<bool> isolated{};  ///< isolation: process
  std::optional<int> processes{};
  std::chrono::milliseconds kill_grace{5000};
  int max_jobs_per_child = 0;
  int max_memory_per_child_mb = 0;
  int worker_pool_size = 3;
  int worker_max_overflow = 2;
  int worker_child_pool_max_size = 2;
  int prefetch_buffer = 0;
  std::chrono::milliseconds claim_lease{30000};
  bool claim_lease_given = false;
  std::chrono::milliseconds heartbeat_interval{5000};
  std::optional<std::chrono::milliseconds> retain_succeeded{};
  std::optional<std::chrono::milliseconds> retain_dead{};
  std::optional<std::chrono::milliseconds> retain_results{};
  std::int64_t max_result_bytes = 1024 * 1024;
  std::map<std::string, KindConfig> kinds{};
  std::map<std::string, QueueLimits> queue_limits{};
  std::string application{};  ///< whose schedules these are; empty: none are declared
  std::map<std::string, ScheduleConfig> schedules{};
  int cluster_wide_cap = 0;
  bool log_format_given = false;
  BrokerKeys broker{};
  PoolConfig pool{};
  RunAsLogins run_as{};
  std::string name = "default";   ///< of this database, in `databases`
  std::vector<Config> databases;  ///< of the list, or the one that there is; empty in each of these
  std::string fingerprint{};      ///< changes with anything that this database's share says; holds secrets
  monitor::Listen http{};         ///< no address: nothing listens
  std::vector<std::string> warnings{};
};

/// A flag that stands for a key: its value outranks everything else.
struct FlagValue {
  std::string key{};  ///< "logging.level"
  std::string value{};
  std::string flag{};  ///< "--log-level"
};

struct Sources {
  std::string file{};      ///< --config; empty: $POSTHOUSE_CONFIG, then the usual places
  std::string database{};  ///< --database: the entry of `databases` that a command is about
  std::vector<FlagValue> flags{};
  std::vector<std::pair<std::string, std::string>> environment{};
  /// Asked last; the URL of a running `posthouse dev` server, if there is one.
  std::function<std::optional<std::string>()> running_dev_url{};
};

/// The environment of this process.
std::vector<std::pair<std::string, std::string>> process_environment();

/// Wrong configuration; what() is one line for each problem.
class ConfigError : public InvalidArgument {
 public:
  explicit ConfigError(std::vector<Problem> problems);
  [[nodiscard]] std::vector<Problem> const& problems() const noexcept { return problems_; }

 private:
  std::vector<Problem> problems_;
};

/// Child processes of a worker; 0: its handlers run in threads.
int processes_of(Config const& config);

/// Connections of a worker's own, beside the one for LISTEN: claims, heartbeats, and upkeep while it leads.
inline constexpr int own_connections = 3;
/// Most connections for the `sql` jobs of one process; 0 when there are none.
int sql_connections_of(Config const& config);
/// Of a program that asks for BrokerConfig::pool().
PoolOptions producers_pool(Config const& config);

/// Throws ConfigError with all that is wrong. A missing URL is no error here: not every command needs one.
Config load(Sources const& sources);

/// The file that load() would read; empty: none.
std::string config_file(Sources const& sources);

/// Every key with its value and where it comes from as YAML, secrets hidden. Throws ConfigError.
std::string show(Sources const& sources);

/// A commented example that load() accepts.
std::string example();

}  // namespace posthouse::node
