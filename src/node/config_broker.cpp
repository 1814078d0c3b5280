// SPDX-License-Identifier: Apache-2.0
// The keys of `posthouse start`: numbered queues, pools, the broker itself, roles, http.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <utility>

#include "core/database_url.hpp"
#include "core/refuse.hpp"
#include "node/config_keys.hpp"
#include "node/config_values.hpp"

namespace posthouse::node {
namespace {

using namespace std::chrono_literals;
using std::string;

constexpr std::size_t kMaxSecret = 4096;

/// The first line of a file that holds a secret.
string secret_of(string const& argument, Tree const& value) {
  auto const& path = text_value(argument, value);
  struct stat facts {};
  if (::stat(path.c_str(), &facts) != 0)
    core::refuse_because(argument, "cannot be read: " + path + ": " + std::strerror(errno), "a file", "");
  if (S_ISDIR(facts.st_mode)) core::refuse(argument, path, "a file", "");
  std::ifstream file(path);
  string line;
  if (!file || (!std::getline(file, line) && line.empty())) {
    core::refuse_because(argument, "cannot be read or is empty: " + path, "a file whose first line is the password",
                         "");
  }
  if (!line.empty() && line.back() == '\r') line.pop_back();
  if (line.empty() || line.size() > kMaxSecret) {
    core::refuse_because(argument, "has no usable first line: " + path,
                         "a file whose first line is the password, at most 4096 bytes", "");
  }
  return line;
}

std::optional<int> number_of(string const& name) {
  int number = 0;
  auto const [end, code] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (code != std::errc{} || end != name.data() + name.size() || number < 1) return std::nullopt;
  return number;
}

NumberedQueueConfig& numbered(Config& config, string const& name, string const& argument) {
  auto const number = number_of(name);
  if (!number) {
    core::refuse_because(argument, "is for numbered queues of the broker", "queues.1, queues.2, …",
                         "use queues." + name + ".max_concurrency for a queue of another name");
  }
  return config.broker.queues[*number];
}

int count(string const& argument, Tree const& value, int least, int most) {
  return static_cast<int>(integer_value(argument, value, least, most));
}

Key const kBrokerKeys[] = {
    {"password_file", "", "instead of password: a file whose first line it is, read at each connect",
     "/etc/posthouse/password", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       (void)secret_of(a, v);
       c.database.password_file = v.text;
     }},
    {"queue_count", "4", "start: numbered queues 1 to this, 1 to 1000", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) { c.broker.queue_count = count(a, v, 1, 1000); }},
    {"auto_install", "false", "start: create the schema where it is missing, bring an older one up to date", "", false,
     false,
     [](Config& c, string const&, string const& a, Tree const& v) { c.broker.auto_install = boolean_value(a, v); }},
    {"pool_size", "", "connections for SQL jobs that stay open, 1 to 1000; start: 5", "5", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) { c.pool.pool_size = count(a, v, 1, 1000); }},
    {"max_overflow", "", "further ones at need, 0 to 1000; start: 20", "10", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) { c.pool.max_overflow = count(a, v, 0, 1000); }},
    {"pool_recycle", "", "s after which one is closed, up to 365d; start: 5m", "1800", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.pool.pool_recycle = duration_value(a, v, 1s, 1s, 24h * 365);
     }},
    {"pool_idle_timeout", "", "idle ones are closed after this; a number is in s", "10m", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.pool.pool_idle_timeout = duration_value(a, v, 1s, 1s, 24h * 365);
     }},
    {"pool_timeout", "30", "s that a producer waits for a free connection, 1ms to 1d", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.pool.timeout = duration_value(a, v, 1s, 1ms, 24h);
     }},
    {"pool_pre_ping", "true", "producers: a connection that was idle is asked for a sign of life before it is used", "",
     false, false,
     [](Config& c, string const&, string const& a, Tree const& v) { c.pool.pre_ping = boolean_value(a, v); }},
    {"echo", "false", "producers: statements are logged, without values", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) { c.pool.echo = boolean_value(a, v); }},
    {"max_open_conns", "", "pool_size + max_overflow, by the name of pgsql-broker; 1 to 2000", "25", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) { c.pool.max_open_conns = count(a, v, 1, 2000); }},
    {"max_idle_conns", "", "pool_size, by the name of pgsql-broker; 0 to 1000", "5", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) { c.pool.max_idle_conns = count(a, v, 0, 1000); }},
    {"conn_max_lifetime", "", "pool_recycle, by the name of pgsql-broker; a number is in s", "5m", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.pool.conn_max_lifetime = duration_value(a, v, 1s, 1s, 24h * 365);
     }},
    {"conn_max_idle_time", "", "pool_idle_timeout, by the name of pgsql-broker; a number is in s", "10m", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.pool.conn_max_idle_time = duration_value(a, v, 1s, 1s, 24h * 365);
     }},
    {"broker.name", "pgsql-broker", "how it is called in broker_queueinstance, 1 to 100 bytes", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       if (text_value(a, v).empty() || v.text.size() > 100) core::refuse(a, v.text, "1 to 100 bytes", "");
       c.broker.name = v.text;
     }},
    {"broker.queue_concurrency", "1", "jobs of a numbered queue at once, 1 to 1000; 1: one after another", "", false,
     false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.broker.queue_concurrency = count(a, v, 1, 1000);
     }},
    {"broker.max_attempts", "1", "attempts of SQL jobs that say nothing else, 1 to 32767", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) { c.broker.max_attempts = count(a, v, 1, 32767); }},
    {"broker.fetch_query_que_size", "100", "most jobs of one claim, 1 to 2000; free slots bound it too", "", false,
     false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.broker.fetch_query_que_size = count(a, v, 1, 2000);
     }},
    {"broker.queue_timer_sec", "10", "longest wait between looks, 1s to 1h; the engine looks at least as often", "",
     false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.broker.queue_timer = duration_value(a, v, 1s, 1s, 1h);
     }},
    {"broker.queue_buffer_size", "50",
     "most jobs claimed and unstarted, 0 to 10000; a numbered queue claims none ahead", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.broker.queue_buffer_size = count(a, v, 0, 10'000);
     }},
    {"broker.worker_idle_timeout_sec", "10", "idle connections for SQL jobs are closed after this, 1s to 1d", "", false,
     false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.broker.worker_idle_timeout = duration_value(a, v, 1s, 1s, 24h);
     }},
    {"broker.notify_retry_seconds", "30s", "longest wait between tries to LISTEN, 1s to 1h", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.broker.notify_retry = duration_value(a, v, 1s, 1s, 1h);
     }},
    {"broker.enable_debug", "false", "true: as logging.level debug", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) { c.broker.enable_debug = boolean_value(a, v); }},
    {"queues.*.concurrency", "1", "of a numbered queue: jobs at once, 1 to 1000", "", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       numbered(c, n, a).concurrency = count(a, v, 1, 1000);
     }},
    {"queues.*.buffer_size", "50", "of a numbered queue: broker.queue_buffer_size, 0 to 10000", "", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       numbered(c, n, a).buffer_size = count(a, v, 0, 10'000);
     }},
    {"queues.*.idle_timeout_sec", "10",
     "of a numbered queue: broker.worker_idle_timeout_sec, 1s to 1d; the shortest of all counts", "", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       numbered(c, n, a).idle_timeout = duration_value(a, v, 1s, 1s, 24h);
     }},
    {"run_as.*.password", "", "how jobs log in as this role: its password", "secret", true, false,
     [](Config& c, string const& n, string const& a, Tree const& v) { c.run_as[n].password = text_value(a, v); }},
    {"run_as.*.password_file", "", "or a file whose first line it is", "/etc/posthouse/reporting", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       (void)secret_of(a, v);
       c.run_as[n].password_file = v.text;
     }},
    {"run_as.*.sslcert", "", "or a client certificate", "/etc/posthouse/reporting.crt", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) { c.run_as[n].sslcert = text_value(a, v); }},
    {"run_as.*.sslkey", "", "and its key", "/etc/posthouse/reporting.key", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) { c.run_as[n].sslkey = text_value(a, v); }},
    {"run_as.*.peer", "false", "or true: the server asks for no secret (peer, trust, a map of certificates)", "", false,
     false, [](Config& c, string const& n, string const& a, Tree const& v) { c.run_as[n].peer = boolean_value(a, v); }},
};

