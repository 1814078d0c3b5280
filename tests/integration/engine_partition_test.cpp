// SPDX-License-Identifier: Apache-2.0
// Partitions: made ahead, split, detached beside open transactions, dropped without losing what is unfinished.
#include <gmock/gmock.h>

#include "integration/partition_fixture.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::Gt;
using ::testing::IsEmpty;

class EnginePartition : public PartitionTest {
 protected:
  std::string bounds() {
    return sql.one("select string_agg(relname || ' ' || lower || ' ' || upper, ', ' order by lower) from partition");
  }
  /// The first partition ends before these jobs' successors: what was enqueued up to now is in one that is past retention.
  void pass_days(int days) {
    for (auto const& row : sql.rows("select relname, upper from partition order by lower limit 1")) {
      sql.exec("alter table job detach partition " + *row[0]);
      sql.exec("update " + *row[0] + " set queued_at = queued_at - interval '" + std::to_string(days) + " days'");
      auto const end =
          sql.one("select date_trunc('day', now() at time zone 'UTC') at time zone 'UTC' - make_interval(days => $1)",
                  days - 1);
      sql.exec("alter table job attach partition " + *row[0] + " for values from (minvalue) to ('" + end + "')");
      sql.exec(
          "create table job_today (like job including all); alter table job attach partition job_today for values from "
          "('" +
          end + "') to ('" + *row[1] + "')");
    }
  }
  /// Rows of now have a place again after the detach of the first partition.
  void fill_gap() {
    sql.exec("create table job_today (like job including all)");
    sql.exec("alter table job attach partition job_today for values from (minvalue) to ('" +
             sql.one("select min(lower) from partition") + "')");
  }
  void detach(std::string const& partition) {
    sql.exec("alter table job detach partition " + partition + " concurrently");
  }
};

TEST_F(EnginePartition, EveryTimeHasAPlaceFromTheStart) {
  for (std::string const time : {"-infinity", "1999-01-01", "now", "2400-01-01", "294276-12-31 23:59:59"}) {
    EXPECT_EQ(sql.sqlstate_of("insert into job (lane, queued_at) values (1, '" + time + "')"), "") << time;
  }
  EXPECT_EQ(sql.number("select count(*) from pg_class where relname = 'job_default'"), 0);
}

TEST_F(EnginePartition, RotateAheadMakesThreeDaysWithoutGapOrOverlap) {
  EXPECT_THAT(sql.number("select rotate_ahead()"), Gt(0));
  EXPECT_EQ(sql.number("select rotate_ahead()"), 0);
  EXPECT_TRUE(
      sql.truth("select bool_and(next is null or next = upper) from (select upper, lead(lower) over (order by lower) "
                "as next from partition) p"));
  EXPECT_TRUE(
      sql.truth("select min(lower) = '-infinity' and max(upper) = 'infinity' and bool_or(lower > now() + interval '2 "
                "days') from partition"));
  // An index of each for each index of job.
  EXPECT_THAT(
      sql.column("select distinct count(*) from partition p join pg_index i on i.indrelid = p.name group by p.name"),
      ElementsAre("2"));
}

TEST_F(EnginePartition, ABusyLockIsGivenUpAndChangesNothing) {
  auto const before = bounds();
  auto producer = open();
  producer.exec("begin; select enqueue('k')");
  EXPECT_EQ(sql.number("select rotate_ahead()"), -1);
  EXPECT_EQ(bounds(), before);
  EXPECT_EQ(sql.number("select count(*) from detached()"), 0) << "no table is left behind";
  // Nobody queued behind the try for longer than it waits.
  EXPECT_EQ(state(enqueue()), "available");
  producer.exec("commit");
  EXPECT_THAT(sql.number("select rotate_ahead()"), Gt(0));
}

TEST_F(EnginePartition, ASplitKeepsEveryRow) {
  auto const last = partitions().back();
  sql.exec("insert into job (lane, queued_at) select 1, now() + interval '3 days' from generate_series(1, 10)");
  auto const at = sql.one("select date_trunc('day', now()) + interval '10 days'");
  sql.rows("select split_partition($1, $2)", last, at);
  EXPECT_EQ(sql.number("select count(*) from job"), 10);
  EXPECT_EQ(sql.number("select count(*) from partition"), 4);
  EXPECT_EQ(sql.sqlstate_of("insert into job (lane, queued_at) values (1, now() + interval '20 days')"), "");
}

