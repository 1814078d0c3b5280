// SPDX-License-Identifier: Apache-2.0
// Elected work: terms of leadership, promotion of due jobs, what a round reports.
#include <gmock/gmock.h>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

class EngineDuties : public EngineTest {
 protected:
  std::int64_t lead(Hand const& worker) { return sql.number("select lead($1::bigint)", worker.id()); }
  /// {"promoted", "rescued", "next_due_ms"}, or "null" for who does not lead.
  std::string duties(Hand const& worker) { return sql.one("select coalesce(duties($1)::text, 'null')", worker.id()); }
  std::int64_t report(Hand const& worker, std::string const& key) {
    return sql.number("select (duties($1) ->> $2)::bigint", worker.id(), key);
  }
  Ids schedule(std::string const& delay, int n = 1) {
    return numbers(sql.column("select enqueue('k', delay => $1::interval) from generate_series(1, $2)", delay, n));
  }
  /// Deferred jobs become due as if time had passed.
  void make_due(Ids const& jobs, std::string const& ago = "1 second") {
    sql.rows("update deferred set due_at = clock_timestamp() - $2::interval where id = any($1)", array(jobs), ago);
  }
};

// -- leadership ------------------------------------------------------------------------------------------------------

TEST_F(EngineDuties, OneLeadsAtATimeAndTermsGrow) {
  Hand first(sql);
  Hand second(sql);
  EXPECT_EQ(lead(first), 1);
  EXPECT_EQ(lead(second), 0);
  EXPECT_EQ(lead(first), 1) << "still the same term";
  EXPECT_EQ(duties(second), "null");
  EXPECT_NE(duties(first), "null");
  sql.exec("update leader set at = at - interval '11 s'");  // it did not renew
  EXPECT_EQ(duties(first), "null") << "a term that has lapsed gives no right any more";
  EXPECT_EQ(lead(second), 2);
  EXPECT_EQ(lead(first), 0);
  EXPECT_EQ(duties(first), "null");
  sql.exec("update leader set at = at - interval '11 s'");
  EXPECT_EQ(lead(second), 3) << "a new term, for it has let everybody wait";
}

TEST_F(EngineDuties, ALeaderThatLeavesOrDiesMakesRoomAtOnce) {
  Hand first(sql);
  Hand second(sql);
  ASSERT_EQ(lead(first), 1);
  EXPECT_EQ(sql.one("select beat($1, 0, 1, 1) ->> 'leader_vacant'", second.id()), "false");
  first.leave();
  EXPECT_EQ(sql.one("select beat($1, 0, 1, 1) ->> 'leader_vacant'", second.id()), "true");
  EXPECT_EQ(lead(second), 2);
  EXPECT_EQ(lead(first), 0) << "who has left does not lead";
}

TEST_F(EngineDuties, OfTwoThatStandAtOnceOneIsElected) {
  auto session = open();
  Hand first(sql);
  Hand second(session);
  session.exec("begin");
  EXPECT_EQ(session.number("select lead($1::bigint)", second.id()), 1);
  EXPECT_EQ(lead(first), 0) << "the other's election is under way";
  session.exec("commit");
  EXPECT_EQ(lead(first), 0);
}

TEST_F(EngineDuties, ARoundRenewsTheTermByAppending) {
  Hand leader(sql);
  ASSERT_EQ(lead(leader), 1);
  duties(leader);
  EXPECT_EQ(sql.number("select count(*) from leader"), 1) << "fresh: nothing to renew";
  sql.exec("update leader set at = at - interval '4 s', since = since - interval '4 s'");
  auto const since = sql.one("select since from leader");
  duties(leader);
  EXPECT_THAT(sql.column("select term || ' ' || (since = '" + since + "') from leader order by id"),
              ElementsAre("1 true", "1 true"));
  EXPECT_EQ(lead(leader), 1);
}

// -- promotion -------------------------------------------------------------------------------------------------------

TEST_F(EngineDuties, DueJobsGoToTheExpressLane) {
  auto const late = schedule("1 hour");
  auto const jobs = schedule("1 hour", 3);
  make_due({jobs[0]}, "1 second");
  make_due({jobs[1]}, "3 seconds");
  make_due({jobs[2]}, "2 seconds");
  Hand leader(sql);
  lead(leader);
  EXPECT_EQ(report(leader, "promoted"), 3);
  auto const got = leader.claim(10);
  EXPECT_THAT(ids(got), ElementsAreArray(jobs)) << "of one promotion in order of id, as in every lane";
  EXPECT_EQ(got.at(0).lane, lane("k", 0, true));
  EXPECT_EQ(state(late[0]), "scheduled");
  EXPECT_TRUE(sql.truth("select enqueued_at < run_at from jobs where id = $1", jobs.at(0)));
}

