// SPDX-License-Identifier: Apache-2.0
// The configuration as text: what is in use, and an example to start from.
#include <fmt/format.h>

#include <iterator>

#include "base/utf8.hpp"
#include "core/database_url.hpp"
#include "node/config_keys.hpp"

namespace posthouse::node {
namespace {

/// A double-quoted YAML (and JSON) scalar when plain text would not do.
std::string yaml(std::string_view text) {
  bool plain = !text.empty();
  for (char const c : text) {
    plain = plain && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
                      c == '-' || c == '.' || c == '/');
  }
  if (plain && text[0] != '-' && text[0] != '.') return std::string(text);
  std::string out = "\"";
  while (!text.empty()) {
    auto const point = base::first_code_point(text);
    auto const raw = text.substr(0, point.length);
    text.remove_prefix(point.length);
    if (raw == "\"" || raw == "\\") {
      out += '\\';
      out += raw;
    } else if (point.valid && (point.value < 0x20 || (point.value >= 0x7F && point.value < 0xA0))) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(point.value));
    } else {
      out += raw;
    }
  }
  return out + '"';
}

/// A variable's value may be a password; its name is not.
std::string hide_value(std::string const& entry) {
  auto const equals = entry.find('=');
  return equals == std::string::npos ? entry : entry.substr(0, equals) + "=***";
}

/// Headers and queries of HTTP jobs carry secrets, unless they name where those are.
bool is_secret_header(std::string_view name, std::string_view value) {
  std::string small(name);
  for (char& c : small) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  bool const plain = small == "content-type" || small == "accept" || small == "user-agent";
  return !plain && value.find("${") == std::string_view::npos && value.find("{{") == std::string_view::npos;
}

std::string without_query(std::string const& url) {
  auto const query = url.find('?');
  if (query == std::string::npos || url.find_first_of("${", query) != std::string::npos) return url;
  return url.substr(0, query) + "?***";
}

bool is_url(std::string_view key) { return key == "database_url" || key == "session_database_url"; }

void write_tree(std::string& out, Tree const& tree, std::size_t indent, bool hide, std::string_view within = "") {
  std::string const space(indent, ' ');
  if (tree.kind == Tree::Kind::scalar) {
    out += " " + yaml(hide ? "***" : within == "url" ? without_query(tree.text) : tree.text) + "\n";
  }
  if (tree.kind == Tree::Kind::null) out += "\n";
  if (tree.kind == Tree::Kind::list) {
    out += "\n";
    for (auto const& item : tree.items) out += space + "- " + yaml(hide ? hide_value(item.text) : item.text) + "\n";
  }
  if (tree.kind == Tree::Kind::map) {
    out += "\n";
    for (auto const& [key, value] : tree.members) {
      out += space + yaml(key) + ":";
      if (key == "payload" && value.kind != Tree::Kind::scalar) {
        out += " " + yaml(json_of(value)) + "\n";
        continue;
      }
      if (is_url(key) && value.kind == Tree::Kind::scalar) {
        out += " " + yaml(core::redact_database_url(value.text)) + "\n";
        continue;
      }
      if (within == "headers" && value.kind == Tree::Kind::scalar && is_secret_header(key, value.text)) {
        out += " \"***\"\n";
        continue;
      }
      // Only an HTTP job's own: those of a schedule are the job's, which everybody may read.
      bool const inside = within == "http" && (key == "headers" || key == "url");
      write_tree(out, value, indent + 2, key == "env" || key == "password",
                 key == "http" || inside ? std::string_view(key) : "");
    }
  }
}

std::string shown_value(Key const& key, Tree const& node) {
  if (key.path.ends_with("database_url")) return yaml(core::redact_database_url(node.text));
  return key.secret ? "\"***\"" : yaml(node.text);
}

/// Key by key, with the headings of nested keys as they come.
class Sections {
 public:
  explicit Sections(std::string& out) : out_(out) {}