/// Keys of the process, not of a database.
bool of_process(std::string_view key) { return key == "logging" || key == "http" || key == "databases"; }

Tree deep_merge(Tree base, Tree const& over) {
  if (base.kind != Tree::Kind::map || over.kind != Tree::Kind::map) return over;
  base.where = over.where;
  for (auto const& [key, value] : over.members) {
    auto& there = base.at(key);
    there = there.kind == Tree::Kind::map ? deep_merge(std::move(there), value) : value;
  }
  return base;
}

void write_down(string& out, Tree const& tree) {
  out += static_cast<char>('0' + static_cast<int>(tree.kind));
  out += std::to_string(tree.text.size()) + ':' + tree.text;
  for (auto const& item : tree.items) write_down(out, item);
  for (auto const& [key, value] : tree.members) {
    out += std::to_string(key.size()) + ':' + key;
    write_down(out, value);
  }
  out += ';';
}

/// Where a database is, for people who list it twice.
string place_of(Config const& config) {
  return core::redact_database_url(config.database.database_url) + " " + config.database.schema;
}

}  // namespace

std::span<Key const> broker_keys() { return kBrokerKeys; }

Tree entry_over(Tree const& outside, Tree const& entry) {
  auto base = outside;
  base.kind = Tree::Kind::map;
  auto own = entry;
  std::erase_if(own.members, [](auto const& member) { return member.first == "name"; });
  std::erase_if(base.members, [](auto const& member) { return of_process(member.first); });
  if (own.find("database_url") != nullptr) {
    // An entry's own URL outranks the parts that stand outside for other entries.
    std::erase_if(base.members, [](auto const& member) {
      auto const& key = member.first;
      return key == "host" || key == "port" || key == "user" || key == "sslmode";
    });
  }
  return deep_merge(std::move(base), own);
}

