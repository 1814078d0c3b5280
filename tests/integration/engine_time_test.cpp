// SPDX-License-Identifier: Apache-2.0
// Expiry and cancelling in SQL, with workers that the test plays by hand.
#include <gmock/gmock.h>

#include <map>
#include <set>
#include <thread>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;

class EngineTime : public EngineTest {
 protected:
  std::int64_t with(std::string const& arguments) { return sql.number("select enqueue('k', " + arguments + ")"); }
  // As if so much time had gone by: only what the clock decides is changed.
  void an_hour_later() {
    sql.exec(
        "update expiry set at = at - interval '1 hour';"
        "update job set options = options || jsonb_build_object('expires_at', "
        "utc_text((options ->> 'expires_at')::timestamptz - interval '1 hour')) where options ? 'expires_at';"
        "update deferred set due_at = due_at - interval '1 hour', options = case when options ? 'expires_at' then "
        "options || jsonb_build_object('expires_at', utc_text((options ->> 'expires_at')::timestamptz - interval '1 "
        "hour')) else options end");
  }
  std::string cancel(std::int64_t id) { return sql.one("select cancel($1)", id); }
  std::int64_t sweep() { return sql.number("select end_late()"); }
  std::int64_t rows(std::string const& table) { return sql.number("select count(*) from " + table); }
  std::int64_t errors_of(std::int64_t id) {
    return sql.number("select count(*) from attempt_error where job = $1", id);
  }
};

// -- expiry ----------------------------------------------------------------------------------------------------------

TEST_F(EngineTime, TheViewShowsWhenAJobExpires) {
  auto const id = with("expires_at => '2099-01-02 03:04:05.678901+00'");
  EXPECT_EQ(sql.one("select expires_at at time zone 'UTC' from jobs where id = $1", id), "2099-01-02 03:04:05.678901");
  EXPECT_EQ(state(id), "available");
  auto const scheduled = with("delay => '1 hour', expires_in => '2 hours'");
  EXPECT_TRUE(
      sql.truth("select expires_at between now() + interval '1 hour 59 min' and now() + interval '2 hours' "
                "from jobs where id = $1",
                scheduled));
  EXPECT_EQ(sql.one("select expires_at is null from jobs where id = $1", enqueue()), "t");
}

TEST_F(EngineTime, InThePastItEndsAtOnce) {
  auto const id = with("expires_at => now() - interval '1 s', delay => '1 hour'");
  EXPECT_EQ(state(id), "expired");
  EXPECT_EQ(attempt(id), 0);
  auto const ids = numbers(sql.column(
      R"(select unnest(enqueue_many('[{"kind": "k", "expires_at": "2001-01-01"}, {"kind": "k"}, {"kind": "k", "expires_in": "1 h"}]')))"));
  ASSERT_EQ(ids.size(), 3U);
  EXPECT_EQ(state(ids[0]), "expired");
  EXPECT_EQ(state(ids[1]), "available");
  EXPECT_EQ(state(ids[2]), "available");
  Hand worker(sql);
  EXPECT_THAT(test::ids(worker.claim(10)), ElementsAre(ids[1], ids[2]));
}

TEST_F(EngineTime, BadArguments) {
  for (std::string const arguments :
       {"expires_in => '0'", "expires_in => '-1 s'", "expires_in => '11 years'",
        "expires_in => '1 h', expires_at => '2099-01-01'", "expires_at => 'infinity'", "expires_at => '-infinity'",
        "expires_at => now() + interval '101 years'", "delay => '1 h', expires_in => '1 min'",
        "run_at => '2098-01-01', expires_at => '2098-01-01'", "timeout => '0'", "timeout => '-1 s'",
        "timeout => '11 years'"}) {
    EXPECT_EQ(sql.sqlstate_of("select enqueue('k', " + arguments + ")"), "22023") << arguments;
  }
  for (std::string const element : {R"({"kind": "k", "expires_in": "0"})", R"({"kind": "k", "timeout": "0"})",
                                    R"({"kind": "k", "delay": "1 h", "expires_in": "1 s"})",
                                    R"({"kind": "k", "delay_ms": 5000, "expires_in": "1 s"})"}) {
    EXPECT_EQ(sql.sqlstate_of("select enqueue_many('[" + element + "]')"), "22023") << element;
  }
  EXPECT_EQ(rows("jobs"), 0);
  EXPECT_EQ(rows("expiry"), 0);
}

