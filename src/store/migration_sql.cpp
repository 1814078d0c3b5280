// SPDX-License-Identifier: Apache-2.0
// The SQL of the migrator in pieces.
#include "store/migration_sql.hpp"

#include <openssl/evp.h>

#include <charconv>
#include <memory>
#include <stdexcept>

#include "pg/text.hpp"
#include "store/embedded_sql.hpp"

namespace posthouse::store {
namespace {

using Digest = std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)>;

std::string hex(EVP_MD_CTX* context) {
  unsigned char bytes[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  if (EVP_DigestFinal_ex(context, bytes, &length) != 1) throw std::runtime_error("SHA-256 failed");
  static constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (unsigned int i = 0; i < length; ++i) {
    text += digits[bytes[i] >> 4U];
    text += digits[bytes[i] & 15U];
  }
  return text;
}

Digest sha256() {
  Digest context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  if (!context || EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1) {
    throw std::runtime_error("SHA-256 is not available");
  }
  return context;
}

std::string checksum(std::string_view text) {
  Digest const context = sha256();
  EVP_DigestUpdate(context.get(), text.data(), text.size());
  return hex(context.get());
}

std::vector<Migration> read_migrations() {
  std::vector<Migration> list;
  for (SqlFile const& file : migrations()) {
    Migration migration;
    std::from_chars(file.name.data(), file.name.data() + file.name.size(), migration.version);
    migration.name = file.name;
    migration.text = file.text;
    migration.checksum = checksum(file.text);
    migration.breaking = file.text.substr(0, file.text.find('\n')) == "-- breaking";
    if (migration.version != static_cast<int>(list.size()) + 1) {
      throw std::logic_error("sql/migrations: the number of " + std::string(file.name) + " does not follow the last");
    }
    list.push_back(std::move(migration));
  }
  return list;
}

}  // namespace

std::vector<Migration> const& known_migrations() {
  static std::vector<Migration> const list = read_migrations();
  return list;
}

int known_version() { return static_cast<int>(known_migrations().size()); }

int breaking_version() {
  int version = 1;
  for (auto const& migration : known_migrations()) {
    if (migration.breaking) version = migration.version;
  }
  return version;
}

std::string const& functions_checksum() {
  static std::string const sum = [] {
    Digest const context = sha256();
    for (SqlFile const& file : functions()) {
      EVP_DigestUpdate(context.get(), file.name.data(), file.name.size());
      EVP_DigestUpdate(context.get(), file.text.data(), file.text.size());
    }
    return hex(context.get());
  }();
  return sum;
}

namespace {

std::string lock_call(std::string_view function, std::string_view schema) {
  return "select pg_catalog." + std::string(function) + "(pg_catalog.hashtextextended(" +
         pg::quote_literal("posthouse schema " + std::string(schema)) + ", 0));\n";
}

}  // namespace

std::string lock_sql(std::string_view schema) { return lock_call("pg_advisory_xact_lock", schema); }

std::string shared_lock_sql(std::string_view schema) { return lock_call("pg_advisory_xact_lock_shared", schema); }

std::string create_sql(std::string_view schema) { return "create schema " + pg::quote_identifier(schema) + ";\n"; }

std::string settings_sql(std::string_view schema) {
  // Bodies are not checked, since functions of one file call those of a later one. DDL that has to wait for a long
  // transaction makes everybody else queue behind it, so it gives up soon.
  return "set local search_path = " + pg::quote_identifier(schema) +
         ", pg_temp;\n"
         "set local standard_conforming_strings = on;\n"
         "set local client_min_messages = warning;\n"
         "set local check_function_bodies = off;\n"
         "set local lock_timeout = '10s';\n";
}

std::string ledger_sql() {
  return "create table migration (\n"
         "  version int primary key,\n"
         "  name text not null,\n"
         "  checksum text not null,\n"
         "  applied_at timestamptz not null default clock_timestamp()\n"
         ");\n"
         "comment on table migration is 'The migrations that made this schema; posthouse reads and writes it.';\n";
}

std::string apply_sql(Migration const& migration) {
  return std::string(migration.text) + "\ninsert into migration (version, name, checksum) values (" +
         std::to_string(migration.version) + ", " + pg::quote_literal(migration.name) + ", '" + migration.checksum +
         "');\n";
}

std::string functions_sql(std::string_view schema) {
  std::string const name = pg::quote_identifier(schema);
  std::string sql;
  for (SqlFile const& file : functions()) sql += std::string(file.text) + "\n";
  // A function is ours when an earlier install listed it, and old when this transaction has not written it.
  sql += R"sql(do $posthouse$
declare
  f text;
begin
  for f in
    select p.oid::regprocedure::text from pg_catalog.pg_proc p
    where p.pronamespace = quote_ident(current_schema())::regnamespace and p.xmin <> pg_current_xact_id()::xid
      and p.oid::regprocedure::text in (
        select unnest(string_to_array(m.value, E'\n')) from meta m where m.key = 'functions')
  loop
    execute 'drop function ' || f;
  end loop;
end $posthouse$;
)sql";
  for (char const* what : {"schema ", "all tables in schema ", "all sequences in schema ", "all routines in schema "}) {
    sql += "revoke all on " + std::string(what) + name + " from public;\n";
  }
  sql +=
      "insert into meta (key, value)\n"
      "  select 'functions', string_agg(p.oid::regprocedure::text, E'\\n' order by p.oid) from pg_catalog.pg_proc p\n"
      "  where p.pronamespace = quote_ident(current_schema())::regnamespace and p.xmin = pg_current_xact_id()::xid\n"
      "  union all values ('schema_version', '" +
      std::to_string(known_version()) + "'), ('schema_min_version', '" + std::to_string(breaking_version()) +
      "'),\n"
      "    ('functions_checksum', '" +
      functions_checksum() +
      "'), ('program_version', '" POSTHOUSE_VERSION
      "')\n"
      "  on conflict (key) do update set value = excluded.value;\n";
  // What an earlier install was told to keep up. First the names in another schema, which end with the rights.
  sql += R"sql(do $posthouse$
declare
  v_published text := (select m.value from meta m where m.key = 'broker_schema');
begin
  if v_published is not null then perform broker_publish(v_published); else perform grant_roles(); end if;
end $posthouse$;
)sql";
  return sql;
}

std::string extras_sql(bool roles, std::string_view broker_schema) {
  std::string sql;
  if (roles) sql += "do $posthouse$ begin perform install_roles(); end $posthouse$;\n";
  if (!broker_schema.empty()) {
    sql += "do " + pg::quote_literal("begin perform broker_publish(" + pg::quote_literal(broker_schema) + "); end") +
           ";\n";
  }
  return sql;
}

std::string unpublish_sql() {
  return "do $posthouse$ begin perform broker_unpublish(); exception when undefined_function then null; end "
         "$posthouse$;\n";
}

}  // namespace posthouse::store
