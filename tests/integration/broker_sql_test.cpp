// SPDX-License-Identifier: Apache-2.0
// The broker's SQL functions and relations, called by hand.
#include "integration/broker_fixture.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class BrokerSql : public BrokerTest {
 protected:
  /// Of the row of broker_jobs with this id.
  std::string field(std::int64_t id, std::string const& column) {
    return sql.one("select coalesce(" + column + "::text, 'null') from broker_jobs where id = $1", id);
  }
  std::string refusal_as(std::string const& role, std::string const& statement) {
    auto session = as(role);
    try {
      session.exec(statement);
    } catch (SqlError const& error) {
      std::string const what = error.what();
      auto const start = what.find("posthouse: ");
      return error.sqlstate() + " " + (start == std::string::npos ? what : what.substr(start));
    }
    return "accepted";
  }
};

TEST_F(BrokerSql, AJobIsOneOfTheEngine) {
  auto const id = add_as(app, "select 1", "3, 7, user_login => 'alice'");
  EXPECT_EQ(sql.one("select queue || ' ' || kind || ' ' || priority || ' ' || state from jobs where id = $1", id),
            "broker:3 sql 7 available");
  EXPECT_EQ(field(id, "job_name"), "job of " + app);
  EXPECT_EQ(field(id, "execute_str"), "select 1");
  EXPECT_EQ(field(id, "job_queue"), "3");
  EXPECT_EQ(field(id, "job_priority"), "7");
  EXPECT_EQ(field(id, "job_language"), "sql");
  EXPECT_EQ(field(id, "run_as"), app) << "who logged in";
  EXPECT_EQ(field(id, "user_login"), "alice");
  EXPECT_EQ(field(id, "status"), "available");
  EXPECT_EQ(field(id, "schedule_id"), "null");
}

TEST_F(BrokerSql, ARolledBackJobIsNone) {
  auto session = as(app);
  session.exec("begin; select broker_add_job('x', 'select 1'); rollback");
  EXPECT_EQ(sql.number("select count(*) from broker_jobs"), 0);
  EXPECT_EQ(sql.number("select count(*) from broker_job"), 0);
}

TEST_F(BrokerSql, OtherLanguagesHandTheirTextToAHandler) {
  auto const json = add_as(app, R"({"to": "x"})", "job_language => 'http'");
  auto const text = add_as(app, "plain words", "job_language => 'exec'");
  EXPECT_EQ(sql.one("select payload::text from jobs where id = $1", json), R"({"to": "x"})");
  EXPECT_EQ(sql.one("select payload::text from jobs where id = $1", text), R"("plain words")");
  EXPECT_EQ(field(json, "run_as"), "null");
  EXPECT_THAT(refusal_as(app, "select broker_add_job('x', '{}', job_language => 'http', run_as => '" + app + "')"),
              HasSubstr("run_as is given and job_language is 'http'"));
}

TEST_F(BrokerSql, BadInputIsNamed) {
  struct Case {
    std::string arguments;
    std::string says;
  };
  for (auto const& [arguments, says] :
       std::vector<Case>{{"null, 'select 1'", "22023 posthouse: job_name has no characters"},
                         {"'', 'select 1'", "22023 posthouse: job_name has 0 characters"},
                         {"repeat('x', 501), 'select 1'", "22023 posthouse: job_name has 501 characters"},
                         {"'x', null", "22023 posthouse: execute_str is null"},
                         {"'x', E' \\n'", "22023 posthouse: execute_str is empty"},
                         {"'x', repeat('x', 1048577)", "54000 posthouse: execute_str has 1048577 bytes"},
                         {"'x', 'select 1', 0", "22023 posthouse: job_queue is 0"},
                         {"'x', 'select 1', null", "22023 posthouse: job_queue is null"},
                         {"'x', 'select 1', 10000", "22023 posthouse: job_queue is 10000"},
                         {"'x', 'select 1', 1, null", "22004 posthouse: job_priority is null"},
                         {"'x', 'select 1', job_language => 'no such'", "22023 posthouse: job_language is 'no such'"},
                         {"'x', 'select 1', job_language => null", "22023 posthouse: job_language is null"},
                         {"'x', 'select 1', user_login => repeat('x', 201)", "22023 posthouse: user_login has 201"},
                         {"'x', 'select 1', schedule_id => 99", "22023 posthouse: schedule_id is 99"}}) {
    EXPECT_THAT(refusal_as(app, "select broker_add_job(" + arguments + ")"), StartsWith(says)) << arguments;
  }
  EXPECT_THAT(refusal_as(app, "select broker_set('colour', 'red')"), StartsWith("22023 posthouse: broker_set: option"));
  EXPECT_THAT(refusal_as(app, "select broker_set('statement_timeout', 'soon')"), StartsWith("22023"));
}

