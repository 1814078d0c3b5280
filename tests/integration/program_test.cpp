// SPDX-License-Identifier: Apache-2.0
// Handlers without code on a real database: what `posthouse work` makes of exec and sql, timeouts, signals and crashes.
#include <csignal>

#include "integration/cli_fixture.hpp"

namespace posthouse::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class HandlersWithoutCode : public CliDatabaseTest {
 protected:
  std::string enqueue(std::string const& kind, std::string const& payload = "{}") {
    return sql.one("select posthouse.enqueue($1, $2::jsonb, headers => '{\"h\": \"1\"}')", kind, payload);
  }
  /// Works what there is with these kinds.
  Ran work(std::string const& kinds, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments{"work",  "--once",   "--log-level",
                                       "error", "--config", folder.write("work.yaml", "kinds:\n" + kinds)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  }
  std::string last_error(std::string const& id) {
    return sql.one("select last_error from posthouse.jobs where id = $1", id);
  }
};

TEST_F(HandlersWithoutCode, ExecGetsPayloadAndFacts) {
  auto const id = enqueue("mail", R"({"to": [1, 2.50]})");
  auto const out = (folder.path() / "out").string();
  environment["GIVEN"] = "yes";
  environment["WITHHELD"] = "yes";
  ASSERT_EQ(
      work("  mail: {exec: [/bin/sh, -c, 'cat > " + out + "; env >> " + out + "'], env: [GIVEN, A=b], timeout: 1m}\n")
          .status,
      0);
  auto const text = folder.read("out");
  EXPECT_THAT(text, ::testing::StartsWith(R"({"to": [1, 2.50]})"));
  EXPECT_THAT(text, HasSubstr("POSTHOUSE_JOB_ID=" + id + "\n"));
  EXPECT_THAT(text, HasSubstr("POSTHOUSE_JOB_KIND=mail\n"));
  EXPECT_THAT(text, HasSubstr("POSTHOUSE_JOB_QUEUE=default\n"));
  EXPECT_THAT(text, HasSubstr("POSTHOUSE_JOB_ATTEMPT=1\n"));
  EXPECT_THAT(text, HasSubstr("POSTHOUSE_JOB_TOKEN="));
  EXPECT_THAT(text, HasSubstr("POSTHOUSE_JOB_DEADLINE=20"));
  EXPECT_THAT(text, HasSubstr("GIVEN=yes\n"));
  EXPECT_THAT(text, HasSubstr("A=b\n"));
  EXPECT_THAT(text, Not(HasSubstr("WITHHELD")));
  EXPECT_THAT(text, Not(HasSubstr("POSTHOUSE_DATABASE_URL")));
  EXPECT_EQ(state(id), "succeeded");
}

TEST_F(HandlersWithoutCode, ExitStatusDecides) {
  auto const failing = enqueue("failing");
  auto const later = enqueue("later");
  auto const slow = enqueue("slow");
  auto const flood = enqueue("flood");
  auto const missing = enqueue("missing");
  ASSERT_EQ(work(R"yaml(
  failing: {exec: [/bin/sh, -c, 'echo why >&2; exit 3'], max_attempts: 2, backoff: 0}
  later: {exec: [/bin/sh, -c, 'exit 75'], backoff: 1h}
  slow: {exec: [/bin/sh, -c, 'sleep 100'], max_attempts: 1, timeout: 200ms}
  flood: {exec: [/bin/sh, -c, 'yes | head -c 50000000']}
  missing: {exec: [no-such-program], max_attempts: 1}
)yaml")
                .status,
            0);
  EXPECT_EQ(state(failing), "failed");
  EXPECT_THAT(last_error(failing), HasSubstr("exit status 3: why"));
  EXPECT_EQ(sql.number("select count(*) from posthouse.attempt_error where job = $1", failing), 2);
  EXPECT_EQ(state(later), "scheduled");
  EXPECT_EQ(sql.number("select attempt from posthouse.jobs where id = $1", later), 0) << "75 counts no attempt";
  EXPECT_EQ(state(slow), "failed");
  EXPECT_THAT(last_error(slow), HasSubstr("timeout"));
  EXPECT_EQ(state(flood), "succeeded");
  EXPECT_THAT(last_error(missing), HasSubstr("cannot find the program"));
}

TEST_F(HandlersWithoutCode, SqlAndCompletionAreOneTransaction) {
  sql.exec("create table effect (job bigint, kind text, payload jsonb, queue text, attempt int, headers jsonb)");
  auto const good = enqueue("good", R"({"n": 12345678901234567890})");
  auto const bad = enqueue("bad");
  auto const list = enqueue("list");
  ASSERT_EQ(work(R"yaml(
  good:
    sql: >-
      insert into effect values (current_setting('posthouse.job_id')::bigint, current_setting('posthouse.kind'),
        current_setting('posthouse.payload')::jsonb, current_setting('posthouse.queue'),
        current_setting('posthouse.attempt')::int, current_setting('posthouse.headers')::jsonb)
  bad: {sql: "insert into effect (job) values (-1); select 1 / 0", max_attempts: 1}
  list:
    sql: ["insert into effect (job) values (-2)", "update effect set job = -3 where job = -2; -- done"]
)yaml")
                .status,
            0);
  EXPECT_EQ(state(good), "succeeded");
  EXPECT_TRUE(
      sql.truth("select (kind, queue, attempt, headers ->> 'h', payload ->> 'n') = ('good', 'default', 1, '1', "
                "'12345678901234567890') from effect where job = $1",
                good));
  EXPECT_EQ(state(bad), "failed");
  EXPECT_EQ(last_error(bad), "division by zero");
  EXPECT_EQ(sql.number("select count(*) from effect where job = -1"), 0);
  EXPECT_EQ(state(list), "succeeded");
  EXPECT_EQ(sql.number("select count(*) from effect where job = -3"), 1);
}

// In the transaction of the statements; what cannot be stored keeps no job from succeeding.
TEST_F(HandlersWithoutCode, SqlBringsARowCountOrWhatItSays) {
  sql.exec("create table effect (x int)");
  std::vector<std::string> ids;
  for (auto const* kind : {"count", "rows", "none", "said", "bad", "nul"}) ids.push_back(enqueue(kind));
  ASSERT_EQ(work(R"yaml(
  count: {sql: ["select 1", "insert into effect select generate_series(1, 3)"]}
  rows: {sql: "delete from effect where false; select * from generate_series(1, 7)"}
  none: {sql: "set local enable_seqscan = off"}
  said: {sql: "select set_config('posthouse.result', jsonb_build_object('sum', 1 + 1)::text, true); update effect set x = 0 where false"}
  bad: {sql: "select set_config('posthouse.result', 'not JSON', true)"}
  nul: {sql: "insert into effect values (9); select set_config('posthouse.result', '\"\\u0000\"', true)"}
)yaml")
                .status,
            0);
  auto const result = [&](std::size_t i) {
    return sql.one("select concat_ws(' ', state, result, result_problem) from posthouse.outcome($1::bigint)", ids[i]);
  };
  EXPECT_EQ(result(0), R"(succeeded {"row_count": 3})");
  EXPECT_EQ(result(1), R"(succeeded {"row_count": 7})");
  EXPECT_EQ(result(2), R"(succeeded {"row_count": 0})");
  EXPECT_EQ(result(3), R"(succeeded {"sum": 2})");
  EXPECT_THAT(result(4), HasSubstr("succeeded the result"));
  EXPECT_THAT(result(5), HasSubstr("succeeded the result"));
  EXPECT_EQ(sql.number("select count(*) from effect where x = 9"), 1);
}

TEST_F(HandlersWithoutCode, SqlBringsTheRowsOfItsLastStatement) {
  sql.exec("create table effect (x int, y text); insert into effect values (1, 'a'), (2, null)");
  struct Case {
    std::string kind, statements, result;
  };
  std::vector<Case> const cases{
      {"value", "select count(*) from effect", "2"},
      {"text", "select 'say \\\"hi\\\"' -- a comment", R"("say \"hi\"")"},
      {"absent", "select null;", "null"},
      {"json", "select jsonb_build_object('a', array[1, 2])", R"({"a": [1, 2]})"},
      {"row", "select x, y from effect where x = 2", R"({"x": 2, "y": null})"},
      {"rows", "select * from effect order by x", R"([{"x": 1, "y": "a"}, {"x": 2, "y": null}])"},
      {"values", "select generate_series(1, 3)", "[1, 2, 3]"},
      {"none", "select x from effect where false", "[]"},
      {"show", "show standard_conforming_strings", R"("on")"},
      {"returning", "insert into effect values (9, 'z') returning x", "9"},
      {"with", "with gone as (delete from effect where x = 9 returning *) select * from gone", R"({"x": 9, "y": "z"})"},
      {"touched", "update effect set y = 'b'", R"({"row_count": 2})"},
  };
  std::string kinds = "  list: {sql: [\"select 1\", \"select 2\"]}\n";
  for (auto const& one : cases) kinds += "  " + one.kind + ": {sql: \"" + one.statements + "\"}\n";
  auto const list = enqueue("list");
  // One after another.
  for (auto const& one : cases) {
    auto const id = enqueue(one.kind);
    auto const ran = work(kinds);
    ASSERT_EQ(ran.status, 0) << ran.err;
    EXPECT_EQ(sql.one("select concat_ws(' ', state, result) from posthouse.outcome($1::bigint)", id),
              "succeeded " + one.result)
        << one.kind;
  }
  EXPECT_EQ(sql.one("select result from posthouse.outcome($1::bigint)", list), "2");
}

TEST_F(HandlersWithoutCode, RowsThatAreTooLargeKeepNoJobFromSucceeding) {
  sql.exec("create table effect (x int)");
  auto const many = enqueue("many");
  auto const wide = enqueue("wide");
  auto const fits = enqueue("fits");
  std::string const kinds = R"yaml(
  many: {sql: "insert into effect select generate_series(1, 5000) returning x"}
  wide: {sql: "select repeat('x', 200)"}
  fits: {sql: "select repeat('x', 98)"}
max_result_bytes: 100
)yaml";
  ASSERT_EQ(work(kinds).status, 0);
  auto const outcome = [&](std::string const& id) {
    return sql.one("select concat_ws(' ', state, result, result_problem) from posthouse.outcome($1::bigint)", id);
  };
  EXPECT_THAT(outcome(many), HasSubstr("more than 100 (max_result_bytes)"));
  EXPECT_THAT(outcome(wide), HasSubstr("more than 100 (max_result_bytes)"));
  EXPECT_EQ(outcome(fits), "succeeded \"" + std::string(98, 'x') + "\"");
  EXPECT_EQ(sql.number("select count(*) from effect"), 5000) << "what is not kept is run all the same";
}