TEST_F(EngineTime, WhatNobodyClaimsIsEndedByTheLeader) {
  auto const waiting = with("expires_in => '30 min'");
  auto const scheduled = with("delay => '3 hours', expires_in => '3 hours 30 min'");
  auto const longer = with("expires_in => '3 hours'");
  auto const plain = enqueue();
  EXPECT_EQ(sweep(), 0);
  an_hour_later();
  EXPECT_EQ(sweep(), 1);
  EXPECT_EQ(state(waiting), "expired");
  EXPECT_EQ(attempt(waiting), 0);
  EXPECT_EQ(state(scheduled), "scheduled");
  sql.exec("update deferred set due_at = now() + interval '10 hours'");
  for (int i = 0; i < 3; ++i) an_hour_later();
  EXPECT_EQ(sweep(), 2);
  EXPECT_EQ(state(scheduled), "expired");
  EXPECT_EQ(state(longer), "expired");
  EXPECT_EQ(state(plain), "available");
  EXPECT_EQ(rows("expiry"), 0);
  EXPECT_EQ(sweep(), 0);
}

TEST_F(EngineTime, DutiesSweep) {
  auto const id = with("expires_in => '30 min'");
  an_hour_later();
  Hand worker(sql);
  sql.rows("select posthouse.lead($1)", worker.id());
  sql.rows("select posthouse.duties($1)", worker.id());
  EXPECT_EQ(state(id), "expired");
}

TEST_F(EngineTime, PromotionDoesNotBringBackWhatHasExpired) {
  auto const late = with("delay => '20 min', expires_in => '30 min'");
  auto const fine = with("delay => '20 min', expires_in => '2 hours'");
  an_hour_later();
  sql.rows("select promote()");
  EXPECT_EQ(state(late), "expired");
  EXPECT_EQ(state(fine), "available");
}

TEST_F(EngineTime, AFailedAttemptAfterItsTimeIsTheLast) {
  Hand worker(sql);
  for (std::string const outcome : {"retry", "snooze", "release"}) {
    auto const id = with("expires_in => '30 min'");
    auto const got = worker.claim(1);
    ASSERT_THAT(ids(got), ElementsAre(id));
    an_hour_later();
    EXPECT_EQ(sweep(), 0) << "it has started in time";
    EXPECT_EQ(state(id), "running");
    worker.finish(got[0].token, "1", 1, "[" + move_of(got[0], outcome) + "]");
    EXPECT_EQ(state(id), "expired") << outcome;
    EXPECT_EQ(attempt(id), outcome == "retry" ? 1 : 0);
    EXPECT_EQ(errors_of(id), outcome == "retry" ? 1 : 0);
  }
}

TEST_F(EngineTime, AJobThatWaitsForItsNextAttemptExpires) {
  Hand worker(sql);
  auto const id = with("expires_in => '30 min'");
  auto const got = worker.claim(1);
  worker.finish(got.at(0).token, "1", 1, "[" + move_of(got[0], "retry", 1000 * 3600 * 5) + "]");
  EXPECT_EQ(state(id), "retryable");
  an_hour_later();
  EXPECT_EQ(sweep(), 1);
  EXPECT_EQ(state(id), "expired");
  EXPECT_EQ(attempt(id), 1);
}

