// SPDX-License-Identifier: Apache-2.0
// Jobs that wait for other jobs: when they are released or cancelled. Races are in engine_depends_race_test.cpp.
#include <gmock/gmock.h>

#include "integration/depends_fixture.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

TEST_F(EngineDepends, ReleasedByTheTransactionThatEndsTheLastParent) {
  Hand hand(sql);
  auto const parents = enqueue_some(2);
  auto const blocked = child(parents);
  EXPECT_EQ(state(blocked), "blocked");
  EXPECT_EQ(waits_for(blocked), array(parents));
  EXPECT_EQ(sql.one("select run_at is null and started_at is null from jobs where id = $1", blocked), "t");
  auto const claimed = hand.claim(10);
  EXPECT_EQ(ids(claimed), parents);
  hand.finish(claimed[0].token, "10");
  EXPECT_EQ(waits_for(blocked), array({parents[1]}));
  Sql other = open();
  sql.exec("begin");
  hand.finish(claimed[0].token);
  EXPECT_EQ(state(blocked), "available");
  EXPECT_EQ(other.one("select state from jobs where id = $1", blocked), "blocked");
  sql.exec("commit");
  EXPECT_EQ(edges(), 0);
  auto const next = hand.claim(10);
  EXPECT_THAT(ids(next), ElementsAre(blocked));
  EXPECT_EQ(next[0].attempt, 0);
  // Sent again, the acknowledgement changes nothing.
  hand.finish(claimed[0].token);
  EXPECT_THAT(hand.claim(10), IsEmpty());
  hand.finish(next[0].token);
  EXPECT_EQ(sql.one("select depends_on::text || ' ' || state from jobs where id = $1", blocked),
            array(parents) + " succeeded");
}

TEST_F(EngineDepends, ReleasedByTheShortCallAndWithinOneClaim) {
  auto const parent = enqueue();
  enqueue();
  auto const blocked = child({parent});
  Hand hand(sql);
  auto const first = hand.claim_one(lane());
  ASSERT_THAT(ids(first), ElementsAre(parent));
  ASSERT_EQ(hand.claim_one(lane(), first[0].token).size(), 1U);
  EXPECT_EQ(state(blocked), "available");
  EXPECT_THAT(ids(hand.claim(10)), ElementsAre(blocked));
}

TEST_F(EngineDepends, AFailedParentCancelsOrReleasesByPolicyAndSoOn) {
  Hand hand(sql);
  auto const parents = enqueue_some(2);
  auto const strict = child(parents);
  auto const lenient = child(parents, false);
  auto const grandchild = child({strict});
  auto const last = child({grandchild}, false);
  auto const claimed = hand.claim(10);
  hand.finish(claimed[0].token, "10", 0, "[" + move_of(claimed[0], "fail") + "]");
  EXPECT_EQ(state(strict), "cancelled");
  EXPECT_EQ(reason(strict), "job " + std::to_string(parents[0]) + ", on which it depends, failed");
  EXPECT_EQ(state(grandchild), "cancelled");
  EXPECT_EQ(reason(grandchild), "job " + std::to_string(strict) + ", on which it depends, was cancelled");
  EXPECT_EQ(state(last), "available");
  EXPECT_EQ(state(lenient), "blocked");
  hand.finish(claimed[0].token);
  EXPECT_EQ(state(lenient), "available");
  EXPECT_EQ(edges(), 0);
  EXPECT_THAT(ids(hand.claim(10)), UnorderedElementsAre(last, lenient));
}

TEST_F(EngineDepends, ARetryIsNoEnd) {
  Hand hand(sql);
  auto const parent = enqueue();
  auto const blocked = child({parent});
  for (std::string const outcome : {"retry", "snooze", "release"}) {
    sql.rows("select promote()");
    auto const claimed = hand.claim(10);
    ASSERT_EQ(claimed.size(), 1U) << outcome;
    hand.finish(claimed[0].token, "1", 0, "[" + move_of(claimed[0], outcome) + "]");
    EXPECT_EQ(state(blocked), "blocked") << outcome;
  }
  hand.finish(hand.claim(10).at(0).token);
  EXPECT_EQ(state(blocked), "available");
}

TEST_F(EngineDepends, EveryOtherEndOfAParent) {
  Hand hand(sql, {.max_attempts = "{1}"});
  auto const cancelled = enqueue();
  auto const after_cancelled = child({cancelled});
  EXPECT_EQ(sql.one("select cancel($1)", cancelled), "cancelled");
  EXPECT_EQ(state(after_cancelled), "cancelled");

  auto const deleted = enqueue();
  auto const after_deleted = child({deleted});
  auto const any_after_deleted = child({deleted}, false);
  EXPECT_TRUE(sql.truth("select delete_job($1)", deleted));
  EXPECT_EQ(state(after_deleted), "cancelled");
  EXPECT_EQ(state(any_after_deleted), "available");
  EXPECT_EQ(sql.one("select cancel($1)", any_after_deleted), "cancelled");

  auto const expired = sql.number("select enqueue('k', expires_in => '1 minute')");
  auto const after_expired = child({expired});
  pass_time();
  EXPECT_EQ(sql.number("select end_late()"), 1);
  EXPECT_EQ(state(after_expired), "cancelled");
  EXPECT_THAT(reason(after_expired), HasSubstr("expired"));

  auto const lost = enqueue();
  auto const after_lost = child({lost});
  ASSERT_THAT(ids(hand.claim(10)), ElementsAre(lost));
  expire(sql, hand.id());
  sql.rows("select reap()");
  EXPECT_EQ(state(lost), "failed");
  EXPECT_EQ(state(after_lost), "cancelled");
  EXPECT_EQ(edges(), 0);
  settle();
}

