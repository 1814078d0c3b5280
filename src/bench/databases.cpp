// SPDX-License-Identifier: Apache-2.0
// What a broker costs that serves a hundred databases in which nothing happens.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <posthouse/broker.hpp>
#include <posthouse/error.hpp>
#include <posthouse/schema.hpp>

#include "base/process_usage.hpp"
#include "bench/scenarios.hpp"

namespace posthouse::bench {

namespace {

constexpr std::int64_t wanted_databases = 100;
constexpr std::int64_t connections_of_one = 4;  // three at rest, and one for a round of upkeep
constexpr double serve_within_s = 60;
constexpr auto settle = std::chrono::seconds(20);  // the first looks and the first rounds of upkeep are over

/// A number of this process from /proc/self/status.
double own(std::string const& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(name + ":")) return std::stod(line.substr(name.size() + 1));
  }
  return 0;
}

/// The same server, another database: of a keyword that is given twice the last one counts.
std::string other_database(std::string const& url, std::string const& database) {
  if (url.find("://") == std::string::npos) return url + " dbname=" + database;
  return url + (url.find('?') == std::string::npos ? "?" : "&") + "dbname=" + database;
}

/// Databases that go with it.
class Copies {
 public:
  explicit Copies(Site& site) : site_(site), prefix_(site.database().schema + "_") {}
  void make(std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
      site_.interrupt().check();
      if (i % 20 == 0) site_.progress(fmt::format("databases: {} of {} are there", i, count));
      auto const name = prefix_ + std::to_string(i);
      names_.push_back(name);
      site_.sql().query("create database " + name + (i == 0 ? "" : " template " + prefix_ + "0"));
      if (i == 0) install(options(name));
    }
  }
  Copies(Copies const&) = delete;
  Copies& operator=(Copies const&) = delete;
  ~Copies() {
    try {
      // A connection of its own: a signal cancels what runs on the other one.
      auto const sql = pg::Connection::open(site_.database());
      for (auto const& name : names_) sql->query("drop database if exists " + name + " with (force)");
    } catch (std::exception const& error) {
      fmt::print(stderr, "posthouse: databases {}… could not be removed: {}\n", prefix_, error.what());
    }
  }
  [[nodiscard]] DatabaseOptions options(std::string const& name) const {
    auto options = site_.database();
    options.database_url = other_database(options.database_url, name);
    options.schema = "posthouse";
    return options;
  }
  [[nodiscard]] std::vector<std::string> const& names() const noexcept { return names_; }
  [[nodiscard]] std::int64_t ask(std::string const& what, std::string const& from) const {
    return site_.sql()
        .query("select coalesce(" + what + ", 0)::bigint from " + from + " where starts_with(datname, $1)",
               pg::Params{}.text(prefix_))
        .int8(0, 0);
  }

 private:
  Site& site_;
  std::string const prefix_;
  std::vector<std::string> names_;
};

std::string configuration(Copies const& copies) {
  auto const file = std::filesystem::temp_directory_path() / fmt::format("posthouse-bench-{}.yaml", ::getpid());
  std::ofstream out(file);
  out << "databases:\n";
  for (auto const& name : copies.names()) out << fmt::format("  - {{name: {0}, database: {0}, user: bench}}\n", name);
  return file.string();
}

}  // namespace

void databases(Site& site, Options const& options, Figures& figures) {
  auto const room = site.sql().query(
      "select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int -"
      " (select count(*) from pg_stat_activity where backend_type = 'client backend')");
  auto const may = site.sql().query(
      "select rolcreatedb or rolsuper, quote_ident(rolname) from pg_roles where rolname = current_user");
  if (may.text(0, 0) != "t") {
    throw InvalidArgument("the scenario databases makes databases, and the role " + may.text(0, 1) + " may not",
                          {.sqlstate = {},
                           .in_doubt = false,
                           .hint = "ALTER ROLE " + may.text(0, 1) + " CREATEDB, or connect as a role that has it"});
  }
  Copies copies(site);
  copies.make(std::clamp<std::int64_t>(room.int8(0, 0) / connections_of_one - 3, 1, wanted_databases));
  auto const count = static_cast<double>(copies.names().size());
  auto const file = configuration(copies);
  // Beside a list of databases it would be a second answer, which load_config refuses; the site has its own by now.
  ::unsetenv("POSTHOUSE_DATABASE_URL");
  auto const config = load_config(file);
  std::filesystem::remove(file);
  BrokerOptions broker_options;
  broker_options.database = [&](std::string_view name, DatabaseOptions const&) {
    return copies.options(std::string(name));
  };
  double const threads = own("Threads");
  auto const memory = base::memory_of("self").resident_bytes;
  Broker broker(config, broker_options);
  double const began = now_seconds();
  broker.start();
  auto const serving = [&] {
    auto const all = broker.status();
    return std::count_if(all.begin(), all.end(),
                         [](DatabaseStatus const& one) { return one.state == DatabaseState::serving; });
  };
  while (serving() < static_cast<std::int64_t>(count) && now_seconds() - began < serve_within_s) {
    site.interrupt().sleep(std::chrono::milliseconds(10));
  }
  figures.add("databases", count);
  figures.add("databases_served", static_cast<double>(serving()));
  figures.add("databases_all_served_s", now_seconds() - began);
  site.interrupt().sleep(settle);
  site.progress(fmt::format("databases: {} idle for {} s", count, options.seconds));
  auto const before = site.counters();
  auto const commits = copies.ask("sum(xact_commit)", "pg_stat_database");
  double const start = now_seconds();
  site.interrupt().sleep(std::chrono::seconds(options.seconds));
  auto const after = site.counters();
  double const spent = now_seconds() - start;
  figures.add("threads_per_database", (own("Threads") - threads) / count);
  figures.add("connections_per_database", static_cast<double>(copies.ask("count(*)", "pg_stat_activity")) / count);
  figures.add("mib_per_database",
              static_cast<double>(base::memory_of("self").resident_bytes - memory) / (1024.0 * 1024) / count);
  figures.add("queries_per_s_per_database",
              static_cast<double>(copies.ask("sum(xact_commit)", "pg_stat_database") - commits) / spent / count);
  figures.add("broker_cpu_percent_of_a_core", (after.client_cpu_us - before.client_cpu_us) / spent / 1e4);
  if (auto const used = server_cpu_us(before, after)) {
    figures.add("databases_server_cpu_percent_of_a_core", *used / spent / 1e4);
  }
  broker.stop();
}

}  // namespace posthouse::bench
