// SPDX-License-Identifier: Apache-2.0
// Pausing of kinds, priority of queues, dead letters in batches, and what the functions for operators count.
#include <gmock/gmock.h>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class EngineKind : public EngineTest {
 protected:
  /// n jobs of a kind that have failed for good, oldest first.
  Ids failed(Hand& worker, int n, std::string const& kind = "k") {
    Ids jobs;
    for (int i = 0; i < n; ++i) jobs.push_back(enqueue(kind));
    for (int i = 0; i < n; ++i) {
      auto const got = worker.claim(1).at(0);
      worker.finish(got.token, std::nullopt, 1, "[" + move_of(got, "fail") + "]");
    }
    return jobs;
  }
  std::vector<std::string> dead() { return sql.column("select id from dead order by id"); }
};

TEST_F(EngineKind, NothingOfAPausedKindIsClaimed) {
  Hand worker(sql, {.kinds = "{k,other}"});
  auto const job = enqueue("k");
  auto const other = enqueue("other");
  sql.rows("select look($1)", worker.id());
  auto const both = array({lane("k"), lane("other")});
  sql.exec("select pause_kind('k')");
  // By lanes that the worker knew before, one and several; by looking; and not among those that get bells.
  EXPECT_THAT(worker.claim(10, 10, array({lane("k")})), IsEmpty());
  EXPECT_THAT(ids(worker.claim(10, 10, both)), ElementsAre(other));
  EXPECT_EQ(sql.one("select look($1)", worker.id()), "{}");
  EXPECT_EQ(sql.number("select count(*) from lanes_of_worker($1)", worker.id()), 1);
  EXPECT_THAT(worker.claim(10), IsEmpty());
  EXPECT_EQ(state(job), "available");
  sql.exec("select resume_kind('k')");
  EXPECT_THAT(ids(worker.claim(10, 10, array({lane("k")}))), ElementsAre(job));
}

TEST_F(EngineKind, AKindIsPausedInEveryQueueAndWithItsRetries) {
  Hand worker(sql);
  auto const retried = failed(worker, 1).at(0);
  sql.exec("select enqueue('k', queue => 'q1'), enqueue('k', queue => 'q2', priority => 7)");
  sql.exec("select pause_kind('k')");
  sql.rows("select retry($1)", retried);
  EXPECT_EQ(state(retried), "available");
  EXPECT_THAT(worker.claim(10), IsEmpty());
  sql.exec("select resume_kind('k')");
  EXPECT_EQ(worker.claim(10).size(), 3U);
}

TEST_F(EngineKind, WhatIsHeldRunsToItsEnd) {
  Hand worker(sql);
  auto const job = enqueue();
  auto const got = worker.claim(1);
  sql.exec("select pause_kind('k')");
  EXPECT_EQ(state(job), "running");
  worker.finish(got.at(0).token);
  EXPECT_EQ(state(job), "succeeded");
}

TEST_F(EngineKind, APauseThatRollsBackNeverWas) {
  Hand worker(sql);
  auto const job = enqueue();
  auto session = open();
  session.exec("begin; select pause_kind('k')");
  EXPECT_THAT(ids(worker.claim(1)), ElementsAre(job)) << "not committed";
  session.exec("rollback");
  auto const next = enqueue();
  EXPECT_THAT(ids(worker.claim(1)), ElementsAre(next));
}

TEST_F(EngineKind, PauseAndResumeMayBeRepeated) {
  sql.exec("select pause_kind('never_used'), pause_kind('never_used')");
  EXPECT_TRUE(sql.truth("select paused from kind where kind = 'never_used'"));
  sql.exec("select resume_kind('never_used'), resume_kind('never_used'), resume_kind('unknown')");
  EXPECT_FALSE(sql.truth("select bool_or(paused) from kind"));
}

TEST_F(EngineKind, ResumingWakes) {
  auto listener = open();
  listener.exec("listen " + sql.one("select channel()"));
  sql.exec("select pause_kind('k')");
  sql.exec("select resume_kind('k')");
  ASSERT_TRUE(eventually([&] {
    listener.exec("select 1");
    PQconsumeInput(listener.connection());
    PGnotify* const notice = PQnotifies(listener.connection());
    if (notice == nullptr) return false;
    EXPECT_STREQ(notice->extra, "new");
    PQfreemem(notice);
    return true;
  }));
}

TEST_F(EngineKind, BadInputIsRefused) {
  for (std::string const call :
       {"pause_kind(null)", "pause_kind('a b')", "resume_kind('')", "set_queue_priority(null, 1)",
        "set_queue_priority('a b', 1)", "retry_dead(most => 0)", "retry_dead(most => 10001)",
        "purge_dead(most => null)", "retry_dead(state => 'running')", "purge_dead(state => '')"}) {
    EXPECT_EQ(sql.sqlstate_of("select " + call), "22023") << call;
  }
  EXPECT_EQ(sql.sqlstate_of("select set_queue_priority('q', null)"), "22004");
}

