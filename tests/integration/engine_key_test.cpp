// SPDX-License-Identifier: Apache-2.0
// Keys: how many jobs of a key run at once, in which order, and what becomes of those that wait.
#include <gmock/gmock.h>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class EngineKey : public EngineTest {
 protected:
  std::int64_t keyed(std::string const& key, std::string const& kind = "k") {
    return sql.number("select enqueue($1, key => $2)", kind, key);
  }
  Ids keyed_some(int n, std::string const& key) {
    return numbers(sql.column("select enqueue('k', key => $1) from generate_series(1, $2)", key, n));
  }
  std::int64_t parked() { return sql.number("select count(*) from parked"); }
  /// What the next claim brings.
  Ids next(Hand& hand, int n = 10) { return ids(hand.claim(n)); }
  void close(Hand& hand, std::vector<Claimed> const& jobs) {
    for (auto const& job : jobs) hand.finish(job.token);
  }
};

TEST_F(EngineKey, OneAfterAnotherInOrderAndOthersPass) {
  Hand hand(sql);
  auto const a = keyed_some(3, "a");
  auto const b = keyed("b");
  auto const plain = enqueue();
  auto const first = hand.claim(10);
  EXPECT_THAT(ids(first), UnorderedElementsAre(a[0], b, plain));
  EXPECT_EQ(parked(), 2);
  EXPECT_THAT(next(hand), IsEmpty());
  close(hand, first);
  auto const second = hand.claim(10);
  EXPECT_THAT(ids(second), ElementsAre(a[1]));
  // One that comes later never overtakes.
  auto const later = keyed("a");
  EXPECT_THAT(next(hand), IsEmpty());
  close(hand, second);
  auto const third = hand.claim(10);
  EXPECT_THAT(ids(third), ElementsAre(a[2]));
  close(hand, third);
  auto const fourth = hand.claim(10);
  EXPECT_THAT(ids(fourth), ElementsAre(later));
  close(hand, fourth);
  EXPECT_EQ(parked(), 0);
  EXPECT_EQ(sql.one("select string_agg(state || ' ' || jobs, ',') from counts()"), "succeeded 6");
}

TEST_F(EngineKey, KeysAreOfAKindAndSpanQueuesAndPriorities) {
  Hand hand(sql, {.kinds = "{k,other}"});
  auto const low = keyed("a");
  auto const high = sql.number("select enqueue('k', key => 'a', priority => 5)");
  auto const elsewhere = sql.number("select enqueue('k', key => 'a', queue => 'q')");
  auto const other = keyed("a", "other");
  EXPECT_THAT(next(hand), UnorderedElementsAre(high, other));
  EXPECT_THAT(numbers(sql.column("select id from parked order by seq")), UnorderedElementsAre(low, elsewhere));
}

TEST_F(EngineKey, EveryWayIn) {
  Hand hand(sql);
  auto const made = numbers(sql.column(
      R"(select unnest(enqueue_many('[{"kind": "k", "key": "a"}, {"kind": "k", "key": "a", "priority": 1}, {"kind": "k"}]')))"));
  sql.rows("select enqueue_bytes('k', '\\x01', key => 'a')");
  sql.rows("select enqueue_outcome('k', key => 'a', dedupe_key => 'd')");
  sql.rows("select enqueue('k', key => 'a', headers => '{}', max_attempts => 3, expires_in => '1 hour')");
  EXPECT_EQ(sql.number("select count(*) from jobs where key = 'a'"), 5);
  EXPECT_THAT(next(hand), UnorderedElementsAre(made[1], made[2]));
  EXPECT_EQ(sql.number("select count(*) from jobs where key = 'a' and state = 'available'"), 4);
  EXPECT_EQ(sql.number("select sum(jobs) from backlog() where state = 'available'"), 4);
  EXPECT_EQ(sql.sqlstate_of("select enqueue('k', key => '')"), "22023");
  EXPECT_EQ(sql.sqlstate_of("select enqueue('k', key => repeat('x', 513))"), "22023");
  EXPECT_EQ(sql.sqlstate_of(R"(select enqueue_many('[{"kind": "k", "key": ""}]'))"), "22023");
}