TEST_F(EngineDepends, AParentThatIsRescuedIsWaitedForOn) {
  Hand first(sql);
  auto const parent = enqueue();
  auto const blocked = child({parent});
  auto const claimed = first.claim(10);
  expire(sql, first.id());
  sql.rows("select reap()");
  EXPECT_EQ(state(parent), "available");
  EXPECT_EQ(state(blocked), "blocked");
  // The dead worker's acknowledgement changes nothing.
  EXPECT_FALSE(first.finish(claimed[0].token).empty());
  EXPECT_EQ(state(blocked), "blocked");
  Hand second(sql);
  second.finish(second.claim(1).at(0).token);
  EXPECT_EQ(state(blocked), "available");
}

TEST_F(EngineDepends, ParentsThatHaveEndedAlready) {
  Hand hand(sql);
  auto const parents = enqueue_some(2);
  auto const claimed = hand.claim(10);
  hand.finish(claimed[0].token, "11", 0, "[" + move_of(claimed[0], "fail") + "]");
  EXPECT_EQ(state(child({parents[1]})), "available");
  auto const strict = child(parents);
  EXPECT_EQ(state(strict), "cancelled");
  EXPECT_THAT(reason(strict), HasSubstr(std::to_string(parents[0])));
  EXPECT_EQ(state(child(parents, false)), "available");
  EXPECT_EQ(edges(), 0);
  // One that is retried later has cancelled its children before; they stay as they are, and can be retried themselves.
  EXPECT_TRUE(sql.truth("select retry($1)", parents[0]));
  EXPECT_EQ(state(strict), "cancelled");
  auto const again = child({parents[0]});
  EXPECT_EQ(state(again), "blocked");
  EXPECT_TRUE(sql.truth("select retry($1)", strict));
  EXPECT_EQ(state(strict), "available");
}

TEST_F(EngineDepends, BlockedJobsAreCancelledDeletedRetriedExpiredAndCounted) {
  Hand hand(sql);
  auto const parent = enqueue();
  auto const one = child({parent});
  auto const two = child({parent});
  auto const three = child({parent});
  auto const four = sql.number("select enqueue('k', depends_on => $1, expires_in => '1 minute')", array({parent}));
  auto const after_one = child({one});
  EXPECT_EQ(sql.one("select string_agg(state || ' ' || jobs, ',' order by state) from counts()"),
            "available 1,blocked 5");
  EXPECT_EQ(sql.one("select state from outcome($1)", one), "blocked");
  EXPECT_EQ(sql.one("select next_due_at is null from status()"), "t");
  EXPECT_EQ(sql.one("select cancel($1)", one), "cancelled");
  EXPECT_EQ(state(after_one), "cancelled");
  EXPECT_TRUE(sql.truth("select delete_job($1)", two));
  EXPECT_TRUE(sql.truth("select retry($1)", three));
  EXPECT_EQ(state(three), "available");
  pass_time();
  EXPECT_EQ(sql.number("select end_late()"), 1);
  EXPECT_EQ(state(four), "expired");
  EXPECT_EQ(edges(), 0);
  auto const claimed = hand.claim(10);
  EXPECT_THAT(ids(claimed), UnorderedElementsAre(parent, three));
  for (auto const& job : claimed) hand.finish(job.token);
  EXPECT_THAT(hand.claim(10), IsEmpty());
  settle();
}

TEST_F(EngineDepends, RunAtKeyAndDedupeKeyHoldBeside) {
  Hand hand(sql);
  auto const parent = enqueue();
  auto const later = sql.number("select enqueue('k', depends_on => $1, delay => '1 hour')", array({parent}));
  auto const keyed = sql.number("select enqueue('k', depends_on => $1, key => 'a')", array({parent}));
  auto const named = sql.number("select enqueue('k', '1', depends_on => $1, dedupe_key => 'd')", array({parent}));
  EXPECT_EQ(sql.one("select run_at > now() + interval '59 minutes' from jobs where id = $1", later), "t");
  EXPECT_EQ(sql.number("select enqueue('k', dedupe_key => 'd')"), named);
  EXPECT_EQ(sql.one("select status from enqueue_outcome('k', '2', dedupe_key => 'd', on_duplicate => 'replace')"),
            "replaced");
  EXPECT_EQ(sql.one("select status from enqueue_outcome('k', dedupe_key => 'd', on_duplicate => 'reschedule', delay => "
                    "'2 hours')"),
            "rescheduled");
  EXPECT_EQ(state(named), "blocked");
  hand.finish(hand.claim(10).at(0).token);
  EXPECT_EQ(state(later), "scheduled");
  EXPECT_EQ(state(named), "scheduled");
  EXPECT_EQ(sql.one("select payload::text || (run_at > now() + interval '119 minutes') from jobs where id = $1", named),
            "2true");
  EXPECT_THAT(ids(hand.claim(10)), ElementsAre(keyed));
}

