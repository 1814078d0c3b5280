// SPDX-License-Identifier: Apache-2.0
#include "node/config_keys.hpp"

#include <algorithm>
#include <array>

#include "core/names.hpp"
#include "core/refuse.hpp"
#include "core/text.hpp"
#include "node/config_values.hpp"

namespace posthouse::node {
namespace {

using namespace std::chrono_literals;
using std::string;

KindConfig& kind(Config& config, string const& name) { return config.kinds[name]; }

constexpr std::string_view kHide = "secret";

// Paths are in the order of the example.
Key const kKeys[] = {
    {"database_url", "", "postgresql://user@host:5432/database, or libpq's key=value text",
     "postgresql://app@localhost:5432/app", true, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       if (text_value(a, v).empty()) core::refuse(a, "", "a URL such as postgresql://user@host:5432/database", "");
       c.database.database_url = v.text;
     }},
    {"session_database_url", "",
     "direct endpoint for LISTEN when database_url is a transaction pooler; default: the same",
     "postgresql://app@localhost:5432/app", true, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.database.session_database_url = text_value(a, v);
     }},
    {"host", "localhost", "instead of database_url: host name, address or folder of the socket", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) { c.parts.host = text_value(a, v); }},
    {"port", "5432", "1 to 65535", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.parts.port = static_cast<int>(integer_value(a, v, 1, 65535));
     }},
    {"database", "", "name of the database; required without database_url", "app", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) { c.parts.database = text_value(a, v); }},
    {"user", "", "role to connect as; required without database_url", "app", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) { c.parts.user = text_value(a, v); }},
    {"password", "", "better in POSTHOUSE_PASSWORD, PGPASSWORD or ~/.pgpass than in a file", kHide, true, false,
     [](Config& c, string const&, string const& a, Tree const& v) { c.parts.password = text_value(a, v); }},
    {"sslmode", "prefer", "disable, allow, prefer, require, verify-ca or verify-full", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       choice_value(a, v, {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"});
       c.parts.sslmode = v.text;
     }},
    {"pgbouncer_transaction_mode", "false", "true behind a pooler in transaction mode: no session state is relied on",
     "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.database.pgbouncer_transaction_mode = boolean_value(a, v);
     }},
    {"schema", "posthouse", "schema of posthouse's tables, 1 to 48 bytes", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       core::check_schema(text_value(a, v));
       c.database.schema = v.text;
     }},
    {"logging.level", "info", "debug, info, warning or error", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.log_level = static_cast<LogLevel>(choice_value(a, v, {"debug", "info", "warning", "error"}));
     }},
    {"logging.format", "text", "text or json; `start` writes json unless told otherwise", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.log_format = static_cast<base::LogFormat>(choice_value(a, v, {"text", "json"}));
       c.log_format_given = true;
     }},
    {"concurrency", "4", "jobs that run at once in one worker, 1 to 1000", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.concurrency = static_cast<int>(integer_value(a, v, 1, 1000));
     }},
    {"isolation", "thread", "process: handlers run in child processes", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.isolated = choice_value(a, v, {"thread", "process"}) == 1;
     }},
    {"processes", "0", "child processes, 0 to 1000; with isolation process: as concurrency", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.processes = static_cast<int>(integer_value(a, v, 0, 1000));
     }},
    {"kill_grace_ms", "5000", "from asking a child to stop to killing it, 0 to 3600000 ms", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) { c.kill_grace = duration_value(a, v, 1ms, 0ms, 1h); }},
    {"max_jobs_per_child", "0", "jobs, 1 to 1000000000, then a child is replaced; 0: never", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.max_jobs_per_child = static_cast<int>(integer_value(a, v, 0, 1'000'000'000));
     }},
    {"max_memory_per_child_mb", "0", "MiB, 1 to 1000000, then a child is replaced; 0: never", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.max_memory_per_child_mb = static_cast<int>(integer_value(a, v, 0, 1'000'000));
     }},
    {"worker_pool_size", "3", "connections of a worker beside the one for LISTEN, 3 to 1000", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.worker_pool_size = static_cast<int>(integer_value(a, v, 3, 1000));
     }},
    {"worker_max_overflow", "2", "further ones while it has much to do, 0 to 1000", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.worker_max_overflow = static_cast<int>(integer_value(a, v, 0, 1000));
     }},
    {"worker_child_pool_max_size", "2", "connections of a Client in a child, 1 to 100", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.worker_child_pool_max_size = static_cast<int>(integer_value(a, v, 1, 100));
     }},
    {"prefetch_buffer", "0", "jobs claimed ahead of a free slot, 0 to 10000; above 0 claim_lease_ms must be given too",
     "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.prefetch_buffer = static_cast<int>(integer_value(a, v, 0, 10'000));
     }},
    {"claim_lease_ms", "30000",
     "a worker that is silent this long is dead, 1000 to 600000 ms, at least three heartbeats", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.claim_lease = duration_value(a, v, 1ms, 1s, 600s);
       c.claim_lease_given = true;
     }},
    {"heartbeat_interval_ms", "5000", "time between two signs of life, 100 to 200000 ms", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.heartbeat_interval = duration_value(a, v, 1ms, 100ms, 200s);
     }},
    {"max_result_bytes", "1048576", "larger results of jobs are dropped, 0 to 67108864 bytes; 0: none is kept", "",
     false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.max_result_bytes = integer_value(a, v, 0, 64LL * 1024 * 1024);
     }},
    {"tcp_keepalives", "true", "true or false", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) { c.database.tcp_keepalives = boolean_value(a, v); }},
    {"tcp_keepalives_idle", "30", "s before the first probe, 1 to 7200", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.database.tcp_keepalives_idle = static_cast<int>(duration_value(a, v, 1s, 1s, 7200s) / 1s);
     }},
    {"tcp_keepalives_interval", "10", "s between probes, 1 to 7200", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.database.tcp_keepalives_interval = static_cast<int>(duration_value(a, v, 1s, 1s, 7200s) / 1s);
     }},
    {"tcp_keepalives_count", "3", "probes without answer before the connection is given up, 1 to 100", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.database.tcp_keepalives_count = static_cast<int>(integer_value(a, v, 1, 100));
     }},
    {"tcp_user_timeout", "10000",
     "bytes that nobody has acknowledged for so long end a connection, 0 to 3600000 ms; 0: the system's", "", false,
     false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.database.tcp_user_timeout = static_cast<int>(duration_value(a, v, 1ms, 0ms, 1h) / 1ms);
     }},
    {"cluster_wide_cap", "", "jobs at once in all workers together, 1 to 1000000; default: no such limit", "100", false,
     false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.cluster_wide_cap = static_cast<int>(integer_value(a, v, 1, 1'000'000));
     }},
    {"retention.succeeded", "1d", "how long succeeded jobs are kept, 0 to 3650d; a number is in days", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.retain_succeeded = duration_value(a, v, 24h, 0ms, 24h * 3650);
     }},
    {"retention.dead", "30d", "how long failed, cancelled and expired jobs are kept, 0 to 3650d; a number is in days",
     "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.retain_dead = duration_value(a, v, 24h, 0ms, 24h * 3650);
     }},
    {"retention.results", "1d", "how long results are kept, 0 to 3650d; a number is in days", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.retain_results = duration_value(a, v, 24h, 0ms, 24h * 3650);
     }},
    {"kinds.*.exec", "", "runs a program: argv as a list, without a shell; the payload is its standard input",
     "[/usr/local/bin/resize, --quiet]", false, true,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       if (v.kind == Tree::Kind::scalar) {
         core::refuse(a, v.text, R"(a list such as ["/usr/bin/program", "argument"])",
                      R"(no shell is used; for one write ["/bin/sh", "-c", "…"])");
       }
       auto argv = text_list(a, v, false);
       if (argv.empty() || argv[0].empty())
         core::refuse_because(a, "names no program", "a list that begins with one", "");
       kind(c, n).exec = std::move(argv);
     }},
    {"kinds.*.env", "", "exec: variables that the program sees, NAME (ours) or NAME=VALUE; PATH is always there",
     "[HOME, LANG=C.UTF-8]", false, true,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       auto list = text_list(a, v, false);
       for (auto const& entry : list) {
         if (entry.empty() || entry[0] == '=') core::refuse(a, entry, "NAME or NAME=VALUE", "");
         if (entry.starts_with("POSTHOUSE_JOB_")) {
           core::refuse(a, entry, "any name but POSTHOUSE_JOB_…, which posthouse sets itself", "");
         }
       }
       kind(c, n).env = std::move(list);
     }},
    {"kinds.*.sql", "", "runs SQL: statements in one transaction, which also completes the job",
     "insert into visits (job) values (current_setting('posthouse.job_id')::bigint)", false, true,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       auto list = text_list(a, v, true);
       if (list.empty()) core::refuse_because(a, "is an empty list", "one or more statements", "");
       for (auto const& statement : list) {
         if (statement.find_first_not_of(" \t\r\n;") == string::npos) {
           core::refuse_because(a, "has an empty statement", "one or more statements", "");
         }
       }
       kind(c, n).sql = std::move(list);
     }},
    {"kinds.*.max_attempts", "25", "attempts before the job counts as failed, 1 to 32767; a job's own option wins", "",
     false, false,
     [](Config& c, string const& n, string const& a,
        Tree const& v) { kind(c, n).options.max_attempts = static_cast<int>(integer_value(a, v, 1, 32767)); }},
    {"kinds.*.timeout", "0", "the attempt is ended after this long; a number is in s; 0: never", "5m", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       kind(c, n).options.timeout = duration_value(a, v, 1s, 0ms, 24h * 30);
     }},
    {"kinds.*.retry_timer", "0",
     "a job without a sign of life for this long is given to another worker; a number is in s; 0: off", "30s", false,
     false,
     [](Config& c, string const& n, string const& a,
        Tree const& v) { kind(c, n).options.retry_timer = duration_value(a, v, 1s, 0ms, 24h * 30); }},
    {"kinds.*.concurrency_limit", "", "jobs of the kind at once in all workers together, 1 to 1000000", "2", false,
     false,
     [](Config& c, string const& n, string const& a,
        Tree const& v) { kind(c, n).options.concurrency_limit = static_cast<int>(integer_value(a, v, 1, 1'000'000)); }},
    {"kinds.*.requests_per_second", "", "starts of the kind in all workers together, 0.0001 to 1000000", "10", false,
     false,
     [](Config& c, string const& n, string const& a,
        Tree const& v) { kind(c, n).options.requests_per_second = decimal_value(a, v, 0.0001, 1'000'000); }},
    {"kinds.*.burst", "", "starts at once after a pause, 1 to 1000000; default one second's worth", "20", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       kind(c, n).options.burst = static_cast<int>(integer_value(a, v, 1, 1'000'000));
     }},
    {"kinds.*.key_limit", "1", "jobs of one key at once in all workers together, 1 (in order) to 1000000", "", false,
     false,
     [](Config& c, string const& n, string const& a,
        Tree const& v) { kind(c, n).options.key_limit = static_cast<int>(integer_value(a, v, 1, 1'000'000)); }},
    {"kinds.*.key_requests_per_second", "", "starts of one key in all workers together, 0.0001 to 1000000", "5", false,
     false,
     [](Config& c, string const& n, string const& a,
        Tree const& v) { kind(c, n).options.key_requests_per_second = decimal_value(a, v, 0.0001, 1'000'000); }},
    {"kinds.*.key_burst", "", "starts of one key at once after a pause, 1 to 1000000; default one second's worth", "",
     false, false,
     [](Config& c, string const& n, string const& a,
        Tree const& v) { kind(c, n).options.key_burst = static_cast<int>(integer_value(a, v, 1, 1'000'000)); }},
    {"kinds.*.serialized_dispatch", "false",
     "one job at once of each key, else of each dedupe_key, else of the kind, in all workers together", "", false,
     false,
     [](Config& c, string const& n, string const& a,
        Tree const& v) { kind(c, n).options.serialized_dispatch = boolean_value(a, v); }},
    {"kinds.*.weight", "1",
     "turns that the kind has where one of weight 1 and the same priority has one, 1 to 100", "3", false, false,
     [](Config& c, string const& n, string const& a,
        Tree const& v) { kind(c, n).options.weight = static_cast<int>(integer_value(a, v, 1, 100)); }},
    {"kinds.*.fair_by", "",
     "key, or header:NAME: jobs with different values share the kind's turns; default: they do not", "header:tenant",
     false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       core::check_fair_by(a, text_value(a, v));
       kind(c, n).options.fair_by = text_value(a, v);
     }},
    {"queues.*.max_concurrency", "", "jobs of the queue at once in all workers together, 1 to 1000000", "20", false,
     false,
     [](Config& c, string const& n, string const& a,
        Tree const& v) { c.queue_limits[n].max_concurrency = static_cast<int>(integer_value(a, v, 1, 1'000'000)); }},
    {"queues.*.requests_per_second", "", "starts of the queue in all workers together, 0.0001 to 1000000", "100", false,
     false,
     [](Config& c, string const& n, string const& a,
        Tree const& v) { c.queue_limits[n].requests_per_second = decimal_value(a, v, 0.0001, 1'000'000); }},
    {"queues.*.burst", "", "starts at once after a pause, 1 to 1000000; default one second's worth", "200", false,
     false,
     [](Config& c, string const& n, string const& a,
        Tree const& v) { c.queue_limits[n].burst = static_cast<int>(integer_value(a, v, 1, 1'000'000)); }},
    {"kinds.*.backoff", "",
     "wait between attempts: one delay, a list, or {type: exponential, first, longest, jitter} or "
     "{type: linear, step, longest, jitter}",
     "{type: exponential, first: 1s, longest: 1h, jitter: 0.25}", false, true,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       kind(c, n).options.backoff = backoff_value(a, v);
     }},
};