TEST_F(EngineKey, ASmallClaimGetsPastABusyKey) {
  Hand hand(sql);
  auto const busy = keyed("a");
  EXPECT_THAT(next(hand, 1), ElementsAre(busy));
  sql.rows("select enqueue('k', key => 'a') from generate_series(1, 3000)");
  auto const b = keyed("b");
  int claims = 0;
  Ids found;
  while (found.empty() && ++claims < 20) found = next(hand, 1);
  EXPECT_THAT(found, ElementsAre(b));
  EXPECT_LE(claims, 5);
  EXPECT_EQ(parked(), 3000);
  // Claims that park without a job leave a closed batch, and their jobs are not looked at again.
  EXPECT_EQ(sql.number("select count(*) from batch where n = 0 and closed_at is null"), 0);
  EXPECT_EQ(sql.number("select ahead(max(id), 100000) from parked"), 2999);
}

TEST_F(EngineKey, SeveralAtOnce) {
  Hand hand(sql);
  sql.rows("select set_limit('key', 'k', 2)");
  auto const a = keyed_some(5, "a");
  auto const first = hand.claim(10);
  EXPECT_THAT(ids(first), ElementsAre(a[0], a[1]));
  hand.finish(first[0].token, "10");
  EXPECT_THAT(next(hand), ElementsAre(a[2]));
  EXPECT_THAT(next(hand), IsEmpty());
  // A higher limit holds from the next round of the leader on.
  sql.rows("select set_limit('key', 'k', 3)");
  EXPECT_EQ(sql.number("select tend_keys()"), 1);
  EXPECT_THAT(next(hand), ElementsAre(a[3]));
  sql.rows("select set_limit('key', 'k', null)");
  sql.rows("select tend_keys()");
  EXPECT_THAT(next(hand), ElementsAre(a[4]));
  EXPECT_EQ(sql.sqlstate_of("select set_limit('serialized', 'k', 2)"), "22023");
  EXPECT_EQ(sql.sqlstate_of("select set_limit('key', 'k', per_second => 2)"), "22023");
}

TEST_F(EngineKey, AJobThatIsTriedAgainKeepsItsTurn) {
  Hand hand(sql);
  auto const a = keyed_some(2, "a");
  struct End {
    std::string outcome;
    int delay_ms;
  };
  for (auto const& [outcome, delay_ms] :
       {End{"retry", 3'600'000}, End{"retry", 0}, End{"snooze", 3'600'000}, End{"release", 0}}) {
    auto const jobs = hand.claim(10);
    ASSERT_THAT(ids(jobs), ElementsAre(a[0])) << outcome;
    hand.finish(jobs[0].token, "1", 0, "[" + move_of(jobs[0], outcome, delay_ms) + "]");
    if (delay_ms > 0) {
      EXPECT_THAT(next(hand), IsEmpty()) << outcome;
      sql.exec("update deferred set due_at = clock_timestamp()");
      EXPECT_EQ(sql.number("select promote()"), 1);
    }
  }
  auto const jobs = hand.claim(10);
  ASSERT_THAT(ids(jobs), ElementsAre(a[0]));
  hand.finish(jobs[0].token, "1", 0, "[" + move_of(jobs[0], "fail") + "]");
  EXPECT_THAT(next(hand), ElementsAre(a[1]));
  // A dead job that is brought back comes last, and waits.
  auto const later = keyed("a");
  EXPECT_TRUE(sql.truth("select retry($1)", a[0]));
  EXPECT_THAT(next(hand), IsEmpty());
  EXPECT_THAT(numbers(sql.column("select id from parked")), UnorderedElementsAre(later, a[0]));
}

// The call that workers make for one job at a time leaves keys to the other one.
TEST_F(EngineKey, OneJobAtATime) {
  Hand hand(sql);
  auto const a = keyed_some(3, "a");
  auto const main = sql.number("select keyed_lane_of('default', 'k', 0, false)");
  auto const express = sql.number("select keyed_lane_of('default', 'k', 0, true)");
  auto const one = [&](std::string const& done, std::int64_t lane) {
    return claimed_rows(
        sql.rows("select token, lane, pos, id, attempt from finish_and_claim_one($1, nullif($2, '')::bigint, "
                 "$3, $4) where pos >= 0",
                 hand.id(), done, hand.take_token(), lane));
  };
  sql.rows("select fold_lanes(), express_of($1)", main);
  sql.rows("select fold_lanes()");
  auto const first = one("", main);
  ASSERT_THAT(ids(first), ElementsAre(a[0]));
  EXPECT_THAT(one("", main), IsEmpty());
  EXPECT_THAT(one(std::to_string(first[0].token), main), IsEmpty());
  auto const second = one("", express);
  EXPECT_THAT(ids(second), ElementsAre(a[1]));
  EXPECT_THAT(one("", express), IsEmpty());
  one(std::to_string(second[0].token), express);
  EXPECT_THAT(ids(one("", express)), ElementsAre(a[2]));
}

