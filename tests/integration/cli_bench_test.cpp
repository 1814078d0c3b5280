// SPDX-License-Identifier: Apache-2.0
// posthouse bench: its keys, its ends, and that nothing of it stays. What the figures are is for the benchmark, not for
// tests.
#include <gmock/gmock.h>

#include <boost/json.hpp>
#include <filesystem>
#include <fstream>

#include "integration/cli_fixture.hpp"

namespace posthouse::test {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CliBench : public CliTest {
 protected:
  CliBench() { environment["POSTHOUSE_DATABASE_URL"] = database.url(); }

  static std::vector<std::string> tiny(std::string const& scenario) {
    return {"bench", scenario, "--jobs", "1000", "--repetitions", "1", "--seconds", "1", "--json"};
  }
  [[nodiscard]] std::string as(std::string const& role) const { return database.url() + "&user=" + role; }
  void expect_keys(std::string const& scenario, std::vector<std::string> const& keys) {
    auto const ran = run(tiny(scenario));
    ASSERT_EQ(ran.status, 0) << ran.err;
    auto const document = boost::json::parse(ran.out).as_object();
    for (auto const& key : keys) {
      SCOPED_TRACE(key);
      ASSERT_TRUE(document.contains(key));
      EXPECT_GT(document.at(key).to_number<double>(), 0);
    }
    EXPECT_THAT(schemas(), IsEmpty());
  }
  std::vector<std::string> schemas() {
    return sql.column("select nspname from pg_namespace where starts_with(nspname, 'posthouse_bench_') order by 1");
  }
  bool has_schema() { return !schemas().empty(); }