TEST_F(EngineDuties, SaysWhenTheNextJobIsDue) {
  Hand leader(sql);
  lead(leader);
  EXPECT_EQ(report(leader, "next_due_ms"), -1);
  auto const job = schedule("1 hour");
  EXPECT_NEAR(static_cast<double>(report(leader, "next_due_ms")), 3600e3, 60e3);
  make_due(job);
  report(leader, "promoted");
  EXPECT_EQ(report(leader, "next_due_ms"), -1);
}

// Rounds start where the last renewal left off, since deleted rows stay in the index while a snapshot is old. A
// transaction may commit a row whose time has passed: a sweep from the start finds it.
TEST_F(EngineDuties, AJobThatIsCommittedLateIsFoundByTheSweep) {
  Hand leader(sql);
  lead(leader);
  auto late = open();
  late.exec("begin");
  auto const job = late.number("select enqueue('k', delay => '1 hour')");
  late.rows("update deferred set due_at = clock_timestamp() - interval '1 hour' where id = $1", job);
  int rounds_with = 0;
  int rounds = 0;
  auto const renew = [&] {
    sql.exec("update leader set at = at - interval '4 s' where id = (select max(id) from leader)");
    return report(leader, "promoted");
  };
  renew();
  ASSERT_TRUE(sql.truth("select isfinite(promoted_to) from leader order by id desc limit 1"));
  late.exec("commit");
  while (++rounds <= 12 && rounds_with == 0) rounds_with += renew() == 1 ? 1 : 0;
  EXPECT_EQ(rounds_with, 1) << "at the latest in the tenth renewal";
  EXPECT_EQ(state(job), "available");
}

// A round starts where the last renewal left off.
TEST_F(EngineDuties, WhatIsDueAtOnceIsPromotedInTheNextRound) {
  Hand leader(sql);
  lead(leader);
  for (int i = 0; i < 3; ++i) {
    sql.exec("update leader set at = at - interval '4 s' where id = (select max(id) from leader)");
    duties(leader);
  }
  enqueue();
  auto const got = leader.claim(1);
  leader.finish(got.at(0).token, std::nullopt, 1, "[" + move_of(got.at(0), "snooze", 0) + "]");
  EXPECT_EQ(report(leader, "promoted"), 1);
  EXPECT_THAT(ids(leader.claim(1)), ElementsAre(got.at(0).id));
}

// Not elected in earnest: two leaders do the same work once.
TEST_F(EngineDuties, TwoPromotersShareWhatIsDue) {
  auto const jobs = schedule("1 hour", 10);
  make_due(jobs);
  auto session = open();
  session.exec("begin");
  EXPECT_EQ(session.number("select promote('-infinity', 4)"), 4);
  EXPECT_EQ(sql.number("select promote()"), 6);
  session.exec("commit");
  EXPECT_EQ(sql.number("select promote()"), 0);
  Hand worker(sql);
  EXPECT_EQ(sorted(ids(worker.claim(100))), jobs);
}

TEST_F(EngineDuties, PromotionKeepsEverything) {
  auto const job = sql.number(
      "select enqueue('k', '{\"a\": 1}', 'mail', 7, headers => '{\"h\": \"x\"}', delay => '1 h', max_attempts => 3)");
  auto const bytes = sql.number("select enqueue_bytes('k', '\\x00ff', delay => '1 h')");
  auto const before = sql.column(
      "select (id, kind, queue, priority, attempt, max_attempts, enqueued_at, payload, payload_bytes, headers)"
      "::text from jobs order by id");
  make_due({job, bytes});
  EXPECT_EQ(sql.number("select promote()"), 2);
  EXPECT_THAT(
      sql.column(
          "select (id, kind, queue, priority, attempt, max_attempts, enqueued_at, payload, payload_bytes, headers)"
          "::text from jobs order by id"),
      ElementsAreArray(before));
}