TEST_F(EngineKey, AResentFinishChangesNothing) {
  Hand hand(sql);
  auto const a = keyed_some(3, "a");
  auto const first = hand.claim(10);
  hand.finish(first[0].token);
  hand.finish(first[0].token);
  EXPECT_EQ(parked(), 1);
  EXPECT_THAT(next(hand), ElementsAre(a[1]));
  EXPECT_THAT(next(hand), IsEmpty());
}

TEST_F(EngineKey, ALostWorkerKeepsTheTurnOfItsJobs) {
  Hand lost(sql);
  Hand hand(sql);
  auto const a = keyed_some(2, "a");
  EXPECT_THAT(next(lost), ElementsAre(a[0]));
  EXPECT_THAT(next(hand), IsEmpty());
  expire(sql, lost.id());
  EXPECT_EQ(sql.number("select reap()"), 1);
  sql.rows("select tend_keys()");
  auto const again = hand.claim(10);
  EXPECT_THAT(ids(again), ElementsAre(a[0]));
  EXPECT_EQ(again[0].attempt, 1);
  close(hand, again);
  EXPECT_THAT(next(hand), ElementsAre(a[1]));
}

TEST_F(EngineKey, ALostWorkerWhoseJobDiesFreesTheKey) {
  Hand lost(sql, {.max_attempts = "{1}"});
  Hand hand(sql);
  auto const a = keyed_some(2, "a");
  EXPECT_THAT(next(lost), ElementsAre(a[0]));
  EXPECT_THAT(next(hand), IsEmpty());
  expire(sql, lost.id());
  sql.rows("select reap()");
  EXPECT_EQ(state(a[0]), "failed");
  EXPECT_EQ(sql.number("select tend_keys()"), 1);
  EXPECT_THAT(next(hand), ElementsAre(a[1]));
}

TEST_F(EngineKey, CompletedInAHandlersTransactionThenLost) {
  Hand lost(sql);
  Hand hand(sql);
  auto const a = keyed_some(2, "a");
  auto const jobs = lost.claim(10);
  EXPECT_TRUE(lost.complete(sql, jobs[0]));
  EXPECT_THAT(next(hand), IsEmpty());
  expire(sql, lost.id());
  sql.rows("select reap()");
  EXPECT_EQ(sql.number("select tend_keys()"), 1);
  EXPECT_EQ(state(a[0]), "succeeded");
  EXPECT_THAT(next(hand), ElementsAre(a[1]));
}

TEST_F(EngineKey, WhatEndsWhileItWaits) {
  Hand hand(sql);
  auto const a = keyed_some(4, "a");
  auto const late = sql.number("select enqueue('k', key => 'a', expires_in => '1 hour')");
  auto const first = hand.claim(10);
  ASSERT_THAT(ids(first), ElementsAre(a[0]));
  EXPECT_EQ(sql.one("select cancel($1)", a[1]), "cancelled");
  EXPECT_EQ(state(a[1]), "cancelled");
  EXPECT_TRUE(sql.truth("select delete_job($1)", a[2]));
  EXPECT_EQ(sql.one("select cancel($1)", a[2]), "not_found");
  EXPECT_FALSE(sql.truth("select retry($1)", a[3]));
  sql.rows("update parked set options = options || jsonb_build_object('expires_at', utc_text(now())) where id = $1",
           late);
  sql.rows("update expiry set at = now()");
  EXPECT_EQ(sql.number("select end_late()"), 1);
  EXPECT_EQ(state(late), "expired");
  close(hand, first);
  EXPECT_THAT(next(hand), ElementsAre(a[3]));
}

TEST_F(EngineKey, CancellingTheOneWhoseTurnItIsHandsItOn) {
  Hand hand(sql);
  auto const a = keyed_some(4, "a");
  auto first = hand.claim(10);
  close(hand, first);  // a[1] is available now
  EXPECT_EQ(sql.one("select cancel($1)", a[1]), "cancelled");
  EXPECT_EQ(sql.number("select tend_keys()"), 1);
  auto second = hand.claim(10);
  ASSERT_THAT(ids(second), ElementsAre(a[2]));
  hand.finish(second[0].token, "1", 0, "[" + move_of(second[0], "retry", 3'600'000) + "]");
  EXPECT_EQ(sql.one("select cancel($1)", a[2]), "cancelled");
  EXPECT_EQ(sql.number("select tend_keys()"), 1);
  EXPECT_THAT(next(hand), ElementsAre(a[3]));
}

