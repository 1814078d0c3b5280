// SPDX-License-Identifier: Apache-2.0
// `install --roles` and `--broker-schema`: the matrix of rights is the committed one, and each cell of it is tried.
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "integration/broker_fixture.hpp"
#include "integration/cli_fixture.hpp"
#include "pg/connection.hpp"
#include "store/migrate.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> const groups{"producer", "worker", "admin", "reader"};

class BrokerRoles : public EngineTest {
 protected:
  BrokerRoles() { sql.exec("select install_roles('" + prefix + "')"); }
  ~BrokerRoles() override {
    try {
      for (auto const& role : logins_) sql.exec("drop owned by " + role + "; drop role " + role);
      sql.exec("reassign owned by " + prefix + "_owner to current_user");
      for (auto const& group : {"owner", "producer", "worker", "admin", "reader"}) {
        sql.exec("drop owned by " + prefix + "_" + group + "; drop role " + prefix + "_" + group);
      }
    } catch (std::exception const& error) {
      ADD_FAILURE() << "roles are left behind: " << error.what();
    }
  }

  /// A session of a login that is a member of the group, or of none.
  Sql member(std::string const& group) {
    std::string const role = prefix + "_a_" + (group.empty() ? "stranger" : group);
    if (sql.number("select count(*) from pg_roles where rolname = $1", role) == 0) {
      sql.exec("create role " + role + " login" + (group.empty() ? "" : " in role " + prefix + "_" + group));
      logins_.push_back(role);
    }
    return engine_session(url() + (url().find('?') == std::string::npos ? "?user=" : "&user=") + role);
  }

  /// One line an object: what each group may do with it.
  std::string matrix() {
    std::string text =
        "-- What the groups of `posthouse install --roles` may do. r select, a insert, w update, d delete, D truncate, "
        "x\n"
        "-- references, t trigger, X execute; in parentheses: on these columns alone. The owner may do everything, "
        "PUBLIC\n"
        "-- nothing. Compared by a test, which writes it anew when POSTHOUSE_UPDATE_GOLDEN is set, and tries each "
        "cell.\n";
    for (auto const& row : sql.rows(
             "select o.name, string_agg(g.grp || '=' || coalesce(nullif(o.rights, ''), '-'), ' ' order by g.ord) from "
             "unnest('{producer,worker,admin,reader}'::text[]) with ordinality g(grp, ord) cross join lateral ("
             "select 'function ' || p.oid::regprocedure as name, case when has_function_privilege($1 || '_' || g.grp, "
             "p.oid, 'execute') then 'X' end as rights from pg_proc p where p.pronamespace = 'posthouse'::regnamespace "
             "union all select case c.relkind when 'v' then 'view ' when 'S' then 'sequence ' else 'table ' end || "
             "c.relname, (select coalesce(string_agg(case when case when c.relkind = 'S' then k.p in ('select', "
             "'update') "
             "and has_sequence_privilege($1 || '_' || g.grp, c.oid, k.p) else has_table_privilege($1 || '_' || g.grp, "
             "c.oid, k.p) end then k.l when c.relkind <> 'S' and k.p in ('select', 'insert', 'update') and "
             "has_any_column_privilege($1 || '_' || g.grp, c.oid, k.p) then k.l || '(' || (select "
             "string_agg(a.attname, "
             "',' order by a.attnum) from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not "
             "a.attisdropped "
             "and has_column_privilege($1 || '_' || g.grp, c.oid, a.attnum, k.p)) || ')' end, '' order by k.o), '') "
             "from "
             "(values (1, 'select', 'r'), (2, 'insert', 'a'), (3, 'update', 'w'), (4, 'delete', 'd'), (5, 'truncate', "
             "'D'), (6, 'references', 'x'), (7, 'trigger', 't')) k(o, p, l)) from pg_class c where c.relnamespace = "
             "'posthouse'::regnamespace and c.relkind in ('r', 'p', 'v', 'S') and c.relname !~ '^job_[0-9]{8}') o "
             "group by "
             "o.name order by o.name collate \"C\"",
             prefix)) {
      text += *row[0] + ": " + *row[1] + "\n";
    }
    return text;
  }

  std::string const prefix = database.name();

