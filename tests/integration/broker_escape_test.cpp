// SPDX-License-Identifier: Apache-2.0
// SQL that tries to get out of its role: what reliability work on run_as has found elsewhere, and more. Each payload ends by
// reading a table of the daemon's; none may bring that out, stay in the server, or disturb the engine.
#include "integration/broker_fixture.hpp"

namespace posthouse::test {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

struct Escape {
  std::string name;
  std::string sql;
  bool limited = false;  ///< it would run for long: with a time limit
};

class BrokerEscape : public BrokerTest {
 protected:
  BrokerEscape() {
    sql.exec(
        "create table public.secret (v text); insert into public.secret values ('TOPSECRET'); alter table "
        "public.secret "
        "owner to " +
        daemon + "; create schema loot authorization " + app);
    auto session = as(app);
    session.exec(
        "set search_path = loot; create table loot (v text);"
        "create function steal() returns text language plpgsql as $$ begin insert into loot.loot select v from "
        "public.secret; return 'x'; end $$;"
        "create function steal_row() returns trigger language plpgsql as $$ begin perform loot.steal(); return null; "
        "end $$;"
        "create table late (x int); create constraint trigger late after insert on late deferrable initially deferred "
        "for "
        "each row execute function steal_row();"
        "grant usage on schema loot to public; grant execute on all functions in schema loot to public; grant insert "
        "on "
        "loot to public");
  }

  [[nodiscard]] std::vector<Escape> escapes() const {
    std::string const steal = "; insert into loot.loot select v from public.secret";
    std::string const engine = "posthouse_" + oid_;
    return {
        {"reset role", "reset role" + steal},
        {"set role none", "set role none" + steal},
        {"reset session authorization", "set session authorization default" + steal},
        {"reset role in a block", "do $$ begin execute 'reset role'; end $$" + steal},
        {"role by set_config", "select set_config('role', 'none', true)" + steal},
        {"session authorization by set_config",
         "select set_config('session_authorization', '" + daemon + "', false)" + steal},
        {"commit first", "commit" + steal},
        {"rollback first", "rollback" + steal},
        {"end in a block", "do $$ begin commit; perform loot.steal(); end $$"},
        {"deferred trigger", "insert into loot.late values (1)"},
        {"cursor that outlives the transaction", "declare c cursor with hold for select loot.steal()"},
        {"set role of the daemon", "set role " + daemon + steal},
        {"session authorization of the daemon", "set session authorization " + daemon + steal},
        {"read it", "select loot.steal()"},
        {"become superuser", "alter role " + app + " superuser" + steal},
        {"grant oneself the daemon", "grant " + daemon + " to " + app + "; set role " + daemon + steal},
        {"change how one logs in", "alter role " + app + " set role = '" + daemon + "'"},
        {"change the path of one's logins", "alter role " + app + " set search_path = loot, pg_catalog"},
        {"functions of ours by other names",
         "create temp table broker_job (x int); create function pg_temp.complete(int8, int8, int4, int8) returns "
         "boolean "
         "language sql as 'select true'; set search_path = pg_temp" +
             steal},
        {"operators of ours by other names",
         "create function loot.eq(text, text) returns boolean language sql as 'select loot.steal() is not null'; "
         "create "
         "operator loot.= (leftarg = text, rightarg = text, function = loot.eq); set search_path = loot, pg_catalog"},
        {"notifications that look like ours", "listen " + engine + "; notify " + engine + ", 'w'; notify " + engine +
                                                  ", 'c 99999999999999999999'; notify " + engine + ", 'keep'; notify " +
                                                  engine + ", '-9223372036854775808'; notify " + engine + "_done, 'x'"},
        {"advisory locks of all sorts",
         "select count(pg_advisory_lock((('posthouse.job'::regclass::oid)::int8 - 2147483648)::int, i)) from "
         "generate_series(-500, 500) i"},
        {"end the daemon's sessions",
         "select pg_terminate_backend(pid) from pg_stat_activity where usename = '" + daemon + "'"},
        {"end one's own sessions",
         "select pg_terminate_backend(pid) from pg_stat_activity where usename = current_user"},
        {"lock the engine's tables", "lock table posthouse.job in access exclusive mode"},
        {"a thousand million rows", "select * from generate_series(1, 1000000000) a, generate_series(1, 1000) b", true},
        {"a very long notice", "do $$ begin raise notice '%', repeat('x', 50000000); end $$"},
        {"a very long error", "do $$ begin raise exception '%', repeat('x', 50000000); end $$"},
        {"a very long value", "select repeat('x', 200000000)"},
        {"for ever", "do $$ begin loop null; end loop; end $$", true},
        {"no time limit", "set statement_timeout = 0; select pg_sleep(10000)", true},
        {"no time limit, and cancels caught",
         "set statement_timeout = 0; do $$ begin loop begin perform pg_sleep(10000); exception when query_canceled "
         "then "
         "null; end; end loop; end $$",
         true},
        {"several statements", "select 1; drop schema posthouse cascade" + steal},
        {"a quote too many", "select 1'; drop schema posthouse cascade; --"},
        {"a dollar too many", "select 1 $posthouse$; drop schema posthouse cascade; $posthouse$"},
        {"prepare and leave", "prepare transaction 'left behind'"},
        {"large objects", "select lo_import('/etc/passwd')" + steal},
        {"event trigger", "create event trigger e on ddl_command_end execute function loot.steal_row()"},
        {"a program", "copy public.seen from program 'id'"},
        {"a file", "copy public.seen from '/etc/passwd'"},
        {"another file", "insert into loot.loot select pg_read_file('/etc/passwd')"},
        {"an extension", "create extension plpython3u"},
        {"a library", "load '/tmp/evil.so'"},
        {"a C function", "create function loot.c() returns int language c as '/tmp/evil', 'f'"},
        {"the server's settings", "alter system set log_statement = 'none'"},
        {"an object in our schema", "create table posthouse.mine (x int)"},
        {"our tables", "update posthouse.broker_job set run_as = '" + daemon + "'"},
        {"a job for itself by hand",
         "insert into posthouse.broker_job (job, name, language, statement, run_as, made_by) "
         "values (1, 'x', 'sql', 'select 1', '" +
             daemon + "', '" + daemon + "')"},
        {"a job as the daemon",
         "select posthouse.broker_add_job('x', 'select loot.steal()', run_as => '" + daemon + "')"},
        {"a job as whoever is behind it", "select posthouse.broker_enqueue('x', 'select loot.steal()', 1, 0, 'sql', '" +
                                              daemon + "', null, null, null, true)"},
        {"a job that looks like one",
         "select posthouse.enqueue('sql', '{\"execute_str\": \"select loot.steal()\", \"run_as\": \"" + daemon +
             "\"}', queue => 'broker:1')"},
        {"somebody else's end", "select posthouse.finish(1, '{16}', '{null}', '{1}', null)"},
        {"the rules of the transaction", "set transaction isolation level serializable" + steal},
        {"other quoting", "set standard_conforming_strings = off; set client_encoding = 'sjis'" + steal},
        {"other replication role", "set session_replication_role = replica" + steal},
    };
  }