TEST_F(EngineKey, AnOpenCancelStopsNobodyElse) {
  Hand hand(sql);
  auto const a = keyed_some(3, "a");
  auto const b = keyed_some(2, "b");
  auto const first = hand.claim(10);
  Sql other = open();
  other.exec("begin");
  EXPECT_EQ(other.one("select cancel($1)", a[1]), "cancelled");
  close(hand, first);
  // The key whose next job is being cancelled waits for that; order is kept whatever becomes of it.
  EXPECT_THAT(next(hand), ElementsAre(b[1]));
  sql.rows("select tend_keys()");
  EXPECT_THAT(next(hand), IsEmpty());
  other.exec("rollback");
  EXPECT_EQ(sql.number("select tend_keys()"), 1);
  EXPECT_THAT(next(hand), ElementsAre(a[1]));
}

TEST_F(EngineKey, Pausing) {
  Hand hand(sql);
  auto const a = keyed_some(3, "a");
  auto const b = keyed("b");
  sql.rows("select pause_key('k', 'a')");
  EXPECT_THAT(next(hand), ElementsAre(b));
  sql.rows("select resume_key('k', 'a')");
  EXPECT_EQ(sql.number("select tend_keys()"), 1);
  // Its turn has come, and it is not claimed yet: a pause takes it back, to the same place.
  sql.rows("select pause_key('k', 'a')");
  EXPECT_THAT(next(hand), IsEmpty());
  EXPECT_EQ(sql.one("select string_agg(id::text, ',' order by seq) from parked"),
            std::to_string(a[0]) + "," + std::to_string(a[1]) + "," + std::to_string(a[2]));
  sql.rows("select resume_key('k', 'a')");
  sql.rows("select tend_keys()");
  auto const first = hand.claim(10);
  EXPECT_THAT(ids(first), ElementsAre(a[0]));
  // What runs, runs to its end; nobody follows.
  sql.rows("select pause_key('k', 'a')");
  close(hand, first);
  EXPECT_THAT(next(hand), IsEmpty());
  EXPECT_EQ(sql.one("select paused from key_list() where key = 'a'"), "t");
  sql.rows("select resume_key('k', 'a')");
  sql.rows("select tend_keys()");
  EXPECT_THAT(next(hand), ElementsAre(a[1]));
  EXPECT_EQ(sql.sqlstate_of("select pause_key('k', '')"), "22023");
  EXPECT_EQ(sql.sqlstate_of("select pause_key('', 'a')"), "22023");
}

TEST_F(EngineKey, Serialized) {
  Hand hand(sql);
  sql.rows("select set_limit('serialized', 'k', 1)");
  auto const plain = enqueue_some(2);
  auto const a = keyed_some(2, "a");
  Ids d;
  for (auto const* key : {"x", "y"}) d.push_back(sql.number("select enqueue('k', dedupe_key => $1)", std::string(key)));
  auto first = hand.claim(10);
  EXPECT_THAT(ids(first), UnorderedElementsAre(plain[0], a[0], d[0], d[1]));
  EXPECT_THAT(next(hand), IsEmpty());
  // No longer: all that wait may go.
  EXPECT_TRUE(sql.truth("select reset_limit('serialized', 'k')"));
  sql.rows("select tend_keys()");
  EXPECT_THAT(next(hand), ElementsAre(plain[1]));
  close(hand, first);
  EXPECT_THAT(next(hand), ElementsAre(a[1]));
}

TEST_F(EngineKey, WithALimitOfTheKind) {
  Hand hand(sql);
  sql.rows("select set_limit('kind', 'k', 2)");
  auto const a = keyed_some(2, "a");
  auto const b = keyed("b");
  auto const c = keyed("c");
  auto first = hand.claim(10);
  EXPECT_THAT(ids(first), ElementsAre(a[0], b));
  EXPECT_THAT(next(hand), IsEmpty());
  close(hand, first);
  EXPECT_THAT(next(hand), UnorderedElementsAre(a[1], c));
}