 private:
  std::vector<std::string> logins_{};
};

TEST_F(BrokerRoles, TheMatrixIsTheGoldenOne) {
  std::string const path = std::string(POSTHOUSE_SOURCE_DIR) + "/sql/rights.golden.txt";
  auto const text = matrix();
  if (std::getenv("POSTHOUSE_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(path) << text;
    return;
  }
  std::ifstream file(path);
  std::stringstream golden;
  golden << file.rdbuf();
  EXPECT_EQ(text, golden.str()) << "run this test with POSTHOUSE_UPDATE_GOLDEN=1 when the change is meant";
}

TEST_F(BrokerRoles, EveryFunctionIsTriedByEveryGroup) {
  auto const functions = sql.rows(
      "select p.oid, p.proname, format('posthouse.%I(%s)', p.proname, (select string_agg(case when p.provariadic <> 0 "
      "and o "
      "= "
      "p.pronargs then 'variadic ' else '' end || 'null::' || format_type(t, null), ', ' order by o) from "
      "unnest(p.proargtypes) with ordinality u(t, o))) from pg_proc p where p.pronamespace = 'posthouse'::regnamespace "
      "and "
      "p.prorettype <> 'trigger'::regtype");
  ASSERT_GT(functions.size(), 100U);
  for (auto const& group :
       {std::string("producer"), std::string("worker"), std::string("admin"), std::string("reader"), std::string()}) {
    auto session = member(group);
    for (auto const& function : functions) {
      bool const may = !group.empty() && sql.truth("select has_function_privilege($1, $2::oid, 'execute')",
                                                   prefix + "_" + group, *function[0]);
      std::string said = "accepted";
      session.exec("begin; set local lock_timeout = '1s'");
      try {
        session.exec("select " + *function[2]);
      } catch (SqlError const& error) {
        said = error.sqlstate() + " " + error.what();
      }
      session.exec("rollback");
      bool const denied =
          said.find("42501") == 0 && said.find("permission denied for function " + *function[1]) != std::string::npos;
      // A stranger may not even look into the schema, where some types of arguments are.
      if (group.empty()) {
        EXPECT_THAT(said.substr(0, 5), ::testing::AnyOf("42501", "42704")) << *function[2];
      } else {
        EXPECT_EQ(denied, !may) << group << ": " << *function[2] << ": " << said;
      }
    }
  }
}

TEST_F(BrokerRoles, EveryRelationIsTriedByEveryGroup) {
  auto const relations = sql.rows(
      "select c.oid, c.oid::regclass, c.relkind, (select string_agg(quote_ident(a.attname), ', ' order by a.attnum) "
      "from "
      "pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), (select "
      "quote_ident(a.attname) "
      "from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and a.attidentity = '' order by a.attnum limit 1) "
      "from pg_class c where c.relnamespace = 'posthouse'::regnamespace and c.relkind in ('r', 'p', 'v')");
  ASSERT_GT(relations.size(), 20U);
  std::map<std::string, int> tried;
  for (auto const& group : groups) {
    auto session = member(group);
    auto const role = prefix + "_" + group;
    for (auto const& relation : relations) {
      std::string const& name = *relation[1];
      for (auto const& [right, statement] : std::map<std::string, std::string>{
               {"select", "select * from " + name + " limit 0"},
               {"insert", "insert into " + name + " select * from " + name + " where false"},
               {"update", "update " + name + " set " + *relation[4] + " = null where false"},
               {"delete", "delete from " + name + " where false"},
               {"truncate", "truncate " + name}}) {
        if (*relation[2] == "v" && right == "truncate") continue;
        bool may = sql.truth("select has_table_privilege($1, $2::oid, $3)", role, *relation[0], right);
        // These read as well.
        if (right == "insert")
          may = may && sql.truth("select has_table_privilege($1, $2::oid, 'select')", role, *relation[0]);
        if (right == "update" || right == "delete") {
          may = may && sql.truth("select has_any_column_privilege($1, $2::oid, 'select')", role, *relation[0]);
        }
        session.exec("begin; set local lock_timeout = '1s'");
        auto const state = session.sqlstate_of(statement);
        session.exec("rollback");
        ++tried[right];
        if (may) {
          EXPECT_NE(state, "42501") << group << ": " << statement;
        } else {
          EXPECT_NE(state, "") << group << ": " << statement;
        }
      }
      // Column by column, as what a reader sees of a job.
      for (auto const& column : sql.column("select quote_ident(attname) from pg_attribute where attrelid = $1::oid and "
                                           "attnum > 0 and not attisdropped",
                                           *relation[0])) {
        bool const may = sql.truth("select has_column_privilege($1, $2::oid, replace($3, '\"', ''), 'select')", role,
                                   *relation[0], column);
        EXPECT_EQ(session.sqlstate_of("select " + column + " from " + name + " limit 0"), may ? "" : "42501")
            << group << ": " << name << "." << column;
      }
    }
  }
  EXPECT_EQ(tried["select"], static_cast<int>(groups.size() * relations.size()));
}

TEST_F(BrokerRoles, TheOwnerOwnsEverythingAndCannotLogIn) {
  EXPECT_EQ(
      sql.number("select count(*) from pg_class c where relnamespace = 'posthouse'::regnamespace and relkind in ('r', "
                 "'p', 'v', 'S') and relowner <> $1::regrole",
                 prefix + "_owner"),
      0);
  EXPECT_EQ(sql.number("select count(*) from pg_proc where pronamespace = 'posthouse'::regnamespace and proowner <> "
                       "$1::regrole",
                       prefix + "_owner"),
            0);
  EXPECT_EQ(sql.number("select count(*) from pg_roles where rolname like $1 and rolcanlogin", prefix + "\\_%"), 0);
  auto const connection = pg::Connection::open(options());
  EXPECT_THAT(store::sentences(store::verify(*connection)), IsEmpty());
}

// What it is for: each does its work, and what is new after an upgrade is theirs too.
TEST_F(BrokerRoles, JobsRunWithTheGroupsAlone) {
  auto producer = member("producer");
  auto const id = producer.number("select enqueue('k', '{\"a\": 1}')");
  producer.exec("insert into job (id, lane, payload) select id, open_lane('k'), '{}' from unnest(reserve_ids(2)) id");
  sql.exec(
      "update meta set value = 'older' where key = 'functions_checksum'; drop function counts(); drop function "
      "broker_start(bigint)");
  EXPECT_TRUE(store::install(*pg::Connection::open(options())).changed);
  WorkerOptions worker_options;
  auto worker_session = member("worker");
  worker_options.database_url =
      url() + (url().find('?') == std::string::npos ? "?user=" : "&user=") + prefix + "_a_worker";
  worker_options.once = true;
  Worker worker(worker_options);
  worker.on("k", [](Job const&) {});
  worker.start();
  worker.wait();
  EXPECT_EQ(worker.stats().succeeded, 3);
  EXPECT_EQ(producer.one("select state from outcome($1)", id), "succeeded");
  auto reader = member("reader");
  EXPECT_EQ(reader.number("select sum(jobs) from counts()"), 3);
  EXPECT_EQ(reader.one("select state from jobs where id = $1", id), "succeeded");
  EXPECT_EQ(reader.sqlstate_of("select payload from jobs"), "42501");
  auto admin = member("admin");
  EXPECT_EQ(admin.one("select payload::text from jobs where id = $1", id), "{\"a\": 1}");
  EXPECT_EQ(admin.sqlstate_of("select pause_queue('default')"), "");
  EXPECT_EQ(sql.number("select count(*) from pg_proc where pronamespace = 'posthouse'::regnamespace and proowner <> "
                       "$1::regrole",
                       prefix + "_owner"),
            0);
}

TEST_F(BrokerRoles, TheBrokersNamesStandWhereUnqualifiedCallsFindThem) {
  auto const connection = pg::Connection::open(options());
  store::install(*connection, {.roles = false, .broker_schema = "public"});
  auto producer = member("producer");
  producer.exec("reset search_path");
  auto const id = producer.number("select broker_add_job('nightly', 'select 1', job_priority => 3)");
  EXPECT_EQ(producer.sqlstate_of("select * from broker_jobs"), "42501");
  auto admin = member("admin");
  admin.exec("reset search_path");
  EXPECT_EQ(admin.one("select run_as from broker_jobs where id = $1", id), prefix + "_a_producer");
  admin.exec("insert into broker_schedule (name, cron, execute_str) values ('n', '@daily', 'select 1')");
  EXPECT_EQ(admin.one("update broker_schedule set cron = '@hourly' returning run_as"), prefix + "_a_admin");
  admin.exec("delete from broker_schedule");
  auto worker = member("worker");
  worker.exec("reset search_path");
  EXPECT_EQ(worker.number("select job_priority from broker_get()"), 3);
  EXPECT_THAT(worker.one("select broker_run($1)::text", id), HasSubstr("released"));
  // Again, and after an upgrade.
  EXPECT_TRUE(store::install(*connection, {.roles = false, .broker_schema = "public"}).changed);
  sql.exec("update meta set value = 'older' where key = 'functions_checksum'");
  EXPECT_TRUE(store::install(*connection).changed);
  EXPECT_EQ(producer.sqlstate_of("select broker_add_job('x', 'select 1')"), "");
  EXPECT_THAT(store::sentences(store::verify(*connection)), IsEmpty());
  store::uninstall(*connection);
  EXPECT_EQ(
      sql.number("select count(*) from pg_proc where pronamespace = 'public'::regnamespace and proname like 'broker%'"),
      0);
  EXPECT_EQ(sql.number(
                "select count(*) from pg_class where relnamespace = 'public'::regnamespace and relname like 'broker%'"),
            0);
  store::install(*connection);
  sql.exec("select install_roles('" + prefix + "')");
}

TEST_F(BrokerRoles, NamesOfSomebodyElseAreLeftAlone) {
  sql.exec("create function public.broker_set(text, text) returns int language sql as 'select 1'");
  EXPECT_THAT(refusal_of("select broker_publish('public')"), HasSubstr("has its own function"));
  EXPECT_THAT(refusal_of("select broker_publish('no such')"), HasSubstr("broker schema is 'no such'"));
  EXPECT_THAT(refusal_of("select broker_publish('posthouse')"), HasSubstr("another schema than posthouse's own"));
  EXPECT_THAT(refusal_of("select install_roles('pg_x')"), HasSubstr("prefix is 'pg_x'"));
  EXPECT_EQ(sql.number("select public.broker_set('a', 'b')"), 1);
}

class BrokerCli : public CliDatabaseTest {};

TEST_F(BrokerCli, ShowSaysNameAndRoleOfABrokersJob) {
  auto const id =
      sql.one("select posthouse.broker_add_job('nightly clean-up', 'delete from old', user_login => 'alice')");
  auto const people = run({"jobs", "show", id});
  EXPECT_EQ(people.status, 0) << people.err;
  EXPECT_THAT(people.out, HasSubstr("job name     nightly clean-up"));
  EXPECT_THAT(people.out, HasSubstr("runs as      " + sql.one("select session_user")));
  EXPECT_THAT(people.out, HasSubstr("user login   alice"));
  EXPECT_THAT(people.out, HasSubstr("statement    delete from old"));
  auto const json = run({"jobs", "show", id, "--json"});
  EXPECT_THAT(json.out, HasSubstr("\"job_name\": \"nightly clean-up\""));
  EXPECT_THAT(json.out, HasSubstr("\"execute_str\": \"delete from old\""));
  auto const plain = sql.one("select posthouse.enqueue('k')");
  EXPECT_EQ(run({"jobs", "show", plain}).out.find("job name"), std::string::npos);
}

TEST_F(BrokerCli, InstallTakesTheSchemaForTheNames) {
  auto const ran = run({"install", "--broker-schema", "public"});
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("names in public"));
  Sql plain(database.url());
  EXPECT_EQ(plain.sqlstate_of("select broker_add_job('x', 'select 1')"), "");
  auto const printed = run({"install", "--print-sql", "--roles", "--broker-schema", "pub'lic"});
  EXPECT_THAT(printed.out, HasSubstr("perform install_roles();"));
  EXPECT_THAT(printed.out, HasSubstr("broker_publish("));
  EXPECT_NE(run({"install", "--broker-schema", "nowhere"}).status, 0);
}

}  // namespace
}  // namespace posthouse::test