string fingerprint_of(Tree const& root, Config const& config) {
  string text = config.database.database_url + '\n';
  auto own = root;
  std::erase_if(own.members, [](auto const& member) { return of_process(member.first); });
  write_down(text, own);
  return text;
}

void check_broker(Tree const& root, Config const& config, std::vector<Problem>& problems) {
  auto const both = [&](char const* key, std::initializer_list<char const*> others) {
    auto const* const node = root.find(key);
    if (node == nullptr) return;
    for (auto const* other : others) {
      if (root.find(other) == nullptr) continue;
      problems.push_back(
          {node->where, key, string(key) + " stands beside " + other + ", which means the same; keep one of them"});
    }
  };
  both("max_open_conns", {"pool_size", "max_overflow"});
  both("max_idle_conns", {"pool_size"});
  both("conn_max_lifetime", {"pool_recycle"});
  both("conn_max_idle_time", {"pool_idle_timeout"});
  both("password_file", {"password"});
  auto const* const queues = root.find("queues");
  auto const where_of_queue = [&](string const& name) {
    auto const* const node = queues == nullptr ? nullptr : queues->find(name);
    return node == nullptr ? string() : node->where;
  };
  for (auto const& [number, queue] : config.broker.queues) {
    auto const name = std::to_string(number);
    if (number <= config.broker.queue_count) continue;
    problems.push_back({where_of_queue(name), "queues." + name,
                        "queues." + name + " is beyond queue_count, which is " +
                            std::to_string(config.broker.queue_count) + "; raise that or remove this"});
  }
  for (auto const& [name, limits] : config.queue_limits) {
    if (!number_of(name)) continue;
    problems.push_back(
        {where_of_queue(name), "queues." + name,
         "queues." + name + " is a numbered queue of the broker; allowed: concurrency, buffer_size, idle_timeout_sec"});
  }
  auto const* const roles = root.find("run_as");
  for (auto const& [role, how] : config.run_as) {
    auto const* const node = roles == nullptr ? nullptr : roles->find(role);
    auto const full = "run_as." + role;
    auto const where = node == nullptr ? string() : node->where;
    if (!how.password.empty() && !how.password_file.empty()) {
      problems.push_back({where, full, full + " has both password and password_file; keep one of them"});
    }
    if (how.sslcert.empty() != how.sslkey.empty())
      problems.push_back({where, full, full + " has one of sslcert and sslkey; give both"});
    if (how.empty()) {
      problems.push_back(
          {where, full,
           full + " says not how to log in; add password, password_file, sslcert and sslkey, or peer: true"});
    }
  }
  std::int64_t slots = 0;
  for (int n = 1; n <= config.broker.queue_count; ++n) slots += config.broker.concurrency_of(n);
  if (slots > 1000) {
    problems.push_back({root.find("queue_count") == nullptr ? "" : root.find("queue_count")->where, "queue_count",
                        "the numbered queues run " + std::to_string(slots) + " jobs at once; allowed: 1000 together"});
  }
}

