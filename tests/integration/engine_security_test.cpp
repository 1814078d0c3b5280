// SPDX-License-Identifier: Apache-2.0
// Rights and search paths: PUBLIC has none, a producer has what it was granted, and objects of a caller that are named
// like ours are never used.
#include <gmock/gmock.h>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class EngineSecurity : public EngineTest {
 protected:
  EngineSecurity() : role_("producer_" + database.name()), session_(open()) {
    sql.exec("create role " + role_ + "; grant usage on schema posthouse to " + role_);
  }
  ~EngineSecurity() override {
    try {
      session_.close();
      sql.exec("drop owned by " + role_ + "; drop role " + role_);
    } catch (std::exception const&) {
      ADD_FAILURE() << "role " << role_ << " is left behind";
    }
  }
  void grant(std::string const& what) { sql.exec("grant " + what + " to " + role_); }
  void become() { session_.exec("set session authorization " + role_ + "; set search_path = posthouse"); }

  std::string const role_;
  Sql session_;
};

TEST_F(EngineSecurity, PublicHasNoRights) {
  EXPECT_THAT(sql.column("select p.oid::regprocedure::text from pg_proc p, aclexplode(coalesce(p.proacl, "
                         "acldefault('f', p.proowner))) a "
                         "where p.pronamespace = 'posthouse'::regnamespace and a.grantee = 0"),
              IsEmpty());
  EXPECT_THAT(sql.column("select c.oid::regclass::text from pg_class c, aclexplode(c.relacl) a "
                         "where c.relnamespace = 'posthouse'::regnamespace and a.grantee = 0"),
              IsEmpty());
  EXPECT_EQ(sql.number("select count(*) from pg_namespace n, aclexplode(n.nspacl) a where n.nspname = 'posthouse' and "
                       "a.grantee = 0"),
            0);
  become();
  for (auto const& function : sql.column(
           "select format('%s(%s)', p.oid::regproc, (select string_agg(case when p.provariadic <> 0 and o = p.pronargs "
           "then 'variadic ' else '' end || 'null::' || format_type(t, null), ', ' "
           "order by o) from unnest(p.proargtypes) with ordinality u(t, o))) from pg_proc p where "
           "p.pronamespace = 'posthouse'::regnamespace")) {
    EXPECT_EQ(session_.sqlstate_of("select " + function), "42501") << function;
  }
  for (auto const& table :
       sql.column("select c.oid::regclass::text from pg_class c where c.relnamespace = 'posthouse'::regnamespace and "
                  "c.relkind in ('r', 'p', 'v', 'S')")) {
    EXPECT_EQ(session_.sqlstate_of("select * from " + table), "42501") << table;
  }
}