// Who may ask for which role.
TEST_F(BrokerSql, RunAsMustBeAMembershipAndAnOrdinaryRole) {
  make_role(app + "_team", "nologin");
  make_role(app + "_bypass", "bypassrls");
  make_role(app + "_root", "superuser");
  auto const ask = [&](std::string const& role) {
    return refusal_as(app, "select broker_add_job('x', 'select 1', run_as => '" + role + "')");
  };
  EXPECT_THAT(ask(app + "_team"), HasSubstr("is not a member of role '" + app + "_team'"));
  sql.exec("grant " + app + "_team, " + app + "_bypass, " + app + "_root, pg_monitor, pg_execute_server_program to " +
           app);
  EXPECT_EQ(ask(app + "_team"), "accepted");
  EXPECT_THAT(ask(app + "_bypass"), StartsWith("42501 posthouse: run_as: role '" + app + "_bypass' has BYPASSRLS"));
  EXPECT_THAT(ask(app + "_root"), StartsWith("42501 posthouse: run_as: role '" + app + "_root' is a superuser"));
  EXPECT_THAT(ask("pg_monitor"), HasSubstr("is one of the server's own"));
  EXPECT_THAT(ask("pg_execute_server_program"), HasSubstr("is one of the server's own"));
  EXPECT_THAT(ask(daemon), HasSubstr("is not a member of role"));
  EXPECT_THAT(ask("nobody_of_that_name"), HasSubstr("there is no role"));
  EXPECT_EQ(sql.number("select count(*) from broker_jobs"), 1);
}

// What others wrote runs with session_user still being the superuser's: it must not get a superuser's job in.
TEST_F(BrokerSql, AFunctionOfSomebodyElseCannotAddASuperusersJob) {
  make_role(app + "_schema_owner", "nologin");
  sql.exec("create schema trap_" + app + " authorization " + app);
  auto session = as(app);
  session.exec(
      "create function trap_" + app +
      ".steal() returns bigint language sql security definer set search_path = posthouse, pg_temp as $$ select "
      "broker_add_job('x', 'alter role " +
      app + " superuser') $$");
  EXPECT_THAT(refusal_of("select trap_" + app + ".steal()"), HasSubstr("is a superuser"));
  // Asking what is behind it gets a job in that will not run.
  session.exec(
      "create function trap_" + app +
      ".steal_behind() returns bigint language sql security definer set search_path = posthouse, pg_temp as $$ "
      "select broker_enqueue('x', 'alter role " +
      app + " superuser', 1, 0, 'sql', null, null, null, null, true) $$");
  sql.exec("select trap_" + app + ".steal_behind()");
  EXPECT_EQ(sql.one("select own from broker_job"), "f");
  EXPECT_THAT(sql.one("select problem from broker_start((select max(job) from broker_job))"),
              HasSubstr("is a superuser"));
  sql.exec("select broker_add_job('x', 'select 1')");
  EXPECT_EQ(sql.one("select coalesce(problem, 'none') from broker_start((select max(job) from broker_job))"), "none");
  sql.exec("drop schema trap_" + app + " cascade");
}

TEST_F(BrokerSql, GetAndRunFinishInTheCallersTransaction) {
  sql.exec("select broker_set('user', 'carol')");
  auto const id = sql.number(
      "select broker_add_job('x', 'insert into public.seen values (current_setting(''posthouse.user_login'')), "
      "(''two'')')");
  EXPECT_EQ(sql.one("select id || ' ' || status from broker_get()"), std::to_string(id) + " running");
  EXPECT_THAT(sql.rows("select * from broker_get()"), IsEmpty());
  sql.exec("begin; select broker_run(" + std::to_string(id) + "); rollback");
  EXPECT_EQ(state(id), "running") << "neither effects nor completion";
  EXPECT_THAT(seen(), IsEmpty());
  EXPECT_EQ(sql.one("select broker_run($1)::text", id),
            "{\"id\": " + std::to_string(id) + ", \"status\": \"succeeded\", \"row_count\": 2}");
  EXPECT_EQ(state(id), "succeeded");
  EXPECT_EQ(field(id, "row_count"), "2");
  EXPECT_THAT(seen(), ElementsAre("carol", "two"));
  EXPECT_THAT(refusal_of("select broker_run(" + std::to_string(id) + ")"), HasSubstr("does not hold job"));
}