  TestDatabase database{TestDatabase::empty};
  Sql sql{database.url()};
};

TEST_F(CliBench, ThroughputHasItsKeys) {
  expect_keys("throughput", {"drain_per_s", "raw_drain_per_s", "drain_ratio", "wal_bytes_per_job", "statements_per_job",
                             "commits_per_job", "xids_per_job", "client_cpu_us_per_job", "server_cpu_us_per_job"});
}

TEST_F(CliBench, EnqueueHasItsKeys) {
  expect_keys("enqueue", {"enqueue_many_per_s", "raw_copy_per_s", "enqueue_ratio", "enqueue_one_per_s",
                          "raw_insert_per_s", "enqueue_one_ratio"});
}

TEST_F(CliBench, LatencyHasItsKeys) {
  expect_keys("latency", {"latency_p50_ms", "latency_p99_ms", "raw_notify_p50_ms", "latency_ratio"});
}

TEST_F(CliBench, HeldSnapshotHasItsKeys) {
  expect_keys("held-snapshot", {"held_drain_per_s", "free_drain_per_s", "held_ratio"});
}

TEST_F(CliBench, WorkersHaveTheirKeys) {
  expect_keys("workers", {"workers_1_per_s", "workers_4_per_s", "workers_16_per_s", "workers_worst_to_best"});
}

TEST_F(CliBench, BacklogHasItsKeys) {
  expect_keys("backlog", {"backlog_drain_ratio", "finished_drain_ratio", "backlog_enqueue_ratio",
                          "finished_enqueue_ratio", "worker_rss_mib_small", "worker_rss_mib_large"});
}

TEST_F(CliBench, RangesAreCheckedForEveryScenario) {
  for (auto const& [flag, value] : std::vector<std::pair<std::string, std::string>>{{"--jobs", "999"},
                                                                                    {"--jobs", "100000001"},
                                                                                    {"--repetitions", "0"},
                                                                                    {"--repetitions", "101"},
                                                                                    {"--seconds", "0"},
                                                                                    {"--seconds", "3601"}}) {
    auto const ran = run({"bench", "idle", flag, value});
    SCOPED_TRACE(flag + " " + value);
    EXPECT_EQ(ran.status, 2);
    EXPECT_THAT(ran.err, HasSubstr(flag.substr(2) + " is " + value + "; allowed is "));
  }
  EXPECT_THAT(run({"bench", "nonsense"}).err, HasSubstr("unknown benchmark 'nonsense'"));
}

TEST_F(CliBench, ASignalLeavesNothing) {
  for (auto const& [signal, status] : {std::pair{SIGTERM, 143}, std::pair{SIGINT, 130}}) {
    SCOPED_TRACE(signal);
    // Idle for an hour, if nobody stops it.
    auto bench = start({"bench", "idle", "--seconds", "3600"});
    ASSERT_TRUE(bench.said("idle: 10 workers")) << bench.errors();
    EXPECT_TRUE(has_schema());
    bench.send(signal);
    EXPECT_EQ(bench.wait(), status) << bench.errors();
    EXPECT_THAT(schemas(), IsEmpty());
  }
}

TEST_F(CliBench, ASignalEndsAStatementThatRuns) {
  // Its jobs are made by one statement, which takes its time.
  auto bench = start({"bench", "workers", "--jobs", "10000000", "--repetitions", "1"});
  ASSERT_TRUE(eventually([&] {
    return sql.one("select count(*) from pg_stat_activity where state = 'active' and query like 'insert into %job%'") ==
           "1";
  })) << bench.errors();
  bench.terminate();
  EXPECT_EQ(bench.wait(), 143) << bench.errors();
  EXPECT_THAT(schemas(), IsEmpty());
}

TEST_F(CliBench, WhatAKilledRunLeavesTheNextOneRemoves) {
  auto killed = start({"bench", "workers", "--jobs", "10000000", "--repetitions", "1"});
  ASSERT_TRUE(eventually([&] {
    return has_schema() && sql.one("select count(*) from pg_stat_activity where query like 'insert into %job%'") == "1";
  })) << killed.errors();
  auto const left = schemas();
  // One that runs beside it leaves it alone.
  auto beside = start({"bench", "idle", "--seconds", "3600"});
  ASSERT_TRUE(beside.said("idle: 10 workers")) << beside.errors();
  EXPECT_EQ(schemas().size(), 2U);
  killed.kill();
  killed.wait();
  // The server would find out when the statement ends.
  sql.exec(
      "select pg_terminate_backend(pid) from pg_stat_activity where query like 'insert into %job%' and "
      "pid <> pg_backend_pid()");
  // Its worker process is gone with it, and with both their sessions and the lock.
  ASSERT_TRUE(eventually([&] {
    return sql.one(
               "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> "
               "pg_backend_pid() and query like '%' || $1 || '%'",
               left.front()) == "0";
  }));
  auto const ran = run(tiny("throughput"));
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("schema " + left.front() + ", left by a run that is gone, is removed"));
  ASSERT_EQ(schemas().size(), 1U);
  EXPECT_NE(schemas().front(), left.front());
  beside.terminate();
  EXPECT_EQ(beside.wait(), 143);
  EXPECT_THAT(schemas(), IsEmpty());
}

TEST_F(CliBench, AWorkerProcessThatCannotStartIsAnError) {
  auto const role = "few_" + database.name();
  sql.exec("create role " + role + " login connection limit 6");
  sql.exec("grant create on database " + database.name() + " to " + role);
  environment["POSTHOUSE_DATABASE_URL"] = as(role);
  auto const ran = run(tiny("workers"));
  EXPECT_NE(ran.status, 0);
  EXPECT_THAT(ran.err, HasSubstr("worker process"));
  EXPECT_THAT(ran.err, HasSubstr("too many connections for role"));
  EXPECT_THAT(schemas(), IsEmpty());
  sql.exec("drop owned by " + role);
  sql.exec("drop role " + role);
}

TEST_F(CliBench, DatabasesNeedsARoleThatMayMakeThem) {
  auto const role = "none_" + database.name();
  sql.exec("create role " + role + " login");
  sql.exec("grant create on database " + database.name() + " to " + role);
  environment["POSTHOUSE_DATABASE_URL"] = as(role);
  auto const ran = run(tiny("databases"));
  EXPECT_EQ(ran.status, 2);
  EXPECT_THAT(ran.err, HasSubstr("the role " + role + " may not"));
  EXPECT_THAT(ran.err, HasSubstr("CREATEDB"));
  EXPECT_THAT(schemas(), IsEmpty());
  sql.exec("drop owned by " + role);
  sql.exec("drop role " + role);
}

}  // namespace
}  // namespace posthouse::test