TEST_F(EngineSecurity, AProducerNeedsOnlyTheFunctionsItCalls) {
  grant(
      "execute on function enqueue(text, jsonb, text, int, timestamptz, interval, jsonb, int, text, text, text, "
      "interval, uuid, timestamptz, interval, interval, text, bigint[], boolean), enqueue_many(jsonb), "
      "open_lane(text, text, int), reserve_ids(int), ring(bigint)");
  sql.exec("grant insert (id, lane, payload, payload_bytes, headers, options) on job to " + role_);
  become();
  EXPECT_EQ(session_.sqlstate_of("select enqueue('first_of_its_kind')"), "");
  EXPECT_EQ(session_.sqlstate_of("select enqueue('k', delay => '1 hour', headers => '{\"a\": \"b\"}')"), "");
  EXPECT_EQ(session_.sqlstate_of("select enqueue_many('[{\"kind\":\"k\"},{\"kind\":\"new\"}]')"), "");
  EXPECT_EQ(session_.sqlstate_of("select enqueue('k', depends_on => array[enqueue('k')])"), "");
  EXPECT_EQ(session_.sqlstate_of(
                "insert into job (id, lane, payload) select id, open_lane('k'), '{}' from unnest(reserve_ids(2)) id; "
                "select ring(open_lane('k'))"),
            "");
  // Never the columns on which windows rest.
  for (std::string const column : {"txid", "queued_at", "attempt"}) {
    EXPECT_EQ(session_.sqlstate_of("insert into job (id, lane, " + column + ") values (1, 1, null)"), "42501")
        << column;
  }
  for (std::string const statement : {"select * from job",
                                      "delete from job",
                                      "update job set lane = 1",
                                      "select * from jobs",
                                      "select * from batch",
                                      "insert into lane_seen values (1, 'a', 'b', 0)",
                                      "insert into batch (lane) values (1)",
                                      "select nextval('job_id')",
                                      "select claim(1, 1, null, 1, 1)",
                                      "select finish(1, '{1}', '{null}', '{0}', null)",
                                      "select complete(1, 1, 0, 1)",
                                      "select complete_with(1, 1, 0, 1, '1', null, null)",
                                      "select keep_results(1, '{1}', '[]')",
                                      "select outcome(1)",
                                      "select watch_jobs('{1}')",
                                      "select unwatch_jobs('{1}')",
                                      "select report_progress(1, '[]')",
                                      "select * from progress",
                                      "select * from result",
                                      "select cancel(1)",
                                      "select retry(1)",
                                      "select adopt()",
                                      "select register_worker('w', 'h', 1, '0', null, '{k}', 30000, 1)",
                                      "select take_back(1, null, true)",
                                      "select promote()",
                                      "select reap()",
                                      "select prune()",
                                      "select add_schedule('s', 'k', cron => '@daily')",
                                      "select fire_schedules()",
                                      "select * from schedules",
                                      "select pause_queue('q')",
                                      "select resume_queue('q')",
                                      "select set_queue_priority('q', 1)",
                                      "select pause_kind('k')",
                                      "select resume_kind('k')",
                                      "select pause_key('k', 'a')",
                                      "select resume_key('k', 'a')",
                                      "select * from key_list()",
                                      "select tend_keys()",
                                      "select tend_children()",
                                      "select release_children('{1}')",
                                      "select waits_for(1)",
                                      "select * from dependency",
                                      "select nextval('dependency_mark')",
                                      "select nextval('rule_mark')",
                                      "select prune_rules()",
                                      "select * from parked",
                                      "select retry_dead()",
                                      "select purge_dead()",
                                      "select * from status()",
                                      "select broker_add_job('x', 'select 1')",
                                      "select broker_get()",
                                      "select broker_run(1)",
                                      "select broker_start(1)",
                                      "select * from broker_jobs",
                                      "select * from broker_job",
                                      "delete from broker_schedule",
                                      "select install_roles()",
                                      "select broker_publish('public')",
                                      "insert into kind values ('k', true)",
                                      "select enqueue_bytes('k', 'x')"}) {
    EXPECT_EQ(session_.sqlstate_of(statement), "42501") << statement;
  }
  Hand worker(sql, {.kinds = "{k,new,first_of_its_kind}"});
  EXPECT_EQ(worker.claim(100).size(), 6U);
}