TEST_F(EngineDuties, RoundsReportRescues) {
  enqueue_some(3);
  Hand dead(sql);
  dead.claim(3);
  expire(sql, dead.id());
  Hand leader(sql);
  lead(leader);
  sql.exec("update leader set since = since + interval '1 minute'");  // the lease of this test is a millisecond
  EXPECT_EQ(report(leader, "rescued"), 0) << "a new leader first lets everybody beat";
  sql.exec("update leader set since = since - interval '2 minutes'");
  EXPECT_EQ(report(leader, "rescued"), 3);
  EXPECT_EQ(report(leader, "rescued"), 0);
}

// -- append-only rows, pruned -----------------------------------------------------------------------------------------

TEST_F(EngineDuties, PruningKeepsTheNewestOfEach) {
  Hand worker(sql);
  auto const jobs = enqueue_some(3);
  for (int i = 0; i < 3; ++i) worker.finish(worker.claim(1).at(0).token);
  for (int i = 0; i < 3; ++i) worker.beat();
  lead(worker);
  for (int i = 0; i < 3; ++i) {
    sql.exec("update leader set at = at - interval '4 s' where id = (select max(id) from leader)");
    duties(worker);
  }
  sql.exec(
      "update heartbeat set at = at - interval '3 days'; update leader set at = at - interval '3 days'; "
      "update batch set claimed_at = claimed_at - interval '3 days', closed_at = closed_at - interval '3 days'");
  auto const pruned = sql.number("select prune()");
  EXPECT_GT(pruned, 0);
  EXPECT_EQ(sql.number("select count(*) from heartbeat where worker = $1", worker.id()), 1);
  EXPECT_EQ(sql.number("select count(*) from leader"), 1);
  EXPECT_EQ(lead(worker), 2) << "the term is still known";
  // The first partition reaches back for ever: the batches of its jobs stay until it is dropped.
  EXPECT_EQ(sql.number("select count(*) from batch"), 3);
  // With it gone, all but the lane's newest: without that one the lane's jobs would run again.
  sql.exec(
      "do $$ begin execute 'alter table job detach partition ' || (select name from partition order by lower limit 1); "
      "end $$");
  sql.exec("select prune()");
  EXPECT_EQ(sql.number("select count(*) from batch"), 1);
  EXPECT_EQ(sql.number("select max(seq) from batch"), 3);
  auto const job =
      sql.number("insert into job (lane, queued_at) values ($1, now() + interval '2 days') returning id", lane());
  EXPECT_THAT(ids(worker.claim(10)), ElementsAre(job));
}

TEST_F(EngineDuties, ALanesNewestBatchIsNeverPruned) {
  Hand worker(sql);
  enqueue_some(5);
  worker.finish(worker.claim(10).at(0).token);
  sql.exec(
      "insert into meta values ('retention_succeeded', '0'); update batch set claimed_at = claimed_at - interval '90 "
      "days', "
      "closed_at = closed_at - interval '90 days'");
  // As if the jobs were in a later partition, for the sake of the bound.
  sql.exec(
      "do $$ begin execute 'alter table job detach partition ' || (select name from partition order by lower limit 1); "
      "end $$");
  for (int i = 0; i < 3; ++i) sql.exec("select prune()");
  EXPECT_EQ(sql.number("select count(*) from batch"), 1);
  sql.exec(
      "do $$ begin execute 'alter table job attach partition ' || (select detached() limit 1) || ' for values from "
      "(minvalue) to (''' "
      "|| (select min(lower) from partition) || ''')'; end $$");
  EXPECT_THAT(worker.claim(10), IsEmpty()) << "none runs again";
}

TEST_F(EngineDuties, PruningIsBoundedAndKeepsWhatIsYoung) {
  sql.exec(
      "insert into dead select i, 1, 'failed', now() - interval '31 days', now(), 1 from generate_series(1, 10) i");
  sql.exec(
      "insert into dead select i, 1, 'failed', now() - interval '29 days', now(), 1 from generate_series(11, 20) i");
  sql.exec(
      "insert into attempt_error (job, attempt, at) select i, 1, now() - interval '31 days' from generate_series(1, "
      "10) i");
  EXPECT_EQ(sql.number("select prune(4)"), 8);
  EXPECT_EQ(sql.number("select prune(100)"), 12);
  EXPECT_EQ(sql.number("select prune(100)"), 0);
  EXPECT_EQ(sql.number("select count(*) from dead"), 10);
  sql.exec("insert into meta values ('retention_dead', '1 day')");
  EXPECT_EQ(sql.number("select prune(100)"), 10);
}

}  // namespace
}  // namespace posthouse::test
