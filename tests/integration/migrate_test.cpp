// SPDX-License-Identifier: Apache-2.0
// The migrator: any name, any number at once, all or nothing, every difference named.
#include "store/migrate.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <future>
#include <sstream>

#include <posthouse/error.hpp>
#include <posthouse/schema.hpp>

#include "support/database.hpp"
#include "support/tcp_gate.hpp"

namespace posthouse::test {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// An empty database and a role that owns it and can do nothing else.
class MigrateTest : public ::testing::Test {
 protected:
  MigrateTest() {
    role = database.name() + "_owner";
    sql.exec("create role " + role + " login nosuperuser nocreatedb nocreaterole");
    sql.exec("alter database " + database.name() + " owner to " + role);
  }
  ~MigrateTest() override {
    sql.exec("reassign owned by " + role + " to current_user; drop owned by " + role + "; drop role " + role);
  }
  MigrateTest(MigrateTest const&) = delete;
  MigrateTest& operator=(MigrateTest const&) = delete;

  [[nodiscard]] std::string url() const {
    return database.url() + (database.url().find('?') == std::string::npos ? "?user=" : "&user=") + role;
  }
  [[nodiscard]] DatabaseOptions options(std::string schema = "posthouse") const {
    DatabaseOptions o;
    o.database_url = url();
    o.schema = std::move(schema);
    return o;
  }
  [[nodiscard]] std::int64_t schemas() {
    return sql.number(
        "select count(*) from pg_namespace where nspname !~ '^pg_' and nspname not in ('information_schema', "
        "'public')");
  }