TEST_F(HandlersWithoutCode, SqlCannotEndItsTransaction) {
  sql.exec("create table effect (x int)");
  std::vector<std::string> ids;
  for (auto const* word : {"commit", "rollback", "savepoint", "begin"}) ids.push_back(enqueue(word));
  ASSERT_EQ(work(R"yaml(
  commit: {sql: "insert into effect values (1); commit", max_attempts: 1}
  rollback: {sql: "insert into effect values (1); rollback", max_attempts: 1}
  savepoint: {sql: "insert into effect values (1); savepoint a", max_attempts: 1}
  begin: {sql: "begin; insert into effect values (1)", max_attempts: 1
}
)yaml")
                .status,
            0);
  for (auto const& id : ids) {
    EXPECT_EQ(state(id), "failed");
    EXPECT_THAT(last_error(id), HasSubstr("one transaction that posthouse ends"));
  }
  EXPECT_EQ(sql.number("select count(*) from effect"), 0);
}

TEST_F(HandlersWithoutCode, SqlLeavesNothingInTheSession) {
  sql.exec("create table seen (x text, y text)");
  enqueue("dirty");
  ASSERT_EQ(
      work("  dirty: {sql: \"set search_path = nowhere; set posthouse.job_id = 'x'; select pg_advisory_lock(77); "
           "create temp table seen (x int)\"}\n  look: {sql: \"insert into seen values "
           "(current_setting('search_path'), (select count(*) from pg_locks where locktype = 'advisory' and objid = "
           "77)::text)\"}\n",
           {"--concurrency", "1"})
          .status,
      0);
  // On the same connection, one after the other.
  enqueue("dirty");
  enqueue("look");
  ASSERT_EQ(
      work("  dirty: {sql: \"set search_path = nowhere; select pg_advisory_lock(77); create temp table seen (x "
           "int)\"}\n  look: {sql: \"insert into seen values (current_setting('search_path'), (select count(*) from "
           "pg_locks where locktype = 'advisory' and objid = 77)::text)\", backoff: 100ms}\n",
           {"--concurrency", "1"})
          .status,
      0);
  EXPECT_EQ(sql.one("select x || y from seen"), "\"$user\", public0");
}