constexpr std::string_view kLater[] = {
    "worker_child_pool_check", "queues.*.paused", "queues.*.priority", "claimed_stale_threshold_ms", "kinds.*.queue",
};

/// Names that may stand directly under `prefix` ("", "logging.", "kinds.*.").
std::vector<string> siblings(std::string_view prefix) {
  std::vector<string> names;
  for (auto const& key : keys()) {
    if (!key.path.starts_with(prefix)) continue;
    auto const rest = key.path.substr(prefix.size());
    auto name = string(rest.substr(0, rest.find('.')));
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(std::move(name));
  }
  return names;
}

class Walk {
 public:
  Walk(Config& config, std::vector<Problem>& problems) : config_(config), problems_(problems) {}

  void map(Tree const& tree, string const& prefix, string const& path, string const& name) {
    bool const any_kind = prefix == "kinds.";
    bool const any_schedule = prefix == "schedules.";
    bool const any_role = prefix == "run_as.";
    bool const any_name = any_kind || any_schedule || any_role || prefix == "queues.";
    for (auto const& [key, value] : tree.members) {
      auto const full = path + key;
      if (any_name) {
        attempt(value, full, [&, &given = key] {
          if (any_role) return core::check_text("run_as", given);
          core::check_name(any_kind ? "kind" : any_schedule ? "schedule" : "queue", given);
        });
        if (any_kind) config_.kinds[key];
        if (any_schedule) config_.schedules[key].where = value.where;
        descend(value, prefix + "*.", full, key);
        continue;
      }
      member(value, prefix, key, full, name);
    }
  }