  TestDatabase database{TestDatabase::empty};
  Sql sql{database.url()};
  std::string role{};
};

TEST_F(MigrateTest, AnOrdinaryOwnerInstallsVerifiesAndRemoves) {
  EXPECT_TRUE(install(options()));
  EXPECT_FALSE(install(options())) << "nothing to do the second time";
  EXPECT_THAT(verify(options()), IsEmpty());
  EXPECT_THAT(store::check_version(*pg::Connection::open(options())), IsEmpty());
  EXPECT_EQ(sql.number("select posthouse.enqueue('k')"), 1);
  uninstall(options());
  EXPECT_EQ(schemas(), 0);
  EXPECT_THAT(verify(options()), ElementsAre("schema \"posthouse\" does not exist"));
  EXPECT_THROW(uninstall(options()), SchemaMissing);
  EXPECT_THROW(store::check_version(*pg::Connection::open(options())), SchemaMissing);
}

TEST_F(MigrateTest, AnyNameWorksAndNothingIsRunOfIt) {
  sql.exec("create table x (a int)");
  for (std::string const& name : {std::string("we\"ird; drop table x; --"), std::string("a'b\\c"), std::string("UPPER"),
                                  std::string("select"), std::string("ünïcödé ☃"), std::string(48, 'n')}) {
    SCOPED_TRACE(name);
    EXPECT_TRUE(install(options(name)));
    EXPECT_FALSE(install(options(name)));
    EXPECT_THAT(verify(options(name)), IsEmpty());
    auto const connection = pg::Connection::open(options(name));
    EXPECT_EQ(connection->query("select " + connection->quoted_schema() + ".enqueue('k')").int8(0, 0), 1);
    uninstall(options(name));
    EXPECT_EQ(schemas(), 0);
  }
  EXPECT_EQ(sql.number("select count(*) from x"), 0);
  for (std::string const& bad : {std::string(), std::string(49, 'n'), std::string("pg_mine"), std::string("a\0b", 3)}) {
    EXPECT_THROW(install(options(bad)), InvalidArgument) << bad;
  }
}

TEST_F(MigrateTest, TwentyAtOnceMakeOneSchema) {
  std::vector<std::future<bool>> installs;
  for (int i = 0; i < 20; ++i) {
    installs.push_back(std::async(std::launch::async, [&] { return install(options()); }));
  }
  int changed = 0;
  for (auto& one : installs) changed += one.get() ? 1 : 0;
  EXPECT_EQ(changed, 1);
  EXPECT_THAT(verify(options()), IsEmpty());
}

TEST_F(MigrateTest, AnInstallThatIsCutOffLeavesNothing) {
  TcpGate gate(url());
  DatabaseOptions cut = options();
  cut.database_url = gate.url();
  std::size_t const whole = install_sql(options()).size();
  int cuts = 0;
  for (std::size_t bytes = 1000; bytes < whole; bytes += whole / 7) {
    gate.cut_after(bytes, TcpGate::Way::to_server);
    EXPECT_THROW(install(cut), Unavailable);
    EXPECT_EQ(schemas(), 0);
    ++cuts;
  }
  EXPECT_GE(cuts, 5);
  EXPECT_TRUE(install(cut));
  EXPECT_THAT(verify(options()), IsEmpty());
}

TEST_F(MigrateTest, ASchemaOfSomebodyElseIsLeftAlone) {
  sql.exec("create schema posthouse authorization " + role + "; create table posthouse.theirs (a int)");
  try {
    install(options());
    FAIL() << "installed over a foreign schema";
  } catch (InvalidArgument const& error) {
    EXPECT_THAT(error.what(), HasSubstr("theirs"));
  }
  EXPECT_THROW(uninstall(options()), SchemaMissing);
  EXPECT_EQ(sql.number("select count(*) from posthouse.theirs"), 0);
  sql.exec("drop table posthouse.theirs");
  EXPECT_TRUE(install(options())) << "an empty one is taken";
}

TEST_F(MigrateTest, NothingIsOpenToPublic) {
  install(options());
  sql.exec("create role nobody_" + role + " login");
  EXPECT_EQ(sql.number("select count(*) from pg_proc p where pronamespace = 'posthouse'::regnamespace and "
                       "has_function_privilege('nobody_" +
                       role + "', p.oid, 'execute')"),
            0);
  EXPECT_EQ(sql.number("select count(*) from pg_class c where relnamespace = 'posthouse'::regnamespace and relkind in "
                       "('r', 'p', 'v') and has_table_privilege('nobody_" +
                       role + "', c.oid, 'select, insert, update, delete')"),
            0);
  EXPECT_EQ(
      sql.number("select count(*) from pg_proc p where pronamespace = 'posthouse'::regnamespace and prosecdef and "
                 "not coalesce(proconfig::text like '%search_path=posthouse, pg_temp%', false)"),
      0)
      << "a security definer function without a pinned search_path";
  sql.exec("drop role nobody_" + role);
}

TEST_F(MigrateTest, VerifyNamesEachDifference) {
  install(options());
  struct Case {
    std::string change;
    std::string sentence;
  };
  for (auto const& [change, sentence] : std::vector<Case>{
           {"drop index posthouse.dead_ended", "index dead_ended is missing"},
           {"create index extra on posthouse.job (headers)", "index extra is not part of this version"},
           {"alter table posthouse.meta owner to current_user", "table meta belongs to role"},
           {"alter table posthouse.queue add column extra int", "column queue.extra is not part of this version"},
           {"alter table posthouse.queue alter column paused drop not null", "column queue.paused has the definition"},
           {"drop table posthouse.heartbeat cascade", "table heartbeat is missing"},
           {"create or replace function posthouse.channel() returns text language sql stable security definer set "
            "search_path = posthouse, pg_temp as $$ select 'x'::text $$",
            "function channel() has a changed body"},
           {"alter function posthouse.ring(bigint) security invoker", "function ring(bigint) has the definition"},
           {"alter function posthouse.ring(bigint) set search_path = public",
            "function ring(bigint) has the definition"},
           {"drop function posthouse.pause_queue(text)", "function pause_queue(text) is missing"},
           {"create function posthouse.extra() returns int language sql as 'select 1'",
            "function extra() is not part of this version"},
           {"alter function posthouse.channel() owner to current_user", "function channel() belongs to role"},
           {"grant select on posthouse.job to public", "table job grants SELECT to PUBLIC"},
           {"grant update (value) on posthouse.meta to public", "column meta.value grants UPDATE to PUBLIC"},
           {"grant execute on function posthouse.channel() to public", "function channel() grants EXECUTE to PUBLIC"},
           {"grant usage on schema posthouse to public", "schema grants USAGE to PUBLIC"},
           {"alter table posthouse.batch set (fillfactor = 100)", "table batch has the definition"},
           {"create trigger extra before insert on posthouse.meta execute function "
            "suppress_redundant_updates_trigger()",
            "trigger extra on meta is not part of this version"},
           {"delete from posthouse.migration", "migration 0001_engine.sql is not applied"},
       }) {
    sql.exec("begin; " + change + "; commit");
    EXPECT_THAT(verify(options()), Contains(HasSubstr(sentence))) << change;
    sql.exec("drop schema posthouse cascade");
    install(options());
  }
}

TEST_F(MigrateTest, WhatVerifySaysUpgradeMendsItMends) {
  install(options());
  auto const connection = pg::Connection::open(options());
  Sql owner(url());
  owner.exec(
      "set search_path = posthouse;"
      "drop function fence(); create function fence() returns text language sql as 'select null::text';"
      "drop function pause_queue(text);"
      "alter function ring(bigint) security invoker; alter function wake(text) reset search_path;"
      "create or replace function channel() returns text language sql as $$ select 'x'::text $$;"
      "drop view limits; drop view partition; create view partition as select 1 as one;"
      "grant select on job to public; grant update (value) on meta to public;"
      "grant execute on function channel() to public; grant usage on schema posthouse to public");
  auto const found = store::verify(*connection);
  EXPECT_GE(found.size(), 10U);
  for (auto const& one : found) EXPECT_EQ(one.mend, store::Mend::upgrade) << one.sentence;
  EXPECT_FALSE(store::install(*connection).changed) << "the versions alone say nothing";
  auto const report = store::install(*connection, {}, store::Look::closely);
  EXPECT_TRUE(report.changed);
  EXPECT_THAT(report.applied, ElementsAre("functions"));
  EXPECT_THAT(report.left, IsEmpty());
  EXPECT_THAT(verify(options()), IsEmpty());

  owner.exec(
      "set search_path = posthouse;"
      "drop index dead_ended; alter table queue add column extra int; create view theirs as select 1 as one;"
      "create function extra() returns int language sql as 'select 1'; revoke all on function extra() from public");
  auto const by_hand = store::verify(*connection);
  EXPECT_GE(by_hand.size(), 4U);
  for (auto const& one : by_hand) EXPECT_EQ(one.mend, store::Mend::hand) << one.sentence;
  auto const again = store::install(*connection, {}, store::Look::closely);
  EXPECT_FALSE(again.changed);
  EXPECT_EQ(store::sentences(again.left), store::sentences(by_hand));
  EXPECT_EQ(store::upgrade_sql(*connection), "");
}

TEST_F(MigrateTest, WhatOthersDependOnIsNotPromised) {
  install(options());
  auto const connection = pg::Connection::open(options());
  Sql owner(url());
  owner.exec(
      "set search_path = posthouse;"
      "drop view partition; create view partition as select 1 as one; create view theirs as select one from partition;"
      "drop function fence(); create function fence() returns text language sql as 'select null::text'");
  auto const found = store::verify(*connection);
  EXPECT_THAT(store::sentences(found), Contains(HasSubstr("other objects depend on it and have to be dropped first")));
  for (auto const& one : found) EXPECT_EQ(one.mend, store::Mend::hand) << one.sentence;
  EXPECT_FALSE(store::install(*connection, {}, store::Look::closely).changed);
  owner.exec("drop view posthouse.theirs");
  EXPECT_TRUE(store::install(*connection, {}, store::Look::closely).changed);
  EXPECT_THAT(verify(options()), IsEmpty());
}

TEST_F(MigrateTest, PrintedUpgradeMendsToo) {
  install(options());
  Sql owner(url());
  owner.exec(
      "drop function posthouse.fence(); create function posthouse.fence() returns text language sql as "
      "'select null::text'");
  auto const connection = pg::Connection::open(options());
  owner.exec(store::upgrade_sql(*connection));
  EXPECT_THAT(verify(options()), IsEmpty());
  EXPECT_EQ(store::upgrade_sql(*connection), "");
}

TEST_F(MigrateTest, UpgradesAtOnceMendOneChange) {
  install(options());
  Sql(url()).exec("drop function posthouse.fence()");
  std::vector<std::future<bool>> upgrades;
  for (int i = 0; i < 6; ++i) {
    upgrades.push_back(std::async(std::launch::async, [&] {
      return store::install(*pg::Connection::open(options()), {}, store::Look::closely).changed;
    }));
  }
  int changed = 0;
  for (auto& one : upgrades) changed += one.get() ? 1 : 0;
  EXPECT_GE(changed, 1);
  EXPECT_THAT(verify(options()), IsEmpty());
}

TEST_F(MigrateTest, AnOwnerWithoutTheRightToMakeSchemasMayStillInstallAgain) {
  install(options());
  sql.exec("alter database " + database.name() + " owner to current_user; revoke create on database " +
           database.name() + " from " + role + ", public");
  auto const connection = pg::Connection::open(options());
  auto const report = store::install(*connection, {}, store::Look::closely);
  EXPECT_FALSE(report.changed);
  EXPECT_THAT(report.warnings, ElementsAre(HasSubstr("could not be compared")));
}

TEST_F(MigrateTest, VerifyLeavesNothingBehindAndPartitionsAreNoDifference) {
  install(options());
  sql.exec("select posthouse.rotate_ahead()");
  EXPECT_GT(sql.number("select count(*) from pg_inherits where inhparent = 'posthouse.job'::regclass"), 1);
  EXPECT_THAT(verify(options()), IsEmpty());
  EXPECT_EQ(schemas(), 1);
}

TEST_F(MigrateTest, ChangedFunctionsAreMadeAnewAndOldOnesOfOursGo) {
  install(options());
  // As an older version left it: other functions, one of them gone by now; and one that is the users' own.
  sql.exec(
      "create or replace function posthouse.channel() returns text language sql as $$ select 'old'::text $$;"
      "create function posthouse.gone(int) returns int language sql as 'select 1';"
      "create function posthouse.theirs(int) returns int language sql as 'select 1';"
      "alter function posthouse.gone(int) owner to " +
      role +
      ";"
      "update posthouse.meta set value = 'other' where key = 'functions_checksum';"
      "update posthouse.meta set value = value || E'\\ngone(integer)' where key = 'functions'");
  EXPECT_TRUE(install(options()));
  EXPECT_THAT(verify(options()), ElementsAre("function theirs(integer) is not part of this version"));
}

TEST_F(MigrateTest, AnOlderProgramRefusesABreakingSchemaAndOnlyWarnsOfAnother) {
  install(options());
  sql.exec("update posthouse.meta set value = '99' where key = 'schema_version'");
  sql.exec("update posthouse.meta set value = '9.9.9' where key = 'program_version'");
  auto const connection = pg::Connection::open(options());
  EXPECT_THAT(store::check_version(*connection), ElementsAre(HasSubstr("9.9.9")));
  auto const report = store::install(*connection);
  EXPECT_FALSE(report.changed);
  EXPECT_THAT(report.warnings, ElementsAre(HasSubstr("9.9.9")));
  EXPECT_EQ(sql.one("select value from posthouse.meta where key = 'schema_version'"), "99") << "left as it is";
  sql.exec("update posthouse.meta set value = '99' where key = 'schema_min_version'");
  EXPECT_THROW(store::check_version(*connection), SchemaMissing);
  EXPECT_THROW(store::install(*connection), SchemaMissing);
  sql.exec("update posthouse.meta set value = '0' where key like 'schema_%version'");
  EXPECT_THROW(store::check_version(*connection), SchemaMissing) << "older than this program: upgrade first";
}

TEST_F(MigrateTest, PrintedSqlDoesTheSame) {
  Sql owner(url());
  owner.exec(install_sql(options("we\"ird")));
  EXPECT_THAT(verify(options("we\"ird")), IsEmpty());
  EXPECT_FALSE(install(options("we\"ird")));
  auto const connection = pg::Connection::open(options("we\"ird"));
  EXPECT_EQ(store::upgrade_sql(*connection), "");
  sql.exec("update \"we\"\"ird\".meta set value = 'other' where key = 'functions_checksum'");
  owner.exec(store::upgrade_sql(*connection));
  EXPECT_EQ(store::upgrade_sql(*connection), "");
  owner.exec(store::uninstall_sql("we\"ird"));
  EXPECT_EQ(schemas(), 0);
}

TEST_F(MigrateTest, TheSchemaIsTheGoldenOne) {
  install(options());
  std::string const path = std::string(POSTHOUSE_SOURCE_DIR) + "/sql/schema.golden.sql";
  std::string const text =
      "-- What `posthouse install` makes, without function bodies. Compared by a test, which writes it anew when\n"
      "-- POSTHOUSE_UPDATE_GOLDEN is set.\n" +
      store::describe_schema(*pg::Connection::open(options()));
  if (std::getenv("POSTHOUSE_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(path) << text;
    return;
  }
  std::ifstream file(path);
  std::stringstream golden;
  golden << file.rdbuf();
  EXPECT_EQ(text, golden.str()) << "run this test with POSTHOUSE_UPDATE_GOLDEN=1 when the change is meant";
}

}  // namespace
}  // namespace posthouse::test