TEST_F(BrokerSql, RunOfAFailingJobUndoesItAndKeepsTheError) {
  auto const id = sql.number("select broker_add_job('x', 'insert into public.seen values (''a''); select 1/0')");
  sql.rows("select * from broker_get()");
  EXPECT_THAT(sql.one("select broker_run($1)::text", id), HasSubstr("\"sqlstate\": \"22012\""));
  EXPECT_EQ(state(id), "failed");
  EXPECT_EQ(field(id, "error"), "division by zero");
  EXPECT_THAT(error_of(id), StartsWith("SQLSTATE 22012"));
  EXPECT_THAT(seen(), IsEmpty());
}

TEST_F(BrokerSql, RunOfAnotherRolesJobGivesItBack) {
  auto const id = add_as(app, "insert into public.seen values (current_user)");
  sql.rows("select * from broker_get()");
  EXPECT_THAT(sql.one("select broker_run($1)::text", id), HasSubstr("released"));
  EXPECT_EQ(state(id), "available");
  EXPECT_EQ(attempt(id), 0);
  EXPECT_THAT(seen(), IsEmpty());
}

TEST_F(BrokerSql, RunUsesTheCallersSearchPath) {
  sql.exec("create schema mine; create table mine.only_here (x int)");
  auto const id = sql.number("select broker_add_job('x', 'insert into only_here values (1)')");
  sql.exec("set search_path = mine");
  sql.rows("select * from posthouse.broker_get()");
  EXPECT_THAT(sql.one("select posthouse.broker_run($1)::text", id), HasSubstr("succeeded"));
  sql.exec("set search_path = posthouse");
}

TEST_F(BrokerSql, AnotherSessionCannotRunWhatThisOneClaimed) {
  auto const id = sql.number("select broker_add_job('x', 'select 1')");
  sql.rows("select * from broker_get()");
  auto second = open();
  EXPECT_EQ(second.sqlstate_of("select broker_run(" + std::to_string(id) + ")"), "55000");
  second.exec("select set_config('posthouse.broker_session_1', '" + sql.one("show posthouse.broker_session_1") +
              "', false)");
  EXPECT_EQ(second.sqlstate_of("select broker_run(" + std::to_string(id) + ")"), "55000");
}

TEST_F(BrokerSql, SetSaysItForTheJobsOfTheSession) {
  auto session = as(app);
  session.exec(
      "select broker_set('user', 'bob'), broker_set('statement_timeout', '5s'), broker_set('application_name', "
      "'desk')");
  auto const id = session.number("select broker_add_job('x', 'select 1')");
  EXPECT_EQ(field(id, "user_login"), "bob");
  EXPECT_EQ(sql.one("select options ->> 'timeout_ms' from job where id = $1", id), "5000");
  EXPECT_EQ(session.one("show application_name"), "desk");
  EXPECT_EQ(session.one("show statement_timeout"), "5s");
  session.exec("select broker_set('statement_timeout', null), broker_set('user', null)");
  auto const plain = session.number("select broker_add_job('x', 'select 1')");
  EXPECT_EQ(field(plain, "user_login"), "null");
  EXPECT_EQ(sql.one("select coalesce(options ->> 'timeout_ms', 'none') from job where id = $1", plain), "none");
}

TEST_F(BrokerSql, SchedulesAreEditedAsRows) {
  sql.exec("insert into broker_schedule (name, cron, execute_str) values ('nightly', '0 3 * * *', 'select 1')");
  EXPECT_EQ(sql.one("select timezone || job_queue || job_priority || job_language || enabled from broker_schedule"),
            "UTC10sqltrue");
  EXPECT_EQ(
      sql.one("select count(*) from schedules where name = 'broker:' || (select id from broker_schedule) and kind = "
              "'sql' and queue = 'broker:1'"),
      "1");
  sql.exec(
      "update broker_schedule set cron = '30 4 * * *', timezone = 'Europe/Berlin', job_queue = 2, enabled = false");
  EXPECT_EQ(sql.one("select cron || ' ' || time_zone || ' ' || queue || ' ' || enabled from schedules"),
            "30 4 * * * Europe/Berlin broker:2 false");
  EXPECT_EQ(sql.one("select coalesce(next_run_at::text, 'null') from broker_schedule"), "null");
  sql.exec("update broker_schedule set enabled = true, execute_str = 'select 2'");
  EXPECT_EQ(sql.one("select next_run_at > now() from broker_schedule"), "t");
  EXPECT_THAT(
      refusal_of("insert into broker_schedule (name, cron, execute_str) values ('nightly', '@daily', 'select 1')"),
      HasSubstr("posthouse: a schedule named 'nightly' exists already"));
  EXPECT_THAT(
      refusal_of("insert into broker_schedule (name, cron, execute_str) values ('x', '61 * * * *', 'select 1')"),
      HasSubstr("minute is '61'"));
  EXPECT_THAT(refusal_of("insert into broker_schedule (name, execute_str) values ('x', 'select 1')"),
              HasSubstr("posthouse: cron is null"));
  EXPECT_THAT(refusal_of("update broker_schedule set id = 99"), StartsWith("428C9"));
  EXPECT_THAT(refusal_of("update broker_schedule set next_run_at = now()"), StartsWith("428C9"));
  sql.exec("delete from broker_schedule");
  EXPECT_EQ(sql.number("select count(*) from schedules"), 0);
  EXPECT_EQ(sql.number("select count(*) from broker_cron"), 0);
}

