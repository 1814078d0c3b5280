// SPDX-License-Identifier: Apache-2.0
// The leader's slow round as a whole: partitions ahead, what is past retention detached and dropped, interrupted detaches
// finished, rows pruned, closed partitions frozen once, and its end when it is asked to stop.
#include "duties/upkeep.hpp"

#include <gmock/gmock.h>

#include "base/log.hpp"
#include "integration/partition_fixture.hpp"

namespace posthouse::test {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Gt;
using ::testing::IsEmpty;
using ::testing::Not;

class EngineUpkeep : public PartitionTest {
 protected:
  duties::UpkeepReport round(store::Retention const& retention = {}, std::stop_token const& stop = {}) {
    return duties::upkeep_round(options(), retention, stop);
  }
  void finish_all() {
    Hand worker(sql);
    for (;;) {
      auto const jobs = worker.claim(100);
      if (jobs.empty()) return;
      worker.finish(jobs.at(0).token);
    }
  }
  std::string const width =
      "case when isfinite(lower) and isfinite(upper) then upper - lower else interval '1000 years' end";
};

TEST_F(EngineUpkeep, ARoundRotatesDropsAndPrunes) {
  enqueue_some(3);
  finish_all();
  auto const old = oldest();
  age("2 days");
  auto const fresh = enqueue();
  sql.exec(
      "insert into dead (id, lane, state, ended_at, queued_at, attempt) values (-1, 1, 'failed', now() - interval '31 "
      "days', now(), 1), (-2, 1, 'failed', now() - interval '29 days', now(), 1)");
  auto const report = round();
  EXPECT_THAT(report.partitions_made, Gt(0));
  EXPECT_EQ(report.partitions_dropped, 1);
  EXPECT_THAT(report.rows_pruned, Gt(0));
  EXPECT_THAT(partitions(), Not(Contains(old)));
  EXPECT_EQ(sql.number("select count(*) from pg_class where relname = $1", old), 0) << "not only detached";
  EXPECT_EQ(sql.number("select sum(id) from dead"), -2) << "what is past its retention and no more";
  EXPECT_EQ(state(fresh), "available");
  EXPECT_EQ(sql.number("select count(*) from jobs where state = 'succeeded'"), 0);
  auto const again = round();
  EXPECT_EQ(again.partitions_made, 0);
  EXPECT_EQ(again.partitions_dropped, 0);
  EXPECT_EQ(again.rows_pruned, 0);
}

TEST_F(EngineUpkeep, WhatIsUnfinishedKeepsItsPartition) {
  auto const job = enqueue();
  auto const old = oldest();
  age("2 days");
  EXPECT_EQ(round().partitions_dropped, 0);
  EXPECT_THAT(partitions(), Contains(old));
  EXPECT_EQ(state(job), "available");
  finish_all();
  EXPECT_EQ(round().partitions_dropped, 1);
}

// A minute's round may be killed between the two transactions of DETACH CONCURRENTLY, or between detach and drop.
TEST_F(EngineUpkeep, ADetachThatWasInterruptedIsFinished) {
  enqueue_some(2);
  finish_all();
  auto const old = oldest();
  age("2 days");
  auto reader = open();
  reader.exec("begin isolation level repeatable read; select count(*) from jobs");
  auto const report = round();  // does not wait for the reader for longer than a moment
  EXPECT_EQ(report.partitions_dropped, 0);
  ASSERT_EQ(sql.column("select relname from partition where detaching"), std::vector<std::string>{old});
  EXPECT_EQ(round().partitions_dropped, 0) << "the reader is there still";
  EXPECT_EQ(state(enqueue()), "available") << "and holds up nobody";
  reader.exec("commit");
  EXPECT_EQ(round().partitions_dropped, 1);
  EXPECT_EQ(sql.number("select count(*) from pg_class where relname = $1", old), 0);
  EXPECT_EQ(sql.number("select count(*) from partition where detaching"), 0);
}

TEST_F(EngineUpkeep, ADetachedPartitionIsDroppedByTheNextRound) {
  auto const job = enqueue();
  auto const old = oldest();
  age("2 days");
  sql.exec("alter table job detach partition " + old + " concurrently");
  EXPECT_EQ(round().partitions_dropped, 1);
  EXPECT_EQ(state(job), "available") << "what it had is in the log again";
}

TEST_F(EngineUpkeep, ABusyLockIsReportedAndNothingElseWaits) {
  auto producer = open();
  producer.exec("begin; select enqueue('k')");
  sql.exec(
      "insert into dead (id, lane, state, ended_at, queued_at, attempt) values (-1, 1, 'failed', now() - interval '31 "
      "days', now(), 1)");
  auto const report = round();
  EXPECT_EQ(report.partitions_made, -1);
  EXPECT_EQ(sql.number("select count(*) from dead"), 0) << "the rest is done all the same";
  producer.exec("commit");
  EXPECT_THAT(round().partitions_made, Gt(0));
}

TEST_F(EngineUpkeep, AClosedPartitionIsFrozenOnce) {
  enqueue_some(100);  // unfinished: it stays
  auto const old = oldest();
  age("2 hours");
  auto const youngest = "(select relfrozenxid::text::bigint from pg_class where relname = '" + old + "')";
  auto const before = sql.number("select max(xmin::text::bigint) from " + old);
  EXPECT_LE(sql.number(std::string("select ") + youngest), before);
  EXPECT_EQ(round().partitions_frozen, 1);
  EXPECT_GT(sql.number(std::string("select ") + youngest), before) << "each of its rows is";
  EXPECT_EQ(sql.number("select count(*) from meta where key = 'frozen:' || $1", old), 1);
  EXPECT_EQ(round().partitions_frozen, 0);
  finish_all();
  sql.exec("alter table job detach partition " + old + "; drop table " + old);
  round();
  EXPECT_EQ(sql.number("select count(*) from meta where key like 'frozen:%'"), 0) << "forgotten with it";
}

TEST_F(EngineUpkeep, WithRetentionZeroAPartitionGoesAsSoonAsAllItsJobsAreFinished) {
  auto const jobs = enqueue_some(2);
  auto const old = oldest();
  age("11 minutes");  // before that a transaction's clock may still point into it
  store::Retention const none{.succeeded = std::chrono::milliseconds(0)};
  EXPECT_EQ(round(none).partitions_dropped, 0) << "they wait";
  Hand worker(sql);
  auto const got = worker.claim(2);
  ASSERT_EQ(got.size(), 2U);
  EXPECT_EQ(round(none).partitions_dropped, 0) << "they run";
  worker.finish(got.at(0).token, "10", 2);
  EXPECT_EQ(round(none).partitions_dropped, 0) << "one runs";
  worker.finish(got.at(0).token);
  EXPECT_EQ(round({.succeeded = std::chrono::hours(24)}).partitions_dropped, 0) << "kept for a day";
  EXPECT_EQ(round(none).partitions_dropped, 1);
  EXPECT_EQ(round({}).partitions_dropped, 0);
  EXPECT_EQ(sql.one("select value from meta where key = 'retention_succeeded'"), "00:00:00") << "stays as it was set";
  EXPECT_EQ(sql.number("select count(*) from jobs"), 0);
  EXPECT_THAT(worker.claim(10), IsEmpty()) << "its cursor is kept, or they would run again";
}

TEST_F(EngineUpkeep, NeverMoreThan32Partitions) {
  sql.exec(
      "do $$ declare p text; t timestamptz; n int := 0; begin "
      "loop exit when (select count(*) from partition) >= 31; n := n + 1; "
      "select relname, lower into p, t from partition where lower > now() order by lower limit 1; "
      "t := (select lower + n * interval '10 minutes' from partition where relname = p); "
      "select relname into p from partition where lower < t and upper > t; "
      "perform split_partition(p, t); end loop; end $$");
  ASSERT_EQ(partitions().size(), 31U);
  age("1 hour");
  ASSERT_EQ(partitions().size(), 32U);
  // The last one begins within three days and has no end: it is due to be split.
  ASSERT_EQ(sql.number("select count(*) from partition where upper = 'infinity' and lower < now() + interval '3 days'"),
            1);
  EXPECT_EQ(sql.number("select rotate_ahead()"), 0) << "each execution of a generic plan locks every one";
  EXPECT_EQ(partitions().size(), 32U);
  EXPECT_EQ(sql.sqlstate_of("insert into job (lane, queued_at) values (1, '2400-01-01')"), "")
      << "every time has a place";
}

TEST_F(EngineUpkeep, ALargeDayIsSplitByTheHour) {
  EXPECT_THAT(round().partitions_made, Gt(0));
  EXPECT_EQ(sql.number("select count(*) from partition where " + width + " < interval '1 day'"), 0);
  sql.exec("insert into meta values ('partition_bytes_a_day', '1')");
  enqueue_some(10);
  age("1 second");  // the present one has just begun
  auto const wide = "select count(*) from partition where lower > now() and lower < now() + interval '4 hours' and " +
                    width + " > interval '1 hour'";
  // What begins within four hours, if anything does, is an hour wide; so is whatever is made.
  round();
  EXPECT_EQ(sql.number(wide), 0);
  sql.exec(
      "select split_partition(relname, date_trunc('hour', now()) + interval '1 hour') from partition where lower <= "
      "now() and upper > date_trunc('hour', now()) + interval '1 hour'");
  auto const made = round().partitions_made;
  EXPECT_EQ(sql.number(wide), 0);
  EXPECT_THAT(sql.number("select count(*) from partition where lower > now() and " + width + " = interval '1 hour'"),
              Gt(2));
  EXPECT_THAT(made, ::testing::AllOf(Gt(-1), ::testing::Le(4)));
  EXPECT_TRUE(
      sql.truth("select bool_and(next is null or next = upper) from (select upper, lead(lower) over (order by "
                "lower) as next from partition) p"));
}

TEST_F(EngineUpkeep, ARoundThatIsToStopStartsNoFreeze) {
  enqueue();
  age("2 hours");
  std::stop_source stop;
  stop.request_stop();
  try {
    EXPECT_EQ(round({}, stop.get_token()).partitions_frozen, 0);
  } catch (Error const&) {
    // the statement that it was just at was cancelled
  }
  EXPECT_EQ(sql.number("select count(*) from meta where key like 'frozen:%'"), 0);
  EXPECT_EQ(round().partitions_frozen, 1);
}

// A vacuum may take an hour; the worker's end does not wait for it.
TEST_F(EngineUpkeep, StoppingEndsAStatementInTheMiddle) {
  enqueue();
  auto const old = oldest();
  age("2 hours");
  auto holder = open();
  holder.exec("begin; lock table " + old + " in share update exclusive mode");  // the vacuum waits behind it
  base::Log const log;
  duties::UpkeepThread upkeep(options(), {}, log);
  upkeep.start_round();
  ASSERT_TRUE(eventually([&] {
    return sql.number(
               "select count(*) from pg_stat_activity where datname = current_database() and query like 'vacuum "
               "(freeze%' and wait_event_type = 'Lock'") == 1;
  }));
  upkeep.stop();
  EXPECT_TRUE(eventually([&] {
    return sql.number(
               "select count(*) from pg_stat_activity where datname = current_database() and query like 'vacuum "
               "(freeze%' and state = 'active'") == 0;
  }));
  holder.exec("commit");
  EXPECT_EQ(sql.number("select count(*) from meta where key like 'frozen:%'"), 0) << "nor counted as done";
  EXPECT_EQ(round().partitions_frozen, 1);
}

}  // namespace
}  // namespace posthouse::test