void apply_databases(Tree const& list, Tree const& outside, Config& config, std::vector<Problem>& problems) {
  for (auto const* key : {"database_url", "session_database_url", "database"}) {
    if (auto const* const node = outside.find(key)) {
      problems.push_back(
          {node->where, key, string(key) + " stands beside databases (" + list.where + "); keep one of them"});
    }
  }
  if (list.kind != Tree::Kind::list || list.items.empty()) {
    problems.push_back({list.where, "databases",
                        "databases is " + (list.kind == Tree::Kind::list ? "an empty list" : list.shown()) +
                            "; allowed: a list of mappings, each with a name"});
    return;
  }
  for (std::size_t i = 0; i < list.items.size(); ++i) {
    auto entry = list.items[i];
    auto path = "databases[" + std::to_string(i) + "]";
    if (entry.kind != Tree::Kind::map) {
      problems.push_back(
          {entry.where, path, path + " is " + entry.shown() + "; allowed: a mapping with name, host, database …"});
      continue;
    }
    auto one = config;
    one.databases.clear();
    auto const* const name = entry.find("name");
    if (name == nullptr || name->kind != Tree::Kind::scalar || name->text.empty() || name->text.size() > 100) {
      problems.push_back({entry.where, path + ".name",
                          path + (name == nullptr ? ".name is missing; every database has one"
                                                  : ".name is " + name->shown() + "; allowed: 1 to 100 bytes")});
      one.name = path;
    } else {
      one.name = name->text;
      path = "databases[" + one.name + "]";
    }
    for (auto const& other : config.databases) {
      if (other.name == one.name)
        problems.push_back({entry.where, path + ".name", path + ".name stands twice; names are unique"});
    }
    std::erase_if(entry.members, [&](auto const& member) {
      if (!of_process(member.first)) return false;
      problems.push_back({member.second.where, path + "." + member.first,
                          path + "." + member.first + " is for the whole process; write it outside of databases"});
      return true;
    });
    auto const whole = entry_over(outside, entry);
    auto own = entry;
    std::erase_if(own.members, [](auto const& member) { return member.first == "name"; });
    auto const before = problems.size();
    walk_tree(own, path + ".", one, problems);
    // What is for the process has been checked already.
    auto const http = std::exchange(one.http, {});
    check_tree(whole, one, problems);
    one.http = http;
    if (problems.size() == before) resolve_entry_url(whole, path + ".", one, problems);
    one.fingerprint = fingerprint_of(whole, one);
    for (auto const& other : config.databases) {
      // A URL beside the list, which is told above, would be that of every entry.
      if (outside.find("database_url") != nullptr) break;
      if (place_of(other) != place_of(one) || one.database.database_url.empty()) continue;
      problems.push_back(
          {entry.where, path, path + " is the same database as " + other.name + "; one entry a database"});
    }
    config.databases.push_back(std::move(one));
  }
}

namespace {

void expand(Tree& tree, std::vector<std::pair<string, string>> const& environment, std::vector<Problem>& problems) {
  for (auto& item : tree.items) expand(item, environment, problems);
  for (auto& [key, value] : tree.members) expand(value, environment, problems);
  if (tree.kind != Tree::Kind::scalar || tree.text.find("${") == string::npos) return;
  string out;
  for (std::size_t i = 0; i < tree.text.size();) {
    if (tree.text.compare(i, 3, "$${") == 0) {
      out += "${";
      i += 3;
      continue;
    }
    auto const end = tree.text.compare(i, 2, "${") == 0 ? tree.text.find('}', i) : string::npos;
    if (end == string::npos) {
      out += tree.text[i++];
      continue;
    }
    auto const name = tree.text.substr(i + 2, end - i - 2);
    auto const found =
        std::find_if(environment.begin(), environment.end(), [&](auto const& entry) { return entry.first == name; });
    if (found == environment.end()) {
      problems.push_back(
          {tree.where, "",
           "the environment variable " + name + " is not set; set it, or write $${" + name + "} for the text itself"});
    } else {
      out += found->second;
    }
    i = end + 1;
  }
  tree.text = std::move(out);
  tree.quoted = true;
}

}  // namespace

void expand_variables(Tree& root, std::vector<std::pair<string, string>> const& environment,
                      std::vector<Problem>& problems) {
  for (auto& [key, value] : root.members) {
    if (key == "databases") {
      for (auto& entry : value.items) expand_variables(entry, environment, problems);
    } else if (key == "kinds" || key == "schedules") {
      for (auto& [name, one] : value.members) {
        for (auto& [inner, text] : one.members) {
          // Shells, SQL and the requests of HTTP jobs have a meaning of their own for it.
          if (inner != "sql" && inner != "exec" && inner != "http" && inner != "payload" && inner != "headers") {
            expand(text, environment, problems);
          }
        }
      }
    } else {
      expand(value, environment, problems);
    }
  }
}

}  // namespace posthouse::node