TEST_F(EngineKind, TheQueueWithTheHigherPriorityGoesFirst) {
  Hand worker(sql);
  sql.exec("select enqueue('k', queue => 'low', priority => 100)");
  auto const first = sql.number("select enqueue('k', queue => 'high')");
  sql.exec("select set_queue_priority('high', 3), set_queue_priority('low', 2)");
  EXPECT_THAT(ids(worker.claim(1)), ElementsAre(first));
  sql.exec("select enqueue('k', queue => 'high'), set_queue_priority('high', -1)");
  EXPECT_EQ(sql.one("select queue from jobs where id = $1", worker.claim(1).at(0).id), "low");
}

// -- dead letters ------------------------------------------------------------------------------------------------

TEST_F(EngineKind, DeadLettersAreRetriedInBatches) {
  Hand worker(sql);
  auto const jobs = failed(worker, 5);
  auto const cancelled = enqueue();
  sql.rows("select cancel($1)", cancelled);
  EXPECT_EQ(sql.one("select retried || ' ' || last from retry_dead(most => 2)"), "2 " + std::to_string(jobs.at(1)));
  EXPECT_EQ(sql.one("select retried || ' ' || last from retry_dead(after => $1, most => 2)", jobs.at(1)),
            "2 " + std::to_string(jobs.at(3)));
  EXPECT_EQ(sql.one("select retried from retry_dead(most => 2)"), "1");
  EXPECT_TRUE(sql.truth("select retried = 0 and last is null from retry_dead(most => 2)"));
  EXPECT_EQ(state(jobs.at(0)), "available");
  EXPECT_EQ(state(cancelled), "cancelled") << "failed ones alone, unless asked";
  EXPECT_EQ(sorted(ids(worker.claim(10))), jobs);
  EXPECT_EQ(sql.one("select retried from retry_dead(state => null)"), "1");
  EXPECT_EQ(state(cancelled), "available");
}

TEST_F(EngineKind, DeadLettersByKindQueueAndTime) {
  Hand worker(sql, {.kinds = "{k,other}"});
  auto const one = failed(worker, 1, "other").at(0);
  failed(worker, 2);
  EXPECT_EQ(sql.one("select retried from retry_dead(kind => 'none')"), "0");
  EXPECT_EQ(sql.one("select retried from retry_dead(kind => 'other', queue => 'none')"), "0");
  EXPECT_EQ(sql.one("select retried from retry_dead(before => now() - interval '1 hour')"), "0");
  EXPECT_EQ(sql.one("select retried from retry_dead(kind => 'other', queue => 'default', before => clock_timestamp())"),
            "1");
  EXPECT_EQ(state(one), "available");
}

// A job that another session is retrying is not waited for, and not retried twice.
TEST_F(EngineKind, TwoWhoRetryShareTheWork) {
  Hand worker(sql);
  auto const jobs = failed(worker, 3);
  auto session = open();
  session.exec("begin");
  session.rows("select retry($1)", jobs.at(0));
  EXPECT_EQ(sql.one("select retried from retry_dead()"), "2");
  session.exec("commit");
  EXPECT_EQ(sorted(ids(worker.claim(10))), jobs);
  EXPECT_THAT(dead(), IsEmpty());
}

TEST_F(EngineKind, PurgeDeletesDeadLettersAndTheirErrors) {
  Hand worker(sql, {.kinds = "{k,other}"});
  auto const jobs = failed(worker, 3);
  auto const kept = failed(worker, 1, "other").at(0);
  auto const running = enqueue();
  worker.claim(1);
  EXPECT_EQ(sql.number("select count(*) from attempt_error"), 4);
  EXPECT_EQ(sql.one("select purged || ' ' || last from purge_dead(kind => 'k', most => 2)"),
            "2 " + std::to_string(jobs.at(1)));
  EXPECT_EQ(sql.one("select purged from purge_dead(kind => 'k')"), "1");
  EXPECT_THAT(dead(), ElementsAre(std::to_string(kept)));
  EXPECT_THAT(sql.column("select job from attempt_error"), ElementsAre(std::to_string(kept)));
  EXPECT_EQ(sql.one("select purged from purge_dead(before => now() - interval '1 day')"), "0");
  EXPECT_EQ(sql.one("select purged from purge_dead()"), "1");
  EXPECT_EQ(state(running), "running");
}

// -- counts ------------------------------------------------------------------------------------------------------

TEST_F(EngineKind, StatsSayWhatCountsSays) {
  Hand worker(sql, {.kinds = "{k,other}"});
  auto const expect_same = [&] {
    EXPECT_EQ(sql.column("select concat_ws(' ', queue, kind, state, jobs) from stats() order by 1"),
              sql.column("select concat_ws(' ', queue, kind, state, jobs) from counts() order by 1"));
    EXPECT_EQ(sql.column("select concat_ws(' ', queue, kind, state, jobs) from backlog() order by 1"),
              sql.column("select concat_ws(' ', queue, kind, state, jobs) from counts() "
                         "where state in ('available', 'running') order by 1"));
  };
  expect_same();
  for (int i = 0; i < 12; ++i) enqueue();
  failed(worker, 13);
  sql.exec("select enqueue('unfolded'), enqueue('other', delay => '1 h'), enqueue('k', queue => 'mail')");
  expect_same();
  auto const got = worker.claim(2, 2);
  expect_same();
  worker.finish(got.at(0).token);
  expect_same();
}