  template <class Check>
  void attempt(Tree const& value, string const& full, Check check) {
    try {
      check();
    } catch (InvalidArgument const& error) {
      auto text = string(error.what());
      if (!error.hint().empty()) text += "; " + error.hint();
      problems_.push_back({value.where, full, std::move(text)});
    }
  }

 private:
  void member(Tree const& value, string const& prefix, string const& key, string const& full, string const& name) {
    auto const pattern = prefix + key;
    auto const all = keys();
    auto const known = std::find_if(all.begin(), all.end(), [&](Key const& k) { return k.path == pattern; });
    if (known != all.end()) {
      attempt(value, full, [&] { known->apply(config_, name, full, value); });
      return;
    }
    if (std::find(std::begin(kLater), std::end(kLater), pattern) != std::end(kLater)) {
      problems_.push_back({value.where, full, full + " is not supported by this version of posthouse; remove it"});
      return;
    }
    auto const names = siblings(prefix);
    if (std::find(names.begin(), names.end(), key) != names.end()) {
      descend(value, pattern + ".", full, name);
      return;
    }
    auto text = full + " is not a key of posthouse";
    auto const close = nearest(key, names);
    text += close.empty() ? "; see `posthouse config example`" : "; did you mean " + close + "?";
    problems_.push_back({value.where, full, std::move(text)});
  }

