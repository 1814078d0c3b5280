// SPDX-License-Identifier: Apache-2.0
// How the broker runs SQL jobs: on the daemon's login, and as another role on a connection of its own.
#include <future>

#include "integration/broker_fixture.hpp"

namespace posthouse::test {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class BrokerRunAs : public BrokerTest {
 protected:
  /// Number of sessions of a role, once those that are ending have ended.
  ::testing::AssertionResult nobody_of(std::string const& role) {
    return eventually(
        [&] { return sql.number("select count(*) from pg_stat_activity where usename = $1", role) == 0; });
  }
};

TEST_F(BrokerRunAs, TheDaemonsOwnJobsRunOnItsConnections) {
  auto const id = add_as(daemon, "insert into public.seen select session_user::text from generate_series(1, 3)");
  EXPECT_EQ(work().succeeded, 1);
  EXPECT_EQ(state(id), "succeeded");
  EXPECT_EQ(result_of(id), R"({"row_count": 3})");
  EXPECT_THAT(seen(), ElementsAre(daemon, daemon, daemon));
}

TEST_F(BrokerRunAs, NoticesAreKeptAndBlocksRun) {
  auto const id =
      add_as(daemon, "begin raise notice 'hello %', 'you'; raise warning 'careful'; end", "job_language => 'plpgsql'");
  work();
  EXPECT_EQ(result_of(id), R"({"notices": ["NOTICE: hello you", "WARNING: careful"]})");
  auto const many = add_as(daemon, "do $$ begin for i in 1..5000 loop raise notice '%', i; end loop; end $$");
  work();
  EXPECT_THAT(result_of(many), HasSubstr("more, which were not kept"));
  EXPECT_EQ(state(many), "succeeded");
}

TEST_F(BrokerRunAs, AnErrorIsKeptWithItsStateItsPlaceAndItsContext) {
  auto const syntax = add_as(daemon, "select 1; selct 2");
  auto const deep = add_as(daemon, "do $$ begin perform 1/0; end $$");
  work();
  EXPECT_EQ(error_of(syntax), "SQLSTATE 42601: syntax error at or near \"selct\"");
  EXPECT_THAT(context_of(syntax), HasSubstr("at character 11"));
  EXPECT_EQ(error_of(deep), "SQLSTATE 22012: division by zero");
  EXPECT_THAT(context_of(deep), HasSubstr("inline_code_block line 1 at PERFORM"));
  EXPECT_EQ(state(deep), "failed") << "SQL is tried once";
  EXPECT_EQ(attempt(deep), 1);
}

TEST_F(BrokerRunAs, RetriesOnlyWhereAsked) {
  auto const id = add_as(daemon, "select 1/0");
  work({}, policy(3));
  EXPECT_EQ(attempt(id), 3);
  EXPECT_EQ(state(id), "failed");
}

TEST_F(BrokerRunAs, FactsAndTheUserAreSettings) {
  auto const statement =
      "insert into public.seen select name || '=' || current_setting(name) from unnest('{posthouse.user_login, "
      "application_name, posthouse.kind, posthouse.queue, posthouse.attempt}'::text[]) name";
  add_as(daemon, statement, "user_login => 'alice'");
  work();
  EXPECT_THAT(seen(), ElementsAre("application_name=alice", "posthouse.attempt=1", "posthouse.kind=sql",
                                  "posthouse.queue=broker:1", "posthouse.user_login=alice"));
  sql.exec("truncate public.seen");
  add_as(app, statement, "user_login => 'alice'");
  work(peer(app));
  EXPECT_THAT(seen(), ElementsAre("application_name=alice", "posthouse.attempt=1", "posthouse.kind=sql",
                                  "posthouse.queue=broker:1", "posthouse.user_login=alice"));
}

TEST_F(BrokerRunAs, AnotherRoleLogsInByItself) {
  auto const id = add_as(app, "insert into public.seen values (session_user || ' ' || current_user)");
  EXPECT_EQ(work(peer(app)).succeeded, 1);
  EXPECT_EQ(state(id), "succeeded");
  EXPECT_EQ(result_of(id), R"({"row_count": 1})");
  EXPECT_THAT(seen(), ElementsAre(app + " " + app));
  EXPECT_TRUE(nobody_of(app)) << "its connection is closed";
}

TEST_F(BrokerRunAs, WithoutALoginItFailsAtOnceAndNamesTheKey) {
  auto const id = add_as(app, "insert into public.seen values ('x')");
  work({}, policy(5));
  EXPECT_EQ(state(id), "failed");
  EXPECT_EQ(attempt(id), 1) << "unretried";
  EXPECT_THAT(error_of(id), HasSubstr("set databases.main.run_as." + app + ".password"));
  auto const empty = add_as(app, "insert into public.seen values ('x')");
  work({{app, {}}}, policy(5));
  EXPECT_EQ(state(empty), "failed");
  EXPECT_THAT(seen(), IsEmpty());
}

TEST_F(BrokerRunAs, ALoginThatIsRefusedIsAnErrorOfTheJob) {
  sql.exec("alter role " + app + " connection limit 0");
  sql.exec("select set_config('posthouse.none', '', false)");
  sql.exec("alter role " + app + " connection limit -1");
  auto const id = add_as(app, "select 1");
  sql.exec("alter role " + app + " nologin");
  work(peer(app));
  EXPECT_THAT(error_of(id), StartsWith("Login: cannot log in as role '" + app + "'"));
  EXPECT_THAT(context_of(id), HasSubstr("databases.main.run_as." + app));
}

// What was allowed at enqueue is asked again.
TEST_F(BrokerRunAs, AMembershipThatWasRevokedCounts) {
  make_role(app + "_team");
  sql.exec("grant " + app + "_team to " + app + "; grant all on public.seen to " + app + "_team");
  auto const first = add_as(app, "insert into public.seen values (session_user)", "run_as => '" + app + "_team'");
  work(peer(app + "_team"));
  EXPECT_EQ(state(first), "succeeded");
  auto const second = add_as(app, "insert into public.seen values ('again')", "run_as => '" + app + "_team'");
  auto const third = add_as(app, "insert into public.seen values ('again')", "run_as => '" + app + "_team'");
  sql.exec("revoke " + app + "_team from " + app);
  work(peer(app + "_team"), policy(5));
  EXPECT_EQ(state(second), "failed");
  EXPECT_THAT(error_of(second), HasSubstr("is not a member of role '" + app + "_team'"));
  EXPECT_EQ(state(third), "failed");
  auto const own = add_as(app, "insert into public.seen values ('again')");
  sql.exec("alter role " + app + " superuser");
  work(peer(app));
  EXPECT_THAT(error_of(own), HasSubstr("is a superuser"));
  sql.exec("alter role " + app + " nosuperuser");
  EXPECT_THAT(seen(), ElementsAre(app + "_team"));
}

// Whoever may enqueue can make a payload that looks like one of ours.
TEST_F(BrokerRunAs, AForgedJobDoesNotRun) {
  auto session = as(app);
  auto const forged = session.number(
      "select enqueue('sql', '{\"job_name\": \"x\", \"execute_str\": \"insert into public.seen values (1)\", "
      "\"run_as\": "
      "\"" +
      daemon + "\"}', queue => 'broker:1')");
  work(peer(app), policy(5));
  EXPECT_EQ(state(forged), "failed");
  EXPECT_THAT(error_of(forged), HasSubstr("was not added by broker_add_job"));
  EXPECT_THAT(seen(), IsEmpty());
}

TEST_F(BrokerRunAs, ASuperusersOwnJobRunsOnlyWhereTheDaemonIsThatRole) {
  auto const id = sql.number("select broker_add_job('x', 'insert into public.seen values (''root'')')");
  work(peer(sql.one("select session_user")));
  EXPECT_EQ(state(id), "failed");
  EXPECT_THAT(error_of(id), HasSubstr("is a superuser"));
  sql.exec("select broker_add_job('x', 'insert into public.seen values (''root'')')");
  work_as(sql.one("select session_user"));
  EXPECT_THAT(seen(), ElementsAre("root"));
}

// A time limit that the job takes away, and cancels that it catches, end with its server process.
TEST_F(BrokerRunAs, ALimitHoldsAgainstSqlThatDefendsItself) {
  std::string const defiant =
      "do $$ begin perform set_config('statement_timeout', '0', false); loop begin perform pg_sleep(1000); exception "
      "when "
      "query_canceled then null; end; end loop; end $$";
  auto const own = add_as(daemon, defiant, "user_login => 'defiant'");
  auto const others = add_as(app, defiant, "user_login => 'defiant'");
  auto const simple = add_as(app, "set statement_timeout = 0; select pg_sleep(1000)");
  HandlerOptions short_policy = node::SqlJobs::once();
  short_policy.timeout = 500ms;
  work(peer(app), short_policy);
  for (auto const id : {own, others, simple}) {
    EXPECT_EQ(state(id), "failed");
    EXPECT_THAT(error_of(id), StartsWith("Timeout: ")) << id;
  }
  EXPECT_TRUE(nobody_of(app));
  EXPECT_TRUE(eventually(
      [&] { return sql.number("select count(*) from pg_stat_activity where application_name = 'defiant'") == 0; }));
}

TEST_F(BrokerRunAs, WhatAJobLeavesBehindIsGone) {
  auto const dirty =
      "set search_path = pg_temp; set statement_timeout = '1h'; select pg_advisory_lock(42); listen x; prepare p as "
      "select 1; "
      "create temp table broker_job (x int); declare c cursor with hold for select 1";
  add_as(daemon, dirty);
  add_as(app, dirty);
  auto const after = add_as(daemon,
                            "insert into public.seen select current_setting('search_path') || count(*) from "
                            "pg_catalog.pg_prepared_statements");
  // Waits until the first session is gone.
  auto const as_app = add_as(app, "select pg_advisory_lock(42); insert into public.seen values ('free')");
  EXPECT_EQ(work(peer(app)).succeeded, 4);
  EXPECT_EQ(state(after), "succeeded");
  EXPECT_EQ(state(as_app), "succeeded");
  EXPECT_THAT(seen(), ElementsAre("\"$user\", public0", "free"));
}

// The job's end is fenced: whoever lost it meanwhile commits nothing of it.
TEST_F(BrokerRunAs, AJobThatWasTakenBackCommitsNothing) {
  sql.exec("create table public.gate (x int); grant all on public.gate to " + app);
  auto const id = add_as(app, "insert into public.seen values ('late'); lock table public.gate");
  auto blocker = open();
  blocker.exec("begin; lock table public.gate");
  auto running = std::async(std::launch::async, [&] { return work(peer(app)); });
  ASSERT_TRUE(eventually([&] {
    return sql.number("select count(*) from pg_stat_activity where usename = $1 and wait_event_type = 'Lock'", app) ==
           1;
  }));
  auto const worker = sql.number("select worker from jobs where id = $1", id);
  // As the leader does with a worker that is silent for longer than its lease.
  sql.rows("update worker set ended_at = now(), end_reason = 'lost' where id = $1", worker);
  sql.rows("select take_back($1, null, true)", worker);
  blocker.exec("rollback");
  running.get();
  EXPECT_THAT(seen(), IsEmpty());
  EXPECT_EQ(state(id), "failed");
}

TEST_F(BrokerRunAs, EffectsAndCompletionOfTheDaemonsOwnJobsAreOne) {
  sql.exec(
      "create table public.checked (x int, constraint positive unique (x) deferrable initially deferred); grant all on "
      "public.checked to " +
      daemon + ", " + app);
  auto const mine = add_as(daemon, "insert into public.checked values (1), (1)");
  auto const theirs = add_as(app, "insert into public.checked values (2), (2)");
  work(peer(app));
  EXPECT_THAT(error_of(mine), StartsWith("SQLSTATE 23505"));
  EXPECT_THAT(error_of(theirs), StartsWith("SQLSTATE 23505"));
  EXPECT_EQ(sql.number("select count(*) from public.checked"), 0);
}

TEST_F(BrokerRunAs, CommitInsideAJobIsRefusedInWords) {
  auto const id = add_as(app, "insert into public.seen values ('x'); commit");
  work(peer(app));
  EXPECT_THAT(error_of(id), AllOf(StartsWith("SQLSTATE 0A000"), HasSubstr("remove COMMIT")));
  EXPECT_THAT(seen(), IsEmpty());
}

}  // namespace
}  // namespace posthouse::test