TEST_F(EngineKind, RatesAndAges) {
  Hand worker(sql);
  for (int i = 0; i < 3; ++i) enqueue();
  worker.finish(worker.claim(3, 3).at(0).token);
  failed(worker, 1);
  EXPECT_EQ(sql.one("select last_minute || ' ' || last_hour from stats() where state = 'succeeded'"), "3 3");
  EXPECT_EQ(sql.one("select last_minute || ' ' || last_hour from stats() where state = 'failed'"), "1 1");
  sql.exec(
      "update batch set closed_at = closed_at - interval '10 minutes'; update dead set ended_at = ended_at - interval "
      "'2 hours'");
  EXPECT_EQ(sql.one("select last_minute || ' ' || last_hour from stats() where state = 'succeeded'"), "0 3");
  EXPECT_EQ(sql.one("select last_minute || ' ' || last_hour from stats() where state = 'failed'"), "0 0");
  auto const first = enqueue();
  enqueue();
  EXPECT_TRUE(
      sql.truth("select s.oldest_at = (select run_at from jobs where id = $1) and s.jobs = 2 from backlog() s "
                "where s.state = 'available'",
                first));
}

TEST_F(EngineKind, AheadCountsTheLane) {
  Hand worker(sql);
  Ids jobs;
  for (int i = 0; i < 5; ++i) jobs.push_back(enqueue());
  sql.exec("select enqueue('k', queue => 'other')");
  EXPECT_EQ(sql.number("select ahead($1)", jobs.at(0)), 0);
  EXPECT_EQ(sql.number("select ahead($1)", jobs.at(4)), 4);
  EXPECT_EQ(sql.number("select ahead($1, 3)", jobs.at(4)), 3);
  sql.rows("select look($1)", worker.id());
  worker.claim(2, 2, array({lane()}));
  EXPECT_EQ(sql.number("select ahead($1)", jobs.at(4)), 2);
  EXPECT_EQ(sql.number("select ahead(999999)"), 0);
}

TEST_F(EngineKind, StatusIsOneRow) {
  EXPECT_EQ(sql.number("select count(*) from status() where leader is null and workers = 0 and available = 0"), 1);
  Hand worker(sql);
  Hand dead(sql);
  sql.rows("select lead($1::bigint)", worker.id());
  expire(sql, dead.id());
  enqueue();
  sql.exec("select pause_kind('x'), pause_queue('q')");
  EXPECT_TRUE(
      sql.truth("select leader = $1 and workers = 1 and slots = 10 and available = 1 and running = 0 and "
                "queues_paused = '{q}' and kinds_paused = '{x}' and oldest_available_at is not null "
                "and dead_last_hour = 0 from status()",
                worker.id()));
}

TEST_F(EngineKind, WhoHoldsTheHorizon) {
  auto session = open();
  session.exec("set application_name = 'holder'; begin isolation level repeatable read; select 1");
  EXPECT_EQ(
      sql.number("select count(*) from xmin_holders('0') where application = 'holder' and what = 'transaction' and "
                 "state = 'idle in transaction'"),
      1);
  EXPECT_EQ(sql.number("select count(*) from xmin_holders('1 hour') where application = 'holder'"), 0);
  session.exec("rollback");
  EXPECT_EQ(sql.number("select count(*) from xmin_holders('0') where application = 'holder'"), 0);
}

// -- the view ----------------------------------------------------------------------------------------------------

TEST_F(EngineKind, AttemptsAreThoseOfTheKind) {
  auto const job = enqueue();
  auto const attempts = [&](std::int64_t id) { return sql.number("select max_attempts from jobs where id = $1", id); };
  EXPECT_EQ(attempts(job), 25) << "nobody has said";
  Hand first(sql, {.kinds = "{other,k}", .max_attempts = "{9,3}"});
  EXPECT_EQ(attempts(job), 3);
  Hand second(sql, {.kinds = "{k}", .max_attempts = "{4}"});
  Hand third(sql, {.kinds = "{other}", .max_attempts = "{5}"});
  EXPECT_EQ(attempts(job), 4) << "who registered the kind last";
  EXPECT_EQ(attempts(sql.number("select enqueue('k', max_attempts => 7)")), 7);
  EXPECT_EQ(attempts(sql.number("select enqueue('k', delay => '1 h')")), 4);
  sql.rows("select cancel($1)", job);
  EXPECT_EQ(attempts(job), 4);
}

}  // namespace
}  // namespace posthouse::test
