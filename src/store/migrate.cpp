// SPDX-License-Identifier: Apache-2.0
// Brings the schema into a database, up to date and out again.
#include "store/migrate.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <set>

#include "core/names.hpp"
#include "core/refuse.hpp"
#include "pg/text.hpp"
#include "store/block.hpp"
#include "store/migration_sql.hpp"

namespace posthouse::store {
namespace {

constexpr int oldest_server = 140000;

/// A transaction with time enough for a migration of a large table.
class LongBlock : public Block {
 public:
  explicit LongBlock(pg::Connection& connection) : Block(patient(connection)) {}

 private:
  static pg::Connection& patient(pg::Connection& connection) {
    connection.set_deadline(std::chrono::minutes(15));
    return connection;
  }
};

/// What is there by the schema's name.
struct State {
  bool exists = false;
  bool ours = false;
  bool readable = true;        ///< false: meta or migration belongs to a role that does not let us look
  std::string first_object{};  ///< of a schema that is not ours; empty when it is empty
  std::map<int, std::string> applied{};
  std::map<std::string, std::string> meta{};

  [[nodiscard]] int number(char const* key) const {
    auto const it = meta.find(key);
    return it == meta.end() ? 0 : std::atoi(it->second.c_str());
  }
  [[nodiscard]] std::string text(char const* key) const {
    auto const it = meta.find(key);
    return it == meta.end() ? std::string() : it->second;
  }
};

/// look_only: for verify, which goes on when it may not read our own tables.
State read_state(pg::Connection& connection, bool look_only = false) {
  State state;
  pg::Result const found = connection.query(
      "select n.oid, exists (select from pg_catalog.pg_class c where c.relnamespace = n.oid and c.relname = "
      "'migration') "
      "and exists (select from pg_catalog.pg_class c where c.relnamespace = n.oid and c.relname = 'meta'), "
      "coalesce((select 'relation ' || c.relname from pg_catalog.pg_class c where c.relnamespace = n.oid limit 1), "
      "(select 'function ' || p.proname from pg_catalog.pg_proc p where p.pronamespace = n.oid limit 1), "
      "(select 'type ' || t.typname from pg_catalog.pg_type t where t.typnamespace = n.oid limit 1)) "
      "from pg_catalog.pg_namespace n where n.nspname = $1",
      pg::Params().text(connection.schema()));
  if (found.rows() == 0) return state;
  state.exists = true;
  std::string const schema = connection.quoted_schema();
  if (found.field(0, 1) == "t" && look_only) {
    pg::Result const rights = connection.query(
        "select pg_catalog.has_table_privilege($1, 'select') and pg_catalog.has_table_privilege($2, 'select')",
        pg::Params().text(schema + ".meta").text(schema + ".migration"));
    if (rights.field(0, 0) != "t") {
      state.ours = true;
      state.readable = false;
      return state;
    }
  }
  if (found.field(0, 1) == "t") {
    pg::Result const meta = connection.query("select key, value from " + schema + ".meta");
    for (int row = 0; row < meta.rows(); ++row) state.meta[meta.text(row, 0)] = meta.text(row, 1);
    state.ours = state.meta.count("schema_version") != 0;
  }
  if (!state.ours) {
    state.first_object = found.text(0, 2);
    return state;
  }
  pg::Result const applied =
      connection.query("select version, checksum from " + schema + ".migration order by version");
  for (int row = 0; row < applied.rows(); ++row) {
    state.applied[static_cast<int>(applied.int8(row, 0))] = applied.text(row, 1);
  }
  return state;
}

void check_server(pg::Connection& connection) {
  core::check_schema(connection.schema());
  if (connection.server_version() < oldest_server) {
    throw ServerError("this server is PostgreSQL " + std::to_string(connection.server_version() / 10000) +
                          "; posthouse needs 14 or later",
                      {.sqlstate = {}, .in_doubt = false, .hint = "upgrade PostgreSQL or use another server"});
  }
  pg::Result const encoding = connection.query("select current_setting('server_encoding')");
  if (encoding.field(0, 0) != "UTF8") {
    throw ServerError("the database's encoding is " + encoding.text(0, 0) + "; posthouse needs UTF8",
                      {.sqlstate = {},
                       .in_doubt = false,
                       .hint = "create the database with: createdb --encoding UTF8 --template template0"});
  }
}

/// "0.10.2" after "0.9.9".
bool newer(std::string const& left, std::string const& right) {
  auto const parts = [](std::string const& text) {
    std::array<int, 3> numbers{};
    (void)std::sscanf(text.c_str(), "%d.%d.%d", &numbers[0], &numbers[1], &numbers[2]);
    return numbers;
  };
  return parts(left) > parts(right);
}

/// Throws when this program must not touch the schema; the sentence to warn with when it may but is older.
std::string judge(State const& state, std::string const& schema) {
  if (state.number("schema_min_version") > known_version()) {
    throw SchemaMissing("schema \"" + schema + "\" has version " + state.text("schema_version") +
                            ", which needs at least posthouse " + state.text("program_version") + "; this is " +
                            POSTHOUSE_VERSION,
                        {.sqlstate = {}, .in_doubt = false, .hint = "upgrade this program"});
  }
  if (state.number("schema_version") > known_version() || newer(state.text("program_version"), POSTHOUSE_VERSION)) {
    return "schema \"" + schema + "\" was made by posthouse " + state.text("program_version") + ", newer than this " +
           POSTHOUSE_VERSION + "; it is compatible";
  }
  return {};
}

/// The pieces that are missing, without those that create or lock; names what they are. With `anew` the functions are
/// made anew even when they are noted as ours.
std::string missing_sql(State const& state, std::string const& schema, std::vector<std::string>& names,
                        bool anew = false) {
  std::string sql;
  for (Migration const& migration : known_migrations()) {
    auto const it = state.applied.find(migration.version);
    if (it == state.applied.end()) {
      sql += apply_sql(migration);
      names.emplace_back(migration.name);
    } else if (it->second != migration.checksum) {
      throw SchemaMissing("migration " + std::string(migration.name) + " of schema \"" + schema +
                              "\" is not the one that this program carries",
                          {.sqlstate = {},
                           .in_doubt = false,
                           .hint = "the schema comes from a development version: uninstall it and install again"});
    }
  }
  if (anew || !names.empty() || state.text("functions_checksum") != functions_checksum()) {
    sql += functions_sql(schema);
    names.emplace_back("functions");
  }
  return sql;
}

/// Before functions are made anew: what create or replace cannot change.
std::string drops_sql(std::vector<Difference> const& found) {
  std::set<std::string> what;
  for (auto const& difference : found) {
    if (!difference.drop.empty()) what.insert(difference.drop);
  }
  std::string sql;
  for (auto const& object : what) {
    // A routine's name comes quoted from the server, a view's as it is in our own files.
    sql += "drop " + object.substr(0, object.find(' ')) + " if exists " + object.substr(object.find(' ') + 1) + ";\n";
  }
  return sql;
}

bool upgrade_mends(std::vector<Difference> const& found) {
  return std::any_of(found.begin(), found.end(), [](auto const& one) { return one.mend == Mend::upgrade; });
}

/// Of a schema whose versions are ours: mends what is found, and reports the rest.
void mend(pg::Connection& connection, InstallReport& report) {
  std::string const& schema = connection.schema();
  std::vector<Difference> found;
  try {
    found = verify(connection);
  } catch (ServerError const& error) {
    if (error.sqlstate() != "42501") throw;
    report.warnings.push_back("schema \"" + schema + "\" could not be compared with this version: " + error.what());
    return;
  }
  if (upgrade_mends(found)) {
    LongBlock block(connection);
    connection.script(lock_sql(schema));
    State const state = read_state(connection);
    // Somebody may have removed it meanwhile, or brought a newer one.
    if (!state.ours || !judge(state, schema).empty()) return;
    connection.script(settings_sql(schema) + drops_sql(found) + missing_sql(state, schema, report.applied, true));
    block.commit();
    report.changed = true;
  }
  for (auto& one : found) {
    if (one.mend != Mend::upgrade) report.left.push_back(std::move(one));
  }
}

}  // namespace

InstallReport install(pg::Connection& connection, InstallExtras const& extras, Look look) {
  check_server(connection);
  std::string const& schema = connection.schema();
  InstallReport report;
  bool known = false;
  {
    LongBlock block(connection);
    connection.script(lock_sql(schema));
    State const state = read_state(connection);
    if (state.exists && !state.ours && !state.first_object.empty()) {
      core::refuse_because("schema", "\"" + schema + "\" exists and holds " + state.first_object,
                           "a schema of posthouse's, an empty one, or a name that is free",
                           "choose another name with --schema");
    }
    if (std::string warning = judge(state, schema); !warning.empty()) {
      report.warnings.push_back(std::move(warning));
      return report;
    }
    std::string const more = extras_sql(extras.roles, extras.broker_schema);
    std::string const missing = missing_sql(state, schema, report.applied);
    known = missing.empty();
    if (std::string const sql = missing + more; !sql.empty()) {
      if (extras.roles) report.applied.emplace_back("roles");
      if (!extras.broker_schema.empty()) report.applied.push_back("names in " + extras.broker_schema);
      if (!state.exists) connection.script(create_sql(schema));
      connection.script(settings_sql(schema));
      if (!state.ours) connection.script(ledger_sql());
      connection.script(sql);
      block.commit();
      report.changed = true;
    }
  }
  if (look == Look::closely && known) mend(connection, report);
  return report;
}

std::string install_sql(std::string_view schema, InstallExtras const& extras) {
  core::check_schema(schema);
  std::vector<std::string> names;
  return "begin;\n" + lock_sql(schema) + create_sql(schema) + settings_sql(schema) + ledger_sql() +
         missing_sql(State{}, std::string(schema), names) + extras_sql(extras.roles, extras.broker_schema) +
         "commit;\n";
}

std::string upgrade_sql(pg::Connection& connection) {
  check_server(connection);
  std::string const& schema = connection.schema();
  State const state = read_state(connection);
  if (!state.ours) return install_sql(schema);
  if (!judge(state, schema).empty()) return {};
  std::vector<std::string> names;
  std::string sql = missing_sql(state, schema, names);
  if (sql.empty()) {
    auto const found = verify(connection);
    if (upgrade_mends(found)) sql = drops_sql(found) + missing_sql(state, schema, names, true);
  }
  return sql.empty() ? sql : "begin;\n" + lock_sql(schema) + settings_sql(schema) + sql + "commit;\n";
}

std::string uninstall_sql(std::string_view schema) {
  core::check_schema(schema);
  return "begin;\n" + lock_sql(schema) + settings_sql(schema) + unpublish_sql() + "drop schema " +
         pg::quote_identifier(schema) + " cascade;\ncommit;\n";
}

std::vector<Difference> verify(pg::Connection& connection) {
  check_server(connection);
  std::string const& schema = connection.schema();
  LongBlock const block(connection);
  // Not while somebody installs it; other comparisons may.
  connection.script(shared_lock_sql(schema));
  State const state = read_state(connection, true);
  if (!state.exists) return {{"schema " + connection.quoted_schema() + " does not exist", Mend::install, {}}};
  if (!state.ours) return {{"schema " + connection.quoted_schema() + " is not one of posthouse's", Mend::hand, {}}};
  std::vector<Difference> out;
  for (Migration const& migration : known_migrations()) {
    auto const it = state.applied.find(migration.version);
    if (!state.readable) break;  // named below, by its owner
    if (it == state.applied.end()) {
      out.push_back({"migration " + std::string(migration.name) + " is not applied", Mend::upgrade, {}});
    } else if (it->second != migration.checksum) {
      out.push_back({"migration " + std::string(migration.name) + " was applied in another form", Mend::hand, {}});
    }
  }
  for (auto const& [version, sum] : state.applied) {
    if (version > known_version()) {
      out.push_back({"migration " + std::to_string(version) + " is newer than this program", Mend::hand, {}});
    }
  }
  Description const found = describe(connection, schema);
  std::random_device random;
  char shadow[48];
  std::snprintf(shadow, sizeof shadow, "posthouse_verify_%08x%08x", random(), random());
  connection.script(create_sql(shadow) + settings_sql(shadow));
  std::vector<std::string> names;
  connection.script(ledger_sql() + missing_sql(State{}, shadow, names));
  Description const expected = describe(connection, shadow);
  for (Difference& difference : differences(expected, found)) out.push_back(std::move(difference));
  connection.script(settings_sql(schema));
  find_blocked(connection, out);
  return out;
}

std::string verify_sql(std::string_view schema) {
  core::check_schema(schema);
  std::string const shadow = "posthouse_verify";
  auto const described = [](std::string_view which, std::string const& as) {
    std::string query(describe_query());
    query.replace(query.find("$1"), 2, pg::quote_literal(which));
    return "set local search_path = " + pg::quote_identifier(which) + ", pg_temp;\ncreate temporary table " + as +
           " (object, aspect, value) on commit drop as" + query + ";\n";
  };
  auto const ledger = [](std::string_view which) {
    return "(select 'migration ' || name, 'checksum', checksum from " + pg::quote_identifier(which) + ".migration)";
  };
  std::vector<std::string> names;
  return "-- Makes the schema of this version under another name, describes both, shows what differs, and takes it "
         "back.\n"
         "begin;\n" +
         shared_lock_sql(schema) + described(schema, "posthouse_found") + create_sql(shadow) + settings_sql(shadow) +
         ledger_sql() + missing_sql(State{}, shadow, names) + described(shadow, "posthouse_expected") +
         "insert into posthouse_expected " + ledger(shadow) + ";\ninsert into posthouse_found " + ledger(schema) +
         ";\n"
         "select object, aspect, e.value as expected, f.value as found\n"
         "from posthouse_expected e full join posthouse_found f using (object, aspect)\n"
         "where e.value is distinct from f.value\n"
         "order by object, aspect;\n"
         "rollback;\n";
}

void uninstall(pg::Connection& connection) {
  core::check_schema(connection.schema());
  LongBlock block(connection);
  connection.script(lock_sql(connection.schema()));
  State const state = read_state(connection);
  if (!state.ours) {
    throw SchemaMissing("there is no schema of posthouse's named " + connection.quoted_schema() + " to remove",
                        {.sqlstate = {}, .in_doubt = false, .hint = "check --schema and the database"});
  }
  connection.script(settings_sql(connection.schema()) + unpublish_sql() + "drop schema " + connection.quoted_schema() +
                    " cascade");
  block.commit();
}

bool reserve_schema(pg::Connection& connection) {
  return connection
             .query("select pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended($1, 0))",
                    pg::Params().text("posthouse reserved schema " + connection.schema()))
             .field(0, 0) == "t";
}

std::vector<std::string> check_version(pg::Connection& connection) {
  State state;
  pg::Result const meta =
      connection.query("select key, value from " + connection.quoted_schema() +
                       ".meta where key in ('schema_version', 'schema_min_version', 'program_version')");
  for (int row = 0; row < meta.rows(); ++row) state.meta[meta.text(row, 0)] = meta.text(row, 1);
  std::vector<std::string> warnings;
  if (std::string warning = judge(state, connection.schema()); !warning.empty()) warnings.push_back(std::move(warning));
  if (state.number("schema_version") < known_version()) {
    throw SchemaMissing("schema \"" + connection.schema() + "\" has version " + state.text("schema_version") +
                            "; this program needs " + std::to_string(known_version()) + ": run `posthouse upgrade`",
                        {.sqlstate = {}, .in_doubt = false, .hint = "run `posthouse upgrade`"});
  }
  return warnings;
}

void adopt(pg::Connection& connection) { connection.query("select " + connection.quoted_schema() + ".adopt()"); }

std::string describe_schema(pg::Connection& connection) {
  LongBlock const block(connection);
  return to_text(describe(connection, connection.schema()));
}

}  // namespace posthouse::store