  void descend(Tree const& value, string const& prefix, string const& full, string const& name) {
    if (value.kind == Tree::Kind::map) {
      map(value, prefix, full + ".", name);
    } else if (value.kind != Tree::Kind::null) {
      problems_.push_back({value.where, full, full + " is " + value.shown() + "; allowed: a mapping of keys"});
    }
  }

  Config& config_;
  std::vector<Problem>& problems_;
};

string where_of(Tree const& root, std::string_view key) {
  auto const* node = root.find(key);
  return node == nullptr ? "" : node->where;
}

/// What no key can say alone.
void check_together(Tree const& root, Config const& config, std::vector<Problem>& problems) {
  if (config.isolated && config.processes && *config.isolated != (*config.processes > 0)) {
    problems.push_back({where_of(root, "processes"), "processes",
                        "processes is " + std::to_string(*config.processes) + " but isolation is " +
                            (*config.isolated ? "process; allowed: 1 to 1000, or none for as many as concurrency"
                                              : "thread; allowed: isolation process, or no isolation")});
  }
  if (config.prefetch_buffer > 0 && !config.claim_lease_given) {
    problems.push_back({where_of(root, "prefetch_buffer"), "prefetch_buffer",
                        "prefetch_buffer is " + std::to_string(config.prefetch_buffer) +
                            " but claim_lease_ms is not written out; choose the lease that jobs may wait under, or "
                            "remove prefetch_buffer"});
  }
  if (3 * config.heartbeat_interval > config.claim_lease) {
    auto where = where_of(root, "heartbeat_interval_ms");
    if (where.empty()) where = where_of(root, "claim_lease_ms");
    problems.push_back({where, "heartbeat_interval_ms",
                        "heartbeat_interval_ms is " + std::to_string(config.heartbeat_interval.count()) +
                            " and claim_lease_ms " + std::to_string(config.claim_lease.count()) +
                            "; allowed: a lease of at least three heartbeats"});
  }
  auto const check_burst = [&](std::string const& full, int burst, double rate) {
    if (burst == 0 || rate > 0) return;
    problems.push_back({"", full + ".burst", full + ".burst goes with requests_per_second; add that or remove it"});
  };
  for (auto const& [name, queue] : config.queue_limits) {
    check_burst("queues." + name, queue.burst, queue.requests_per_second);
  }
  for (auto const& [name, kind] : config.kinds) {
    check_burst("kinds." + name, kind.options.burst, kind.options.requests_per_second);
  }
  auto const* const kinds = root.find("kinds");
  for (auto const& [name, kind] : config.kinds) {
    auto const full = "kinds." + name;
    auto const* const node = kinds == nullptr ? nullptr : kinds->find(name);
    auto const where = node == nullptr ? "" : node->where;
    auto const has = [&](std::string_view key) { return node != nullptr && node->find(key) != nullptr; };
    std::vector<string> handlers;
    for (auto const* handler : {"exec", "sql", "http"}) {
      if (has(handler)) handlers.emplace_back(handler);
    }
    if (handlers.size() > 1) {
      problems.push_back(
          {where, full, full + " has both " + handlers[0] + " and " + handlers[1] + "; allowed: one of them"});
    } else if (handlers.empty()) {
      problems.push_back({where, full, full + " has no handler; add exec, sql or http"});
    }
    if (!kind.env.empty() && !has("exec")) {
      problems.push_back({where, full + ".env", full + ".env is for exec alone; remove it"});
    }
  }
}

}  // namespace