TEST_F(EngineKey, AJobThatIsNotDueHasNoTurn) {
  Hand hand(sql);
  auto const later = sql.number("select enqueue('k', key => 'a', delay => '1 hour')");
  auto const now = keyed("a");
  auto const first = hand.claim(10);
  EXPECT_THAT(ids(first), ElementsAre(now));
  sql.rows("update deferred set due_at = now()");
  sql.rows("select promote()");
  EXPECT_THAT(next(hand), IsEmpty());
  close(hand, first);
  EXPECT_THAT(next(hand), ElementsAre(later));
}

TEST_F(EngineKey, ADedupeKeyIsHeldWhileParked) {
  Hand hand(sql);
  keyed("a");
  auto const second = sql.number("select enqueue('k', key => 'a', dedupe_key => 'd')");
  hand.claim(10);
  ASSERT_EQ(parked(), 1);
  EXPECT_EQ(sql.number("select enqueue('k', key => 'a', dedupe_key => 'd')"), second);
  sql.rows("select prune()");
  EXPECT_EQ(sql.number("select count(*) from unique_key"), 1);
}

TEST_F(EngineKey, AParkedJobIsReplacedWhereItIsAndPutOffToTheEnd) {
  Hand hand(sql);
  auto const first = keyed("a");
  auto const second = sql.number("select enqueue('k', key => 'a', dedupe_key => 'd')");
  auto const third = keyed("a");
  auto const held = hand.claim(10);
  ASSERT_THAT(ids(held), ElementsAre(first));
  EXPECT_EQ(sql.number("select enqueue('k', '2', dedupe_key => 'd', on_duplicate => 'replace')"), second);
  EXPECT_EQ(sql.one("select payload from parked where id = $1", second), "2");
  EXPECT_EQ(sql.number("select enqueue('k', dedupe_key => 'd', on_duplicate => 'reschedule', delay => '1 hour')"),
            second);
  EXPECT_EQ(state(second), "scheduled");
  close(hand, held);
  EXPECT_THAT(next(hand), ElementsAre(third));
}

TEST_F(EngineKey, PruneKeepsWhatCounts) {
  Hand hand(sql);
  auto const a = keyed_some(2, "a");
  auto const b = hand.claim(10);
  close(hand, b);
  EXPECT_EQ(sql.number("select count(*) from key_turn"), 2);
  sql.rows("select prune()");
  EXPECT_EQ(sql.number("select count(*) from key_turn"), 1);
  auto const second = hand.claim(10);
  EXPECT_THAT(ids(second), ElementsAre(a[1]));
  close(hand, second);
  sql.rows("update key_turn set at = at - interval '1 hour'");
  sql.rows("select prune()");
  EXPECT_EQ(sql.number("select count(*) from key_turn"), 0);
}

// Whatever may have gone wrong: a turn whose job has ended is found and handed on.
TEST_F(EngineKey, ATurnThatIsHeldByNobodyIsMended) {
  Hand hand(sql);
  auto const a = keyed_some(2, "a");
  auto const first = hand.claim(10);
  close(hand, first);
  auto const second = hand.claim(10);
  close(hand, second);
  auto const third = keyed("a");
  sql.rows(
      "insert into key_turn (kind, key, seq, at, holders, parked_to, parked_last) values ('k', 'a', 100, now() - "
      "interval '1 hour', array[$1::bigint], 100, 100)",
      a[0]);
  EXPECT_THAT(next(hand), IsEmpty());
  sql.rows("update key_turn set at = at - interval '1 hour'");
  sql.rows("select prune()");
  EXPECT_EQ(sql.number("select tend_keys()"), 1);
  EXPECT_THAT(next(hand), ElementsAre(third));
}

TEST_F(EngineKey, SaysWhatHolds) {
  Hand hand(sql);
  auto const a = keyed_some(3, "a");
  hand.claim(10);
  EXPECT_EQ(sql.one("select format('%s %s %s %s', key, \"limit\", holders, ahead) from key_of_job($1)", a[2]),
            "a 1 {" + std::to_string(a[0]) + "} 1");
  EXPECT_EQ(sql.number("select count(*) from key_of_job($1)", enqueue()), 0);
  EXPECT_EQ(sql.one("select format('%s %s %s %s', kind, key, holders, parked) from key_list()"),
            "k a {" + std::to_string(a[0]) + "} 2");
}

}  // namespace
}  // namespace posthouse::test