  /// Returns the indentation of the key's own line.
  std::string enter(std::string_view path, std::string_view comment = "") {
    auto const dot = path.find('.');
    auto const section = dot == std::string_view::npos ? std::string_view{} : path.substr(0, dot);
    if (section != current_ && !section.empty()) out_ += fmt::format("{}{}:\n", comment, section);
    current_ = section;
    return section.empty() ? "" : "  ";
  }

 private:
  std::string& out_;
  std::string_view current_{};
};

Tree const* find_path(Tree const& root, std::string_view path) {
  Tree const* node = &root;
  while (node != nullptr && !path.empty()) {
    auto const dot = path.find('.');
    node = node->find(path.substr(0, dot));
    path = dot == std::string_view::npos ? std::string_view{} : path.substr(dot + 1);
  }
  return node;
}

}  // namespace

std::string show(Sources const& sources) {
  Config config;
  std::vector<Problem> problems;
  auto const root = merged(sources, config, problems);
  fill(root, sources, config, problems);
  if (!problems.empty()) throw ConfigError(std::move(problems));
  auto const* const list = root.find("databases");

  std::string out = fmt::format("# file: {}\n", config.file.empty() ? "none" : config.file);
  if (list != nullptr) {
    // Each entry as it is written; what it does not say is what stands below, outside of the list.
    out += "databases:\n";
    for (std::size_t i = 0; i < list->items.size(); ++i) {
      std::string text;
      write_tree(text, list->items[i], 4, false);
      out += fmt::format("  # the URL in use: {}\n  -{}",
                         core::redact_database_url(config.databases[i].database.database_url), text.substr(4));
    }
  } else if (config.url_source.empty()) {
    out += "# there is no database URL\n";
  } else {
    out += fmt::format("# the URL in use, from {}: {}\n", config.url_source,
                       core::redact_database_url(config.database.database_url));
  }
  Sections sections(out);
  for (auto const& key : keys()) {
    if (key.path.find('*') != std::string_view::npos) continue;
    auto const* node = find_path(root, key.path);
    // The parts of a URL have defaults only where there is no URL; read back, they would contradict one.
    bool const part = key.path == "host" || key.path == "port" || key.path == "sslmode";
    if (node == nullptr && (key.fallback.empty() || part)) continue;
    auto const indent = sections.enter(key.path);
    auto const name = key.path.substr(key.path.rfind('.') + 1);
    out += fmt::format("{}{}: {}  # {}\n", indent, name, node == nullptr ? yaml(key.fallback) : shown_value(key, *node),
                       node == nullptr ? "default" : node->where);
  }
  for (auto const* const section : {"queues", "run_as", "kinds", "schedules"}) {
    auto const* const named = root.find(section);
    if (named == nullptr || named->members.empty()) continue;
    out += fmt::format("{}:", section);
    write_tree(out, *named, 2, false);
  }
  return out;
}