TEST_F(EnginePartition, DroppableMeansPastRetentionAndFinished) {
  auto const jobs = enqueue_some(3);
  Hand worker(sql);
  auto const droppable = [&] { return sql.column("select * from droppable()"); };
  auto const partition = oldest();
  pass_days(5);
  EXPECT_THAT(droppable(), IsEmpty()) << "available jobs";
  auto const got = worker.claim(10);
  EXPECT_THAT(droppable(), IsEmpty()) << "running jobs";
  worker.finish(got.at(0).token, "110", 3);
  EXPECT_THAT(droppable(), IsEmpty()) << "one runs";
  worker.finish(got.at(0).token);
  EXPECT_THAT(droppable(), ElementsAre(partition));
  sql.exec("insert into meta values ('retention_succeeded', '30 days')");
  EXPECT_THAT(droppable(), IsEmpty()) << "kept for as long as it was asked for";
}

TEST_F(EnginePartition, AJobOfALateTransactionKeepsItsPartition) {
  auto const partition = oldest();
  enqueue();
  Hand worker(sql);
  worker.finish(worker.claim(10).at(0).token);
  // The cursor goes on while a transaction with a lower id is open.
  auto late = open();
  late.exec("begin");
  auto const job = late.number("select enqueue('k')");
  for (int i = 0; i < 3; ++i) {
    enqueue();
    worker.finish(worker.claim(10).at(0).token);
  }
  late.exec("commit");
  EXPECT_TRUE(sql.truth("select has_unfinished($1)", partition));
  auto const got = worker.claim(10);
  ASSERT_THAT(ids(got), ElementsAre(job));
  EXPECT_TRUE(sql.truth("select has_unfinished($1)", partition));
  worker.finish(got.at(0).token);
  EXPECT_FALSE(sql.truth("select has_unfinished($1)", partition));
}