TEST_F(HandlersWithoutCode, SqlTimeoutCancels) {
  auto const id = enqueue("slow");
  ASSERT_EQ(work("  slow: {sql: [select 1, select pg_sleep(100)], timeout: 300ms, max_attempts: 1}\n").status, 0);
  EXPECT_EQ(state(id), "failed");
  EXPECT_THAT(last_error(id), HasSubstr("timeout"));
}

TEST_F(HandlersWithoutCode, SqlSeesBytesAndNothing) {
  sql.exec("create table effect (x bytea, y jsonb)");
  sql.exec(R"(select posthouse.enqueue_bytes('bytes', '\x00ff0a'); select posthouse.enqueue('none'))");
  ASSERT_EQ(work(R"yaml(
  bytes: {sql: "insert into effect (x) values (current_setting('posthouse.payload')::bytea)"
}
  none: {sql: "insert into effect (y) values (current_setting('posthouse.payload')::jsonb)"}
)yaml")
                .status,
            0);
  EXPECT_EQ(sql.number(R"(select count(*) from effect where x = '\x00ff0a' or y = 'null')"), 2);
}

TEST_F(HandlersWithoutCode, SecondSignalEndsProgramsAndSqlAtOnce) {
  auto const exec = enqueue("exec");
  auto const slow = enqueue("slow");
  auto const config = folder.write("w.yaml", R"yaml(kinds:
  exec: {exec: [/bin/sh, -c, 'sleep 100 & wait']}
  slow: {sql: "select pg_sleep(100)"
  }
)yaml");
  auto worker = start({"work", "--config", config, "--log-level", "info"});
  ASSERT_TRUE(eventually([&] {
    return sql.truth("select count(*) = 2 from posthouse.jobs where state = 'running'") &&
           sql.truth("select count(*) = 1 from pg_stat_activity where wait_event = 'PgSleep'");
  })) << worker.errors();
  worker.terminate();
  EXPECT_FALSE(worker.wait(std::chrono::milliseconds(300)).has_value()) << "the first signal lets running jobs end";
  worker.terminate();
  EXPECT_EQ(worker.wait(std::chrono::seconds(20)), 0);
  EXPECT_EQ(state(exec), "available");
  EXPECT_EQ(state(slow), "available");
  EXPECT_EQ(sql.number("select sum(attempt) from posthouse.jobs"), 0) << "given back, not counted";
  EXPECT_TRUE(sql.truth("select count(*) = 0 from pg_stat_activity where wait_event = 'PgSleep'"));
}