// Temporary tables, functions, operators and types that are named like ours or like what we use.
TEST_F(EngineSecurity, ObjectsOfTheCallerAreNeverUsed) {
  grant("execute on all functions in schema posthouse");
  grant("select on jobs");
  sql.exec("create schema trap_" + role_ + "; grant all on schema trap_" + role_ + " to " + role_ +
           "; grant temporary on database " + database.name() + " to " + role_);
  auto const before = enqueue();
  become();
  std::string const trap = "trap_" + role_;
  session_.exec("create function " + trap +
                ".boom() returns int language plpgsql as $$ begin raise exception 'trapped' using errcode = "
                "'P0999'; end $$");
  for (std::string const table : {"job",
                                  "lane",
                                  "lane_seen",
                                  "batch",
                                  "meta",
                                  "worker",
                                  "heartbeat",
                                  "deferred",
                                  "dead",
                                  "done",
                                  "queue",
                                  "kind",
                                  "leader",
                                  "attempt_error",
                                  "result",
                                  "progress",
                                  "schedule",
                                  "schedule_fire",
                                  "schedules",
                                  "unique_key",
                                  "enqueue_token",
                                  "unfinished",
                                  "pg_class",
                                  "pg_database",
                                  "pg_inherits",
                                  "broker_job",
                                  "broker_cron",
                                  "broker_jobs",
                                  "broker_schedule",
                                  "pg_roles"}) {
    session_.exec("create temp table " + table + " (x int default " + trap + ".boom())");
  }
  for (std::string const function :
       {"lane_of(text, text, int, boolean) returns bigint", "key_space() returns int", "channel() returns text",
        "snapshot_now() returns pg_snapshot", "hashint8(bigint) returns int", "clock_timestamp() returns timestamptz",
        "nextval(regclass) returns bigint", "pg_notify(text, text) returns void", "wake(text) returns void",
        "sha256(bytea) returns bytea", "pg_try_advisory_lock_shared(int, int) returns boolean",
        "identity_now() returns text"}) {
    for (std::string const& schema : {trap, std::string("pg_temp")}) {
      session_.exec("create function " + schema + "." + function + " language plpgsql as $$ begin perform " + trap +
                    ".boom(); end $$");
    }
  }
  session_.exec("create function " + trap +
                ".equal(bigint, bigint) returns boolean language plpgsql as $$ begin perform " + trap +
                ".boom(); end $$; create operator " + trap +
                ".= (leftarg = bigint, rightarg = bigint, function = " + trap + ".equal)");
  session_.exec("set search_path = " + trap + ", pg_temp, pg_catalog, posthouse");

  auto const worker = session_.number("select posthouse.register_worker('w', 'h', 1, '0', null, '{k,new}', 30000, 4)");
  auto const job = session_.number("select posthouse.enqueue('new', '{}')");
  EXPECT_EQ(session_.sqlstate_of(
                "select posthouse.enqueue('k', delay => '1 hour'); select posthouse.enqueue_bytes('k', 'x'); "
                "select posthouse.enqueue_many('[{\"kind\":\"k\"}]'); select posthouse.open_lane('k'); "
                "select posthouse.ring(1); select posthouse.reserve_ids(1)"),
            "");
  std::string const w = std::to_string(worker);
  EXPECT_EQ(session_.number("select count(*) from posthouse.claim(" + w + ", 16, null, 10, 10)"), 4);
  for (std::string const& call :
       {"beat(" + w + ", 0, 1, 1)",
        "look(" + w + ")",
        "lead(" + w + "::bigint)",
        "duties(" + w + ")",
        std::string("promote()"),
        std::string("reap()"),
        "finish(" + w + ", '{16}', '{null}', '{1}', null)",
        "finish_and_claim_one(" + w + ", null, 1600, 1)",
        "complete(" + w + ", 17, 0, 1)",
        "complete_with(" + w + ", 17, 1, 1, '1', null, null)",
        "finish(" + w + R"(, '{18}', '{null}', '{1}', null, '[{"token": 18, "pos": 0, "id": 1, "value": "1"}]'))",
        "outcome(" + std::to_string(job) + ")",
        "report_progress(" + w + R"(, '[{"token": 18, "pos": 0, "id": 1, "fraction": 1}]'))",
        "give_back(" + w + ", '{17}')",
        "cancel(" + std::to_string(job) + ")",
        "retry(" + std::to_string(before) + ")",
        "delete_job(" + std::to_string(before) + ")",
        std::string("counts()"),
        std::string("bell('{1}')"),
        std::string("unbell('{1}')"),
        std::string("watch_jobs('{1}')"),
        std::string("unwatch_jobs('{1}')"),
        std::string("enqueue('k', '1', dedupe_key => 'a', on_duplicate => 'replace')"),
        std::string("enqueue('k', '2', dedupe_key => 'a', on_duplicate => 'replace')"),
        std::string("enqueue('k', '3', dedupe_key => 'a', on_duplicate => 'reschedule', delay => '1 h')"),
        std::string("keep('p')"),
        "peers(" + w + ")",
        std::string("fence()"),
        std::string("prune()"),
        std::string("rotate_ahead()"),
        std::string("droppable()"),
        std::string("detached()"),
        std::string("unfrozen()"),
        std::string("has_unfinished('job')"),
        std::string("add_schedule('s', 'new', at => '2020-01-01')"),
        std::string("sync_schedules('app', '[{\"name\": \"a\", \"kind\": \"k\", \"cron\": \"@daily\"}]')"),
        std::string("set_schedule('a', '{\"overlap\": \"replace\", \"time_zone\": \"Europe/Berlin\"}')"),
        std::string("pause_schedule('a')"),
        std::string("resume_schedule('a')"),
        std::string("preview_schedule('a')"),
        std::string("preview_cron('@daily', 'Asia/Tokyo')"),
        std::string("fire_schedules()"),
        std::string("remove_schedule('a')"),
        "leave(" + w + ")",
        std::string("pause_queue('q')"),
        std::string("resume_queue('q')"),
        std::string("set_queue_priority('q', 1)"),
        std::string("pause_kind('q')"),
        std::string("resume_kind('q')"),
        std::string("set_limit('key_rate', 'k', per_second => 1)"),
        std::string("hold_key('k', 'a', '1 s')"),
        std::string("key_list()"),
        std::string("resume_key('k', 'a')"),
        std::string("ping_workers('{1}')"),
        std::string("limit_bell(true)"),
        std::string("limit_bell(false)"),
        std::string("buffer_bell(1, true)"),
        std::string("buffer_bell(1, false)"),
        std::string("backlog()"),
        std::string("stats()"),
        std::string("measure()"),
        std::string("status()"),
        std::string("xmin_holders('0')"),
        std::string("ahead(1)"),
        std::string("retry_dead(most => 1)"),
        std::string("purge_dead(kind => 'none')"),
        std::string("broker_set('user', 'x')"),
        std::string("broker_add_job('x', 'select 1')"),
        std::string("broker_get()"),
        std::string("broker_start(1)"),
        std::string("broker_role_problem('a', 'b')"),
        std::string("broker_payload('n', 'select 1', 'http', null, null)"),
        std::string("prune_broker_jobs('infinity', 1)"),
        std::string("adopt()")}) {
    EXPECT_EQ(session_.sqlstate_of("select posthouse." + call), "") << call;
  }
  EXPECT_EQ(session_.sqlstate_of("select * from posthouse.jobs"), "");
  EXPECT_EQ(sql.number("select count(*) from jobs"), 8);
  sql.exec("drop schema " + trap + " cascade");
}

TEST_F(EngineSecurity, NamesWithSqlInThemAreText) {
  grant("execute on all functions in schema posthouse");
  become();
  for (std::string const name : {"x'; drop table job; --", "$$; drop table job; $$", "\"; drop table job"}) {
    EXPECT_THROW(session_.rows("select enqueue($1)", name), SqlError);
    session_.rows("select has_unfinished('job'), drop_detached($1), pause_queue($1), keep($1)", name);
    EXPECT_THROW(session_.rows("select has_unfinished($1)", name), SqlError);
    EXPECT_THROW(session_.rows("select pause_kind($1)", name), SqlError);
    EXPECT_THROW(session_.rows("select set_queue_priority($1, 1)", name), SqlError);
    session_.rows("select retry_dead(kind => $1), purge_dead(queue => $1)", name);
  }
  EXPECT_EQ(sql.number("select count(*) from job"), 0);
}

}  // namespace
}  // namespace posthouse::test