// Found after the detach: it goes back into the log, once, with all that it had.
TEST_F(EnginePartition, DropDetachedMovesWhatIsUnfinished) {
  auto const partition = oldest();
  Hand worker(sql);
  auto const done = enqueue();
  worker.finish(worker.claim(10).at(0).token);
  auto const running = enqueue();
  auto const got = worker.claim(10);
  auto const waiting = sql.number("select enqueue('k', '{\"a\": 1}', headers => '{\"h\": \"x\"}', max_attempts => 3)");
  pass_days(5);
  auto const enqueued_at = sql.one("select enqueued_at from jobs where id = $1", waiting);
  detach(partition);
  EXPECT_THAT(sql.column("select * from detached()"), ElementsAre(partition));
  EXPECT_TRUE(sql.truth("select drop_detached($1)", partition));
  EXPECT_THAT(sql.column("select * from detached()"), IsEmpty());
  EXPECT_EQ(sql.number("select count(*) from jobs where id = $1", done), 0);
  EXPECT_EQ(state(running), "running");
  EXPECT_EQ(state(waiting), "available");
  EXPECT_EQ(sql.one("select enqueued_at from jobs where id = $1", waiting), enqueued_at);
  EXPECT_EQ(sql.one("select concat_ws(' ', payload, headers, max_attempts) from jobs where id = $1", waiting),
            R"({"a": 1} {"h": "x"} 3)");
  EXPECT_THAT(ids(worker.claim(10)), ElementsAre(waiting)) << "the running one is not claimed again";
  EXPECT_THAT(worker.finish(got.at(0).token, std::nullopt, 1, "[" + move_of(got.at(0), "retry", 60'000) + "]"),
              IsEmpty());
  EXPECT_EQ(state(running), "retryable");
  EXPECT_FALSE(sql.truth("select drop_detached($1)", partition)) << "a second time";
}

TEST_F(EnginePartition, AProducerThatIsOpenAcrossADetachLosesNothing) {
  auto const partition = oldest();
  auto producer = open();
  producer.exec("begin");
  auto const job = producer.number("select enqueue('k')");
  auto other = open();
  auto answer = std::async(std::launch::async, [&] {
    return other.sqlstate_of("alter table job detach partition " + partition + " concurrently");
  });
  ASSERT_TRUE(waits_for_lock(sql, other.backend_pid()));
  producer.exec("commit");
  EXPECT_EQ(answer.get(), "");
  fill_gap();
  Hand worker(sql);
  EXPECT_THAT(worker.claim(10), IsEmpty()) << "out of reach for the moment";
  EXPECT_TRUE(sql.truth("select drop_detached($1)", partition));
  EXPECT_THAT(ids(worker.claim(10)), ElementsAre(job));
}

TEST_F(EnginePartition, DropDetachedGivesUpWhenSomebodyReadsTheTable) {
  auto const partition = oldest();
  auto const job = enqueue();
  detach(partition);
  fill_gap();
  auto reader = open();
  reader.exec("begin; select count(*) from " + partition);
  EXPECT_FALSE(sql.truth("select drop_detached($1)", partition));
  EXPECT_EQ(sql.number("select count(*) from job"), 0) << "not moved either: all or nothing";
  reader.exec("commit");
  EXPECT_TRUE(sql.truth("select drop_detached($1)", partition));
  EXPECT_EQ(state(job), "available");
}

TEST_F(EnginePartition, OnlyDetachedPartitionsAreDropped) {
  for (std::string const name : {"job", "batch", "dead", "nonsense", "job_20000101\"; drop table dead; --"}) {
    EXPECT_FALSE(sql.truth("select drop_detached($1)", name)) << name;
  }
  EXPECT_FALSE(sql.truth("select drop_detached($1)", oldest()));
  EXPECT_EQ(sql.number("select count(*) from dead"), 0);
}

// It costs disk and nothing else: producers, claims and acks go on, and what it held up is done when it ends.
TEST_F(EnginePartition, AReaderOfTheViewOpenAcrossThreeRotations) {
  Hand worker(sql);
  auto reader = open();
  enqueue();
  worker.finish(worker.claim(10).at(0).token);
  auto const partition = oldest();
  pass_days(5);
  reader.exec("begin isolation level repeatable read; select count(*) from jobs");
  auto hasty = open();
  hasty.exec("set lock_timeout = '50ms'");
  for (int rotation = 0; rotation < 3; ++rotation) {
    EXPECT_EQ(sql.number("select rotate_ahead()"), -1);
    EXPECT_EQ(hasty.sqlstate_of("alter table job detach partition " + partition +
                                (rotation == 0 ? " concurrently" : " finalize")),
              "55P03");
    auto const job = enqueue();
    auto const got = worker.claim(10);
    EXPECT_THAT(ids(got), ElementsAre(job));
    EXPECT_THAT(worker.finish(got.at(0).token), IsEmpty());
    EXPECT_EQ(reader.number("select count(*) from jobs"), 1) << "what it sees does not change";
  }
  reader.exec("commit");
  EXPECT_EQ(hasty.sqlstate_of("alter table job detach partition " + partition + " finalize"), "");
  EXPECT_TRUE(sql.truth("select drop_detached($1)", partition));
  EXPECT_THAT(sql.number("select rotate_ahead()"), Gt(0));
  EXPECT_THAT(worker.claim(10), IsEmpty());
  EXPECT_EQ(sql.number("select count(*) from jobs where state = 'succeeded'"), 3);
}

TEST_F(EnginePartition, BoundsDoNotDependOnTheSessionsDateStyle) {
  auto const prunable = [&] {
    return sql.column("select extract(epoch from upper)::text from partition where isfinite(upper) order by lower");
  };
  auto const before = prunable();
  for (std::string const style : {"SQL, DMY", "German, DMY", "Postgres, MDY"}) {
    sql.exec("set datestyle = '" + style + "'; set timezone = 'UTC'");
    EXPECT_EQ(prunable(), before) << style;
  }
}

}  // namespace
}  // namespace posthouse::test