TEST_F(EngineTime, TheWorkersWordIsFenced) {
  Hand worker(sql);
  auto const id = with("expires_in => '30 min'");
  auto const got = worker.claim(1);
  std::string const move = "[" + move_of(got.at(0), "expire") + "]";
  worker.finish(got[0].token, "1", 1, move);
  EXPECT_EQ(state(id), "expired");
  EXPECT_EQ(attempt(id), 0);
  EXPECT_EQ(errors_of(id), 0);
  worker.finish(got[0].token, "1", 1, move);
  EXPECT_EQ(rows("dead"), 1);
}

TEST_F(EngineTime, ARescueDoesNotBringBackWhatHasExpired) {
  Hand worker(sql);
  auto const id = with("expires_in => '30 min'");
  auto const fine = with("expires_in => '3 hours'");
  ASSERT_EQ(worker.claim(2).size(), 2U);
  an_hour_later();
  expire(sql, worker.id());
  EXPECT_EQ(sql.number("select reap()"), 2);
  EXPECT_EQ(state(id), "expired");
  EXPECT_EQ(attempt(id), 1);
  EXPECT_EQ(state(fine), "available");
}

TEST_F(EngineTime, AnOperatorsRetryTakesThePastExpiryAway) {
  auto const id = with("expires_in => '30 min'");
  an_hour_later();
  sweep();
  ASSERT_EQ(state(id), "expired");
  EXPECT_TRUE(sql.truth("select retry($1)", id));
  EXPECT_EQ(sweep(), 0);
  EXPECT_EQ(state(id), "available");
  EXPECT_EQ(sql.one("select expires_at is null from jobs where id = $1", id), "t");
}

TEST_F(EngineTime, ARetryBeforeTheSweepIsNotSweptAway) {
  auto const id = with("delay => '10 min', expires_in => '30 min'");
  an_hour_later();
  EXPECT_TRUE(sql.truth("select retry($1)", id));
  EXPECT_EQ(sweep(), 0);
  EXPECT_EQ(state(id), "available");
  EXPECT_EQ(rows("expiry"), 0);
}

TEST_F(EngineTime, TheSweepWaitsForNobody) {
  auto const waiting = with("expires_in => '30 min'");
  auto const scheduled = with("delay => '10 min', expires_in => '30 min'");
  an_hour_later();
  auto other = open();
  other.exec("begin");
  other.one("select cancel($1)", waiting);
  other.one("select cancel($1)", scheduled);
  EXPECT_EQ(sweep(), 0);
  EXPECT_EQ(rows("expiry"), 2);
  other.exec("rollback");
  EXPECT_EQ(sweep(), 2);
  EXPECT_EQ(state(waiting), "expired");
  EXPECT_EQ(state(scheduled), "expired");
}

TEST_F(EngineTime, AnExpiredJobGivesItsDedupeKeyBack) {
  auto const first = with("expires_in => '30 min', dedupe_key => 'x'");
  EXPECT_EQ(with("dedupe_key => 'x'"), first);
  an_hour_later();
  sweep();
  EXPECT_NE(with("dedupe_key => 'x'"), first);
}

// -- cancel ----------------------------------------------------------------------------------------------------------

TEST_F(EngineTime, ARequestedJobIsNotTriedAgain) {
  Hand worker(sql);
  for (std::string const outcome : {"retry", "fail", "snooze", "release", "cancel", "expire"}) {
    auto const id = enqueue();
    auto const got = worker.claim(1);
    ASSERT_THAT(ids(got), ElementsAre(id));
    EXPECT_EQ(cancel(id), "requested");
    EXPECT_EQ(cancel(id), "requested") << "again: the same";
    EXPECT_EQ(sql.one("select cancels_of($1)", worker.id()), "{" + std::to_string(id) + "}");
    EXPECT_EQ(state(id), "running");
    worker.finish(got[0].token, "1", 1, "[" + move_of(got[0], outcome) + "]");
    EXPECT_EQ(state(id), "cancelled") << outcome;
    bool const counted = outcome == "retry" || outcome == "fail" || outcome == "cancel";
    EXPECT_EQ(attempt(id), counted ? 1 : 0) << outcome;
    EXPECT_EQ(cancel(id), "finished");
    EXPECT_EQ(sql.one("select cancels_of($1)", worker.id()), "{}");
  }
  sweep();
  EXPECT_EQ(rows("cancel_request"), 0);
}