TEST_F(HandlersWithoutCode, ProgramsDieWithAKilledWorker) {
  enqueue("long");
  auto const config = folder.write("w.yaml", "kinds: {long: {exec: [/bin/sh, -c, 'echo $$ > " +
                                                 (folder.path() / "pid").string() + "; exec sleep 100']}}\n");
  auto worker = start({"work", "--config", config});
  ASSERT_TRUE(eventually([&] { return !folder.read("pid").empty(); }));
  auto const pid = chomp(folder.read("pid"));
  worker.kill();
  worker.wait();
  EXPECT_TRUE(eventually([&] {
    std::ifstream stat("/proc/" + pid + "/stat");
    std::string const line((std::istreambuf_iterator<char>(stat)), {});
    return line.empty() || line.find(") Z ") != std::string::npos;
  }));
}

TEST_F(HandlersWithoutCode, FlagsChooseKindsAndQueues) {
  auto const a = enqueue("a");
  auto const b = enqueue("b");
  auto const other = sql.one("select posthouse.enqueue('a', queue => 'other')");
  std::string const kinds = "  a: {exec: [/bin/true]}\n  b: {exec: [/bin/true]}\n";
  EXPECT_EQ(work(kinds, {"--kind", "a", "--queue", "default"}).status, 0);
  EXPECT_EQ(state(a), "succeeded");
  EXPECT_EQ(state(b), "available");
  EXPECT_EQ(state(other), "available");
  EXPECT_EQ(work(kinds, {"--prefetch", "10"}).status, 2) << "no lease written out";
  EXPECT_EQ(work(kinds, {"--prefetch", "10", "--claim-lease", "20s"}).status, 0);
  EXPECT_EQ(state(b), "succeeded");
  EXPECT_EQ(state(other), "succeeded");
  EXPECT_EQ(work(kinds, {"--processes", "2"}).status, 0);
  EXPECT_EQ(work(kinds, {"--processes", "1001"}).status, 2);
  EXPECT_EQ(work(kinds, {"--kind", "unknown"}).status, 2);
  EXPECT_EQ(work("  {}\n").status, 2) << "there is nothing to work with";
}

TEST_F(HandlersWithoutCode, RetentionGoesIntoTheDatabase) {
  auto const config = folder.write("r.yaml", "retention: {succeeded: 2h, dead: 3}\nkinds: {a: {exec: [/bin/true]}}\n");
  EXPECT_EQ(run({"work", "--once", "--config", config}).status, 0);
  EXPECT_TRUE(sql.truth("select value::interval = '2 hours' from posthouse.meta where key = 'retention_succeeded'"));
  EXPECT_TRUE(sql.truth("select value::interval = '3 days' from posthouse.meta where key = 'retention_dead'"));
}

TEST_F(HandlersWithoutCode, DemoRunsOnAGivenServerAndLeavesNothing) {
  auto const ran = run({"demo", "--jobs", "10000", "--database-url", database.url()});
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("10,000 jobs in"));
  EXPECT_THAT(ran.out, HasSubstr("bytes a job"));
  EXPECT_EQ(sql.number("select count(*) from pg_namespace where nspname = 'posthouse_demo'"), 0);
}

}  // namespace
}  // namespace posthouse::test