std::span<Key const> keys() {
  static std::vector<Key> const all = [] {
    std::vector<Key> list(std::begin(kKeys), std::end(kKeys));
    list.insert(list.end(), broker_keys().begin(), broker_keys().end());
    list.insert(list.end(), http_keys().begin(), http_keys().end());
    list.insert(list.end(), schedule_keys().begin(), schedule_keys().end());
    return list;
  }();
  return all;
}
std::span<std::string_view const> later_keys() { return kLater; }

void walk_tree(Tree const& tree, string const& path, Config& config, std::vector<Problem>& problems) {
  Walk(config, problems).map(tree, "", path, "");
}

void check_tree(Tree const& root, Config& config, std::vector<Problem>& problems) {
  check_together(root, config, problems);
  check_broker(root, config, problems);
  check_http(root, config, problems);
  check_schedules(root, config, problems);
}

void apply_tree(Tree const& root, Config& config, std::vector<Problem>& problems) {
  if (root.kind == Tree::Kind::null) return;
  if (root.kind != Tree::Kind::map) {
    problems.push_back({root.where, "", "is " + root.shown() + "; a configuration is a mapping of keys to values"});
    return;
  }
  auto const* const list = root.find("databases");
  if (list == nullptr) {
    walk_tree(root, "", config, problems);
    check_tree(root, config, problems);
    return;
  }
  auto outside = root;
  std::erase_if(outside.members, [](auto const& member) { return member.first == "databases"; });
  walk_tree(outside, "", config, problems);
  check_http(outside, config, problems);
  apply_databases(*list, outside, config, problems);
}

}  // namespace posthouse::node