TEST_F(EngineTime, SuccessWinsOverARequest) {
  Hand worker(sql);
  auto const id = enqueue();
  auto const got = worker.claim(1);
  EXPECT_EQ(cancel(id), "requested");
  worker.finish(got.at(0).token);
  EXPECT_EQ(state(id), "succeeded");
  EXPECT_EQ(cancel(id), "finished");
  sweep();
  EXPECT_EQ(rows("cancel_request"), 0);
}

TEST_F(EngineTime, TheHeartbeatTellsWhatToCancel) {
  Hand worker(sql);
  Hand other(sql);
  auto const id = enqueue();
  ASSERT_EQ(worker.claim(1).size(), 1U);
  EXPECT_EQ(sql.one("select posthouse.beat($1, 0, 1, 1) ->> 'cancel'", worker.id()), "[]");
  cancel(id);
  EXPECT_EQ(sql.one("select posthouse.beat($1, 0, 1, 1) ->> 'cancel'", worker.id()), "[" + std::to_string(id) + "]");
  EXPECT_EQ(sql.one("select posthouse.beat($1, 0, 1, 1) ->> 'cancel'", other.id()), "[]");
}

TEST_F(EngineTime, ACancelThatIsRolledBackAsksForNothing) {
  Hand worker(sql);
  auto const id = enqueue();
  auto const got = worker.claim(1);
  auto other = open();
  other.exec("begin");
  EXPECT_EQ(other.one("select cancel($1)", id), "requested");
  other.exec("rollback");
  worker.finish(got.at(0).token, "1", 1, "[" + move_of(got[0], "retry", 60'000) + "]");
  EXPECT_EQ(state(id), "retryable");
}

TEST_F(EngineTime, ARequestedJobOfADeadWorkerIsCancelled) {
  Hand worker(sql);
  auto const started = enqueue();
  ASSERT_EQ(worker.claim(1).size(), 1U);
  auto const unstarted = enqueue();
  ASSERT_EQ(worker.claim(1, 0).size(), 1U);
  auto const other = enqueue();
  ASSERT_EQ(worker.claim(1).size(), 1U);
  EXPECT_EQ(cancel(started), "requested");
  EXPECT_EQ(cancel(unstarted), "requested");
  expire(sql, worker.id());
  EXPECT_EQ(sql.number("select reap()"), 3);
  EXPECT_EQ(state(started), "cancelled");
  EXPECT_EQ(attempt(started), 1);
  EXPECT_EQ(state(unstarted), "cancelled");
  EXPECT_EQ(attempt(unstarted), 0);
  EXPECT_EQ(state(other), "available");
}

// The retry began before the cancel was committed, and does not see it.
TEST_F(EngineTime, ARequestFollowsAJobThatMovedMeanwhile) {
  Hand worker(sql);
  auto const scheduled = enqueue();
  auto const first = worker.claim(1);
  auto const held = enqueue();
  auto const second = worker.claim(1);
  auto const waiting = enqueue();
  auto const third = worker.claim(1);
  auto other = open();
  other.exec("begin");
  for (auto const id : {scheduled, held, waiting}) EXPECT_EQ(other.one("select cancel($1)", id), "requested");
  worker.finish(first.at(0).token, "1", 1, "[" + move_of(first[0], "retry", 3600'000) + "]");
  worker.finish(second.at(0).token, "1", 1, "[" + move_of(second[0], "release") + "]");
  Hand next(sql);
  ASSERT_THAT(ids(next.claim(10)), ElementsAre(held));
  worker.finish(third.at(0).token, "1", 1, "[" + move_of(third[0], "release") + "]");
  other.exec("commit");
  EXPECT_EQ(state(scheduled), "retryable");
  EXPECT_EQ(sweep(), 2);
  EXPECT_EQ(state(scheduled), "cancelled");
  EXPECT_EQ(state(waiting), "cancelled");
  EXPECT_EQ(state(held), "running");
  EXPECT_EQ(sql.one("select cancels_of($1)", next.id()), "{" + std::to_string(held) + "}") << "who holds it is told";
}

TEST_F(EngineTime, PromotionDoesNotBringBackWhatIsToBeCancelled) {
  Hand worker(sql);
  auto const id = enqueue();
  auto const got = worker.claim(1);
  auto other = open();
  other.exec("begin");
  EXPECT_EQ(other.one("select cancel($1)", id), "requested");
  worker.finish(got.at(0).token, "1", 1, "[" + move_of(got[0], "snooze", 0) + "]");
  other.exec("commit");
  EXPECT_EQ(sql.number("select promote()"), 1);
  EXPECT_EQ(state(id), "cancelled");
}

TEST_F(EngineTime, AnOperatorsRetryForgetsTheRequest) {
  Hand worker(sql);
  auto const id = enqueue();
  auto const got = worker.claim(1);
  cancel(id);
  worker.finish(got.at(0).token, "1", 1, "[" + move_of(got[0], "cancel") + "]");
  ASSERT_EQ(state(id), "cancelled");
  EXPECT_TRUE(sql.truth("select retry($1)", id));
  EXPECT_EQ(sweep(), 0);
  EXPECT_EQ(state(id), "available");
}

TEST_F(EngineTime, DeletingARunningJobAsksForNothing) {
  Hand worker(sql);
  auto const id = enqueue();
  ASSERT_EQ(worker.claim(1).size(), 1U);
  EXPECT_FALSE(sql.truth("select delete_job($1)", id));
  EXPECT_EQ(rows("cancel_request"), 0);
}

// Many sessions cancel while a worker ends the same jobs: each job ends once, and who was told "cancelled" is right.
TEST_F(EngineTime, CancelRacesTheEnd) {
  constexpr int sessions = 4;
  Hand worker(sql);
  for (int round = 0; round < 30; ++round) {
    auto const jobs = enqueue_some(8);
    auto const got = worker.claim(8);
    ASSERT_EQ(got.size(), 8U);
    std::vector<std::thread> threads;
    std::vector<std::map<std::int64_t, std::string>> told(sessions);
    for (int s = 0; s < sessions; ++s) {
      threads.emplace_back([&, s] {
        auto session = open();
        for (auto const id : jobs) told[static_cast<std::size_t>(s)][id] = session.one("select cancel($1)", id);
      });
    }
    std::string moves = "[";
    for (int i = 0; i < 4; ++i)
      moves += (i > 0 ? "," : "") + move_of(got[static_cast<std::size_t>(i)], i % 2 == 0 ? "retry" : "snooze");
    worker.finish(got[0].token, "11111111", 8, moves + "]");
    for (auto& thread : threads) thread.join();
    sweep();
    for (int i = 0; i < 8; ++i) {
      auto const id = got[static_cast<std::size_t>(i)].id;
      // A job that would have run again was cancelled by somebody, before or after; one that succeeded by nobody.
      EXPECT_EQ(state(id), i < 4 ? "cancelled" : "succeeded");
      EXPECT_EQ(
          sql.number("select (select count(*) from job where id = $1) + (select count(*) from deferred where id = $1) "
                     "+ (select count(*) from dead where id = $1)",
                     id),
          1);
      int ended = 0;
      for (auto const& answers : told) {
        EXPECT_THAT((std::set<std::string>{"cancelled", "requested", "finished"}), ::testing::Contains(answers.at(id)));
        ended += answers.at(id) == "cancelled" ? 1 : 0;
      }
      EXPECT_LE(ended, i < 4 ? 1 : 0) << "only one of them has ended it";
    }
  }
  EXPECT_EQ(rows("cancel_request"), 0);
}

}  // namespace
}  // namespace posthouse::test