std::string example() {
  std::string out =
      "# Configuration of posthouse. Every key may also come from the environment: logging.level is\n"
      "# POSTHOUSE_LOGGING__LEVEL, the password of db1 is POSTHOUSE_DATABASES__DB1__PASSWORD. In texts, ${NAME} stands "
      "for\n"
      "# the variable NAME. What is commented out here stands at its default or is optional.\n"
      "# Durations: a number in the key's unit, or 250ms, 30s, 5m, 1h, 2d.\n\n"
      "# The databases of `posthouse start`. Every key below may stand in an entry too, and wins there, but for those "
      "of\n"
      "# logging and http. A configuration for one database has its keys outside of a list instead.\n"
      "databases:\n"
      "  - name: db1             # for people, logs and --database; unique\n"
      "    host: localhost\n"
      "    port: 5432\n"
      "    database: app\n"
      "    user: app\n"
      "    # password: ${DB1_PASSWORD}      # or password_file, or ~/.pgpass; or database_url instead of all these\n"
      "    sslmode: prefer\n"
      "    queue_count: 4        # numbered queues 1 to 4\n"
      "    max_open_conns: 25\n"
      "    max_idle_conns: 5\n"
      "    conn_max_lifetime: 5m\n"
      "    conn_max_idle_time: 10m\n"
      "    # queues:\n"
      "    #   2: {concurrency: 1, buffer_size: 50, idle_timeout_sec: 10}\n"
      "    # run_as:             # how jobs log in as other roles; one of the means\n"
      "    #   reporting: {password: \"${REPORTING_PASSWORD}\"}\n"
      "    #   billing: {password_file: /etc/posthouse/billing}\n"
      "    #   audit: {sslcert: /etc/posthouse/audit.crt, sslkey: /etc/posthouse/audit.key}\n"
      "    #   local: {peer: true}\n\n";
  Sections sections(out);
  for (auto const& key : keys()) {
    if (key.path.find('*') != std::string_view::npos) continue;
    auto const indent = sections.enter(key.path, "# ");
    auto const name = key.path.substr(key.path.rfind('.') + 1);
    auto const value = key.sample.empty() ? yaml(key.fallback) : yaml(key.sample);
    out += fmt::format("# {}{}: {}  # {}\n", indent, name, value, key.meaning);
  }
  out +=
      "\n# Limits of queues, in all workers together.\n"
      "# queues:\n"
      "#   reports:\n"
      "#     max_concurrency: 20\n"
      "#     requests_per_second: 100\n"
      "#     burst: 200\n"
      "\n# Handlers without code. Each kind has exec, sql or http.\n"
      "kinds:\n"
      "  resize_image:\n"
      "    # A program: argv, no shell. The payload is its standard input; POSTHOUSE_JOB_ID, _KIND, _QUEUE, _ATTEMPT,\n"
      "    # _DEADLINE and _TOKEN say more. Exit status 0: done; 75: not now, later; any other: failed, tried again.\n"
      "    exec: [/usr/local/bin/resize, --quiet]\n"
      "    env: [HOME, LANG=C.UTF-8]\n"
      "    timeout: 5m\n"
      "    max_attempts: 5\n"
      "    concurrency_limit: 2        # at once in all workers together\n"
      "    requests_per_second: 10     # started in all workers together\n"
      "    backoff: {type: exponential, first: 1s, longest: 1h, jitter: 0.25}\n"
      "  count_visit:\n"
      "    # SQL: statements in one transaction, which also completes the job.\n"
      "    sql:\n"
      "      - insert into visit (page) values (current_setting('posthouse.payload')::jsonb ->> 'page')\n"
      "      - update page set visits = visits + 1\n"
      "          where name = current_setting('posthouse.payload')::jsonb ->> 'page'\n"
      "    timeout: 10s\n"
      "    backoff: [1s, 10s, 1m]\n"
      "  tell_crm:\n"
      "    # HTTP: 2xx is success and the body the result; 5xx and silence are tried again; Retry-After is obeyed.\n"
      "    http:\n"
      "      url: https://crm.example.com/contacts/{{payload.id}}\n"
      "      method: PUT\n"
      "      headers: {X-Source: \"job {{job.id}}\"}     # secrets: Authorization: \"Bearer ${CRM_TOKEN}\"\n"
      "      body: {name: \"{{payload.name}}\", attempt: \"{{job.attempt}}\"}\n"
      "      timeout: 20s\n"
      "\n# Schedules of this application. Those that are not here any more are removed, those of others never.\n"
      "# application: shop\n"
      "# schedules:\n"
      "#   nightly-report:\n"
      "#     kind: count_visit\n"
      "#     cron: \"30 2 * * mon-fri\"     # or every: 5m, or at: 2030-01-31T12:00:00Z\n"
      "#     time_zone: Europe/Berlin\n"
      "#     payload: {page: all}\n"
      "#     overlap: skip\n"
      "#     timeout: 10m\n";
  return out;
}

}  // namespace posthouse::node