  std::string const oid_ = sql.one("select 'posthouse'::regnamespace::oid");
};

TEST_F(BrokerEscape, NoneGetsOut) {
  auto const list = escapes();
  ASSERT_GE(list.size(), 25U);
  std::vector<std::int64_t> ids;
  for (auto const& escape : list) {
    auto session = as(app);
    // Its path may have been changed for all its logins.
    session.exec("set search_path = posthouse, pg_temp");
    if (escape.limited) session.exec("select broker_set('statement_timeout', '400ms')");
    ids.push_back(session.number("select broker_add_job($1, $2)", escape.name, escape.sql));
    work(peer(app));
    auto const state_now = state(ids.back());
    EXPECT_TRUE(state_now == "succeeded" || state_now == "failed") << escape.name << " is " << state_now;
    EXPECT_THAT(sql.column("select v from loot.loot"), IsEmpty()) << escape.name;
    EXPECT_TRUE(eventually([&] {
      return sql.number("select count(*) from pg_stat_activity where usename = $1 and pid <> $2", app,
                        session.backend_pid()) == 0;
    })) << escape.name
        << " is still there";
    if (escape.limited) {
      EXPECT_THAT(error_of(ids.back()), HasSubstr("Timeout")) << escape.name;
    }
  }
  // Jobs that it made itself have ended, refused.
  work(peer(app));
  EXPECT_THAT(sql.column("select v from loot.loot"), IsEmpty());
  EXPECT_EQ(sql.number("select count(*) from jobs where state not in ('succeeded', 'failed')"), 0);
  EXPECT_EQ(sql.number("select count(*) from pg_prepared_xacts where database = current_database()"), 0);
  EXPECT_EQ(sql.number("select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from "
                       "pg_database where datname = current_database())"),
            0);
  EXPECT_EQ(sql.one("select rolsuper from pg_roles where rolname = $1", app), "f");
  EXPECT_THAT(sql.column("select run_as from broker_job"), Each(app));
  EXPECT_THAT(sql.column("select error from broker_jobs where error is not null"), Each(Not(HasSubstr("TOPSECRET"))));
  // The same SQL with the daemon's rights does get at it: the payloads are not harmless by themselves.
  add_as(daemon, "select loot.steal()");
  work();
  EXPECT_EQ(sql.number("select count(*) from loot.loot"), 1);
}

}  // namespace
}  // namespace posthouse::test