TEST_F(BrokerSql, AFiredJobIsTheBrokersOwnAndKeepsWhatItWas) {
  sql.exec(
      "insert into broker_schedule (name, cron, execute_str, run_as, user_login) values ('nightly', '0 3 * * *', "
      "'select 1', '" +
      app + "', 'night')");
  auto const schedule = sql.number("select id from broker_schedule");
  sql.exec("update schedule set due_at = now() - interval '1 s', next_at = now() - interval '1 s'");
  EXPECT_EQ(sql.number("select fire_schedules()"), 1);
  auto const id = sql.number("select max(id) from jobs");
  sql.exec("update broker_schedule set execute_str = 'select 2'");
  EXPECT_EQ(field(id, "execute_str"), "select 1");
  EXPECT_EQ(field(id, "run_as"), app);
  EXPECT_EQ(field(id, "user_login"), "night");
  EXPECT_EQ(field(id, "job_name"), "nightly");
  EXPECT_EQ(field(id, "schedule_id"), std::to_string(schedule));
  EXPECT_EQ(sql.one("select last_run_at is not null from broker_schedule"), "t");
  // Taking the schedule away by the engine's own name takes all of it.
  sql.exec("select remove_schedule('broker:" + std::to_string(schedule) + "')");
  EXPECT_EQ(sql.number("select count(*) from broker_schedule"), 0);
  EXPECT_EQ(field(id, "status"), "available");
}

// An operator may say when; what runs, and as whom, only who may run it himself.
TEST_F(BrokerSql, WhoEditsAScheduleNeedsItsRoleForWhatItDoes) {
  sql.exec("grant select, insert, update, delete on broker_schedule to " + app + ", " + other +
           "; grant execute on function broker_save_schedule, broker_remove_schedule to " + app + ", " + other);
  auto mine = as(app);
  auto theirs = as(other);
  mine.exec("insert into broker_schedule (name, cron, execute_str) values ('a', '@daily', 'select 1')");
  EXPECT_EQ(sql.one("select run_as from broker_schedule"), app);
  theirs.exec("update broker_schedule set cron = '@hourly'");
  EXPECT_EQ(sql.one("select made_by from broker_cron"), app);
  EXPECT_EQ(theirs.sqlstate_of("update broker_schedule set execute_str = 'select 2'"), "42501");
  EXPECT_EQ(theirs.sqlstate_of("update broker_schedule set user_login = 'boss'"), "42501");
  EXPECT_EQ(theirs.sqlstate_of("insert into broker_schedule (name, cron, execute_str, run_as) values ('b', '@daily', "
                               "'select 1', '" +
                               app + "')"),
            "42501");
  theirs.exec("update broker_schedule set run_as = '" + other + "'");
  EXPECT_EQ(sql.one("select made_by from broker_cron"), other);
}

TEST_F(BrokerSql, PruneForgetsWhatTheEngineHasForgotten) {
  auto const gone = add_as(app, "select 1");
  auto const kept = add_as(app, "select 1");
  sql.exec("update broker_job set at = at - interval '40 days'");
  sql.exec("delete from job where id = " + std::to_string(gone));
  sql.exec("select prune_broker_jobs(now() - interval '1 day', 100)");
  EXPECT_THAT(sql.column("select job from broker_job"), ElementsAre(std::to_string(kept)));
}

TEST_F(BrokerSql, EveryNameIsDocumented) {
  EXPECT_THAT(
      sql.column("select p.proname from pg_proc p where pronamespace = 'posthouse'::regnamespace and proname = "
                 "any(broker_names()) and obj_description(p.oid, 'pg_proc') is null union all "
                 "select c.relname from pg_class c where relnamespace = 'posthouse'::regnamespace and relname = "
                 "any(broker_names()) and obj_description(c.oid, 'pg_class') is null"),
      IsEmpty());
}

}  // namespace
}  // namespace posthouse::test