TEST_F(EngineDepends, ManyAtOnceNameEarlierElements) {
  Hand hand(sql);
  auto const before = enqueue();
  auto const made = numbers(sql.column(
      "select unnest(enqueue_many(jsonb_build_array('{\"kind\": \"k\"}'::jsonb, jsonb_build_object('kind', 'k', "
      "'depends_on', "
      "array[$1::bigint], 'depends_on_elements', array[0]), '{\"kind\": \"k\", \"depends_on_elements\": [1], "
      "\"depends_on_all_ok\": false, \"headers\": {\"a\": \"b\"}}'::jsonb)))",
      before));
  ASSERT_EQ(made.size(), 3U);
  EXPECT_EQ(waits_for(made[1]), array({before, made[0]}));
  EXPECT_EQ(waits_for(made[2]), array({made[1]}));
  EXPECT_EQ(sql.one("select headers ->> 'a' from jobs where id = $1", made[2]), "b");
  auto const claimed = hand.claim(10);
  EXPECT_THAT(ids(claimed), ElementsAre(before, made[0]));
  hand.finish(claimed[0].token);
  auto const next = hand.claim(10);
  ASSERT_THAT(ids(next), ElementsAre(made[1]));
  fail(hand, next[0]);
  EXPECT_THAT(ids(hand.claim(10)), ElementsAre(made[2]));
}

TEST_F(EngineDepends, WhatIsRefused) {
  auto const refused = [&](std::string const& statement, std::string const& words) {
    EXPECT_THAT(refusal_of(statement), HasSubstr(words)) << statement;
  };
  refused("select enqueue('k', depends_on => array[123456789::bigint])", "22023");
  refused("select enqueue('k', depends_on => array[0::bigint])", "is not known");
  refused("select enqueue('k', depends_on => array[null::bigint])", "22004");
  refused("select enqueue('k', depends_on => array(select generate_series(1, 1001)::bigint))", "54000");
  refused("select enqueue('k', depends_on_all_ok => false)", "without depends_on");
  refused("select enqueue_bytes('k', 'x', depends_on => array[123456789::bigint])", "is not known");
  refused("select enqueue_many('[{\"kind\": \"k\"}, {\"kind\": \"k\", \"depends_on\": [123456789]}]')", "element 1: ");
  refused("select enqueue_many('[{\"kind\": \"k\", \"depends_on\": 1}]')", "element 0: depends_on is 1");
  refused("select enqueue_many('[{\"kind\": \"k\", \"depends_on\": [\"1\"]}]')", "element 0: depends_on is");
  refused("select enqueue_many('[{\"kind\": \"k\", \"depends_on_elements\": [0]}]')", "earlier elements");
  refused("select enqueue_many('[{\"kind\": \"k\"}, {\"kind\": \"k\", \"depends_on_elements\": [-1]}]')", "22023");
  refused("select enqueue_many('[{\"kind\": \"k\"}, {\"kind\": \"k\", \"depends_on_elements\": [0.5]}]')", "22023");
  refused(
      "select enqueue_many('[{\"kind\": \"k\"}, {\"kind\": \"k\", \"depends_on_elements\": [0], \"depends_on_all_ok\": "
      "1}]')",
      "true or false");
  EXPECT_EQ(sql.number("select count(*) from jobs"), 0);
  EXPECT_EQ(state(sql.number("select enqueue('k', depends_on => '{}')")), "available");
}

TEST_F(EngineDepends, OneOfAnotherOpenTransactionIsNotKnown) {
  Sql other = open();
  other.exec("begin");
  auto const hidden = other.number("select enqueue('k')");
  EXPECT_THAT(refusal_of("select enqueue('k', depends_on => array[" + std::to_string(hidden) + "::bigint])"),
              HasSubstr("is not known"));
  // In its own it is.
  auto const blocked = child(other, {hidden});
  other.exec("commit");
  EXPECT_EQ(state(blocked), "blocked");
  EXPECT_EQ(notes(), 0) << "nobody can have ended it before that commit";
  // One that succeeded and whose partition is gone has left nothing but, perhaps, its result.
  Hand hand(sql);
  auto const claimed = hand.claim(1);
  hand.finish(claimed[0].token);
  sql.rows("delete from job where id = $1", hidden);
  EXPECT_THAT(refusal_of("select enqueue('k', depends_on => array[" + std::to_string(hidden) + "::bigint])"),
              HasSubstr("is not known"));
  sql.rows("insert into result (job, value) values ($1, '1')", hidden);
  EXPECT_EQ(state(child({hidden})), "available");
}

}  // namespace
}  // namespace posthouse::test
