// SPDX-License-Identifier: Apache-2.0
// measure(): what it says, and that it reads no more than it counts.
#include <gmock/gmock.h>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

class EngineMeasure : public EngineTest {
 protected:
  /// value of the row, or -1.
  double gauge(std::string const& name, std::string const& kind = "", std::string const& state = "",
               int most = 10'000) {
    return std::stod(
        sql.one("select coalesce((select value from measure($4) where name = $1 and coalesce(kind, '') = $2 "
                "and coalesce(state, '') = $3), -1)",
                name, kind, state, most));
  }
};

TEST_F(EngineMeasure, SaysWhatThereIs) {
  EXPECT_EQ(gauge("jobs", "k", "available"), -1);
  enqueue_some(5);
  sql.exec("select enqueue('k', delay => '1 h'), enqueue('k', delay => '1 h'), enqueue('other', queue => 'q')");
  Hand worker(sql);
  auto const jobs = worker.claim(2);
  ASSERT_EQ(jobs.size(), 2U);
  EXPECT_EQ(gauge("jobs", "k", "available"), 3);
  EXPECT_EQ(gauge("jobs", "k", "running"), 2);
  EXPECT_EQ(gauge("jobs", "k", "scheduled"), 2);
  EXPECT_EQ(gauge("jobs", "other", "available"), 1);
  EXPECT_GE(gauge("oldest_seconds", "k", "available"), 0);
  EXPECT_GE(gauge("oldest_seconds", "k", "running"), 0);
  EXPECT_GE(gauge("wait_seconds", "k"), 0);
  EXPECT_EQ(gauge("wait_seconds", "other"), -1);
  EXPECT_EQ(gauge("capped", "k", "available"), -1);
  EXPECT_EQ(gauge("workers"), 1);
  EXPECT_EQ(gauge("due_late_seconds"), 0);
  sql.exec("update deferred set due_at = now() - interval '1 minute' where id = (select min(id) from deferred)");
  EXPECT_GE(gauge("due_late_seconds"), 60);
  worker.finish(jobs.at(0).token, "11", 2, "[" + move_of(jobs.at(0), "fail") + "]");
  EXPECT_EQ(gauge("dead_last_hour", "k", "failed"), 1);
  EXPECT_EQ(gauge("jobs", "k", "running"), -1);
}

TEST_F(EngineMeasure, LeaderSchedulesAndPauses) {
  EXPECT_EQ(gauge("leader"), 0);
  Hand worker(sql);
  sql.rows("select lead($1::bigint)", worker.id());
  EXPECT_EQ(gauge("leader"), 1);
  EXPECT_GE(gauge("leader_seen_seconds"), 0);
  EXPECT_EQ(gauge("schedule_late_seconds"), 0);
  sql.exec(
      "select add_schedule('s', 'k', cron => '@daily'), add_schedule('p', 'k', cron => '@daily'), pause_schedule('p')");
  EXPECT_EQ(gauge("schedules", "", "active"), 1);
  EXPECT_EQ(gauge("schedules", "", "paused"), 1);
  sql.exec("update schedule set due_at = now() - interval '90 s'");
  EXPECT_GE(gauge("schedule_late_seconds"), 90);
  sql.exec("select pause_kind('k'), pause_queue('q')");
  EXPECT_EQ(gauge("paused", "k"), 1);
  EXPECT_EQ(gauge("paused"), 1);
}

// Tables that were never analysed; the statistics of this very transaction say how many rows were read.
TEST_F(EngineMeasure, ReadsNoMoreThanItCounts) {
  sql.exec(
      "insert into job (lane, payload) select lane_of('default', 'k', 0, false), '1' from generate_series(1, 50000)");
  enqueue();
  sql.exec("begin");
  EXPECT_EQ(gauge("jobs", "k", "available", 100), 100);
  auto const read = sql.number(
      "select sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint from pg_stat_xact_user_tables where "
      "relname like 'job\\_2%'");
  EXPECT_GE(read, 100);
  EXPECT_LT(read, 1000);
  sql.exec("commit");
  EXPECT_EQ(gauge("capped", "k", "available", 100), 1);
  EXPECT_EQ(gauge("capped", "k", "available", 1'000'000), -1);
  EXPECT_EQ(gauge("jobs", "k", "available", 1'000'000), 50'001);
}

TEST_F(EngineMeasure, RefusesNonsense) {
  EXPECT_EQ(sql.sqlstate_of("select measure(0)"), "22023");
  EXPECT_EQ(sql.sqlstate_of("select measure(1000001)"), "22023");
  EXPECT_EQ(sql.sqlstate_of("select measure(null)"), "22023");
}

}  // namespace
}  // namespace posthouse::test
