// SPDX-License-Identifier: Apache-2.0
#include "store/upkeep.hpp"

namespace posthouse::store {

namespace {

/// INSERTs queue behind a statement that waits for an exclusive lock on job, so none waits longer than this.
constexpr auto lock_wait = "50ms";
constexpr std::string_view lock_not_available = "55P03";

}  // namespace

std::string Upkeep::table(std::string const& name) const {
  return connection_.quoted_schema() + "." + connection_.quote_identifier(name);
}

void Upkeep::keep(Retention const& retention) {
  auto const set = [this](char const* key, std::chrono::milliseconds value) {
    connection_.query("insert into " + table("meta") +
                          " values ($1, ($2::bigint * interval '1 millisecond')::text)"
                          " on conflict (key) do update set value = excluded.value where meta.value <> excluded.value",
                      pg::Params{}.text(key).int8(value.count()));
  };
  if (retention.succeeded) set("retention_succeeded", *retention.succeeded);
  if (retention.dead) set("retention_dead", *retention.dead);
  if (retention.results) set("retention_results", *retention.results);
}

int Upkeep::rotate_ahead() {
  return static_cast<int>(connection_.query("select " + table("rotate_ahead") + "()").int8(0, 0));
}

std::vector<std::string> Upkeep::names(std::string const& sql) {
  auto const result = connection_.query(sql);
  std::vector<std::string> names;
  for (int row = 0; row < result.rows(); ++row) names.push_back(result.text(row, 0));
  return names;
}

std::vector<std::string> Upkeep::droppable() { return names("select * from " + table("droppable") + "()"); }
std::vector<std::string> Upkeep::detaching() {
  return names("select relname from " + table("partition") + " where detaching");
}
std::vector<std::string> Upkeep::detached() { return names("select * from " + table("detached") + "()"); }
std::vector<std::string> Upkeep::unfrozen() { return names("select * from " + table("unfrozen") + "()"); }

bool Upkeep::alter(std::string const& sql) {
  connection_.query(std::string("set lock_timeout = '") + lock_wait + "'");
  bool done = true;
  try {
    connection_.query(sql);
  } catch (Error const& error) {
    if (error.sqlstate() != lock_not_available) throw;
    done = false;
  }
  connection_.query("reset lock_timeout");
  return done;
}

bool Upkeep::detach(std::string const& partition) {
  return alter("alter table " + table("job") + " detach partition " + table(partition) + " concurrently");
}

bool Upkeep::finish_detach(std::string const& partition) {
  return alter("alter table " + table("job") + " detach partition " + table(partition) + " finalize");
}

bool Upkeep::drop_detached(std::string const& partition) {
  return connection_.query("select " + table("drop_detached") + "($1)", pg::Params{}.text(partition)).field(0, 0) ==
         "t";
}

void Upkeep::freeze(std::string const& partition) {
  connection_.query("vacuum (freeze, analyze) " + table(partition));
  connection_.query("insert into " + table("meta") + " values ('frozen:' || $1, now()::text) on conflict do nothing",
                    pg::Params{}.text(partition));
}

std::int64_t Upkeep::prune(int limit) {
  return connection_.query("select " + table("prune") + "($1)", pg::Params{}.int8(limit)).int8(0, 0);
}

}  // namespace posthouse::store
