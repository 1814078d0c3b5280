// SPDX-License-Identifier: Apache-2.0
// See home.hpp.
#include "bench/home.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <vector>

#include <posthouse/error.hpp>
#include <posthouse/schema.hpp>

#include "base/random.hpp"

namespace posthouse::bench {

namespace {

// Of the name $1: does a session hold its lock, in whatever database of the server? The key's halves are shown apart.
constexpr char const* unlocked =
    " not exists (select from pg_locks l where l.locktype = 'advisory' and l.objsubid = 1 and l.granted"
    " and (l.classid::bigint << 32) | l.objid::bigint = hashtextextended(substring({0} from {1}), 0))";
constexpr auto remove_within = std::chrono::seconds(10);  // a statement of the dead may still hold its locks
constexpr char const* schema_pattern = "'^(posthouse_bench_[0-9]+_[0-9a-f]{8})$'";
constexpr char const* database_pattern = "'^(posthouse_bench_[0-9]+_[0-9a-f]{8})_[0-9]+$'";

}  // namespace

Home::Home(DatabaseOptions database, Progress const& progress) : database_(std::move(database)) {
  database_.statement_timeout = std::chrono::minutes(10);
  // A lock of a session means nothing behind a transaction pooler: there the name is one that nobody removes.
  bool const can_lock = !database_.pgbouncer_transaction_mode || !database_.session_database_url.empty();
  database_.schema =
      fmt::format("posthouse_bench_{}_{}{}", ::getpid(), can_lock ? "" : "pooled_", base::random_uuid().substr(0, 8));
  if (can_lock) {
    guard_ = pg::Connection::open_session(database_);
    guard_->query("select pg_advisory_lock(hashtextextended($1, 0))", pg::Params{}.text(database_.schema));
    remove_left_behind(progress);
  }
  install(database_);
}

Home::~Home() {
  try {
    uninstall(database_);
  } catch (std::exception const& error) {
    fmt::print(stderr, "posthouse: schema {} could not be removed: {}\n", database_.schema, error.what());
  }
}

void Home::renew() const {
  try {
    uninstall(database_);
  } catch (SchemaMissing const&) {  // the last renewal came no further than this
  }
  install(database_);
}

void Home::remove_left_behind(Progress const& progress) {
  auto const names = [&](std::string const& table, std::string const& name, std::string const& owner,
                         std::string const& pattern) {
    auto const rows = guard_->query(fmt::format("select {0} from {1} where {0} ~ {2} and pg_has_role({3}, 'usage') and",
                                                name, table, pattern, owner) +
                                    fmt::format(fmt::runtime(unlocked), name, pattern));
    std::vector<std::string> found;
    for (int i = 0; i < rows.rows(); ++i) found.push_back(rows.text(i, 0));
    return found;
  };
  auto const attempt = [&](std::string const& what, std::function<void()> const& remove) {
    try {
      remove();
      progress(what + ", left by a run that is gone, is removed");
    } catch (Error const& error) {
      progress(what + ", left by a run that is gone, could not be removed: " + error.what());
    }
  };
  for (auto const& schema : names("pg_namespace", "nspname", "nspowner", schema_pattern)) {
    attempt("schema " + schema, [&] {
      auto options = database_;
      options.schema = schema;
      options.statement_timeout = remove_within;
      uninstall(options);
    });
  }
  for (auto const& name : names("pg_database", "datname", "datdba", database_pattern)) {
    attempt("database " + name, [&] { guard_->query("drop database if exists " + name + " with (force)"); });
  }
}

}  // namespace posthouse::bench
