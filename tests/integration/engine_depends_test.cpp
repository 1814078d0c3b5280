// SPDX-License-Identifier: Apache-2.0
// Jobs that wait for other jobs: when they are released or cancelled, and that none is forgotten when the end of one
// job and the enqueue of another that waits for it do not see each other.
#include <gmock/gmock.h>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class EngineDepends : public EngineTest {
 protected:
  std::int64_t child(Ids const& parents, bool all_ok = true) { return child(sql, parents, all_ok); }
  static std::int64_t child(Sql& session, Ids const& parents, bool all_ok = true) {
    return session.number("select enqueue('k', depends_on => $1, depends_on_all_ok => $2)", array(parents), all_ok);
  }
  std::string waits_for(std::int64_t id) {
    return sql.one("select coalesce(waits_for::text, 'null') from jobs where id = $1", id);
  }
  std::string reason(std::int64_t id) { return sql.one("select last_error from jobs where id = $1", id); }
  std::int64_t tend(Sql& session) { return session.number("select tend_children()"); }
  std::int64_t edges() { return sql.number("select count(*) from dependency"); }
  std::int64_t notes() { return sql.number("select count(*) from dependency_check"); }
  /// An hour passes for what expires.
  void pass_time() {
    for (std::string const table : {"job", "deferred"}) {
      sql.exec("update " + table +
               " set options = options || jsonb_build_object('expires_at', utc_text((options ->> "
               "'expires_at')::timestamptz - interval '1 hour')) where options ? 'expires_at'");
    }
    sql.exec("update expiry set at = at - interval '1 hour'");
  }
  /// Rounds until the transactions of other tests are over that the leader waits for.
  void settle() {
    EXPECT_TRUE(eventually([&] {
      tend(sql);
      return notes() == 0;
    }));
  }
  static void fail(Hand& hand, Claimed const& job) { hand.finish(job.token, "1", 0, "[" + move_of(job, "fail") + "]"); }
};

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

// The hard races: neither sees the other.

TEST_F(EngineDepends, TheParentEndsWhileTheEnqueueIsOpen) {
  Hand hand(sql);
  for (bool const ok : {true, false}) {
    auto const parent = enqueue();
    auto const claimed = hand.claim(1);
    Sql producer = open();
    producer.exec("begin");
    auto const blocked = child(producer, {parent});
    if (ok) {
      hand.finish(claimed[0].token);
    } else {
      fail(hand, claimed[0]);
    }
    EXPECT_EQ(tend(sql), 0) << "it is not there yet";
    producer.exec("commit");
    EXPECT_EQ(state(blocked), "blocked");
    EXPECT_EQ(tend(sql), 1);
    EXPECT_EQ(state(blocked), ok ? "available" : "cancelled");
    EXPECT_EQ(edges() + notes(), 0);
    if (ok) hand.finish(hand.claim(1).at(0).token);
  }
}

TEST_F(EngineDepends, TheEndIsOpenWhileTheChildIsEnqueued) {
  // By an acknowledgement, and by a handler's own transaction, which may stay open for long.
  for (bool const by_handler : {false, true}) {
    Sql worker = open();
    Hand hand(worker);
    auto const parent = enqueue();
    auto const claimed = hand.claim(1);
    worker.exec("begin");
    if (by_handler) {
      EXPECT_TRUE(hand.complete(worker, claimed[0]));
    } else {
      hand.finish(claimed[0].token);
    }
    auto const blocked = child({parent});
    EXPECT_EQ(state(blocked), "blocked");
    EXPECT_EQ(tend(sql), 0);
    EXPECT_EQ(tend(sql), 0);
    EXPECT_EQ(notes(), 1) << "the leader cannot let it go before that transaction is over";
    worker.exec("commit");
    settle();
    EXPECT_EQ(state(blocked), "available");
    EXPECT_EQ(edges(), 0);
    EXPECT_EQ(sql.one("select cancel($1)", blocked), "cancelled");
    hand.leave();
  }
}

TEST_F(EngineDepends, CompletedInTheHandlersTransaction) {
  Sql handler = open();
  Hand hand(sql);
  auto const parent = enqueue();
  auto const blocked = child({parent});
  auto const claimed = hand.claim(1);
  for (std::string const level : {"read committed", "repeatable read"}) {
    handler.exec("begin isolation level " + level);
    EXPECT_TRUE(hand.complete(handler, claimed[0]));
    EXPECT_EQ(state(blocked), "blocked");
    handler.exec("rollback");
  }
  handler.exec("begin");
  EXPECT_TRUE(hand.complete(handler, claimed[0]));
  handler.exec("commit");
  EXPECT_EQ(state(blocked), "available");
  hand.finish(claimed[0].token);
  EXPECT_THAT(ids(hand.claim(10)), ElementsAre(blocked));
  // With a snapshot of its own the leader does it, also when the worker is lost before it reports.
  auto const second = enqueue();
  handler.exec("begin isolation level repeatable read");
  handler.rows("select 1 from meta");
  auto const after = child({second});
  auto const job = hand.claim(1);
  handler.exec("rollback; begin isolation level repeatable read");
  EXPECT_TRUE(hand.complete(handler, job.at(0)));
  handler.exec("commit");
  expire(sql, hand.id());
  sql.rows("select reap()");
  EXPECT_EQ(tend(sql), 1);
  EXPECT_EQ(state(after), "available");
}

TEST_F(EngineDepends, TwoParentsEndAtTheSameMoment) {
  for (bool const first_commits : {true, false}) {
    Sql one = open();
    Sql two = open();
    Hand a(one);
    Hand b(two);
    auto const parents = enqueue_some(2);
    auto const blocked = child(parents);
    auto const of_a = a.claim(1);
    auto const of_b = b.claim(1);
    one.exec("begin");
    a.finish(of_a[0].token);
    // It waits for the other for 200 ms, then leaves the child to the leader.
    b.finish(of_b[0].token);
    EXPECT_EQ(state(blocked), "blocked");
    tend(sql);
    EXPECT_EQ(state(blocked), "blocked");
    one.exec(first_commits ? "commit" : "rollback");
    tend(sql);
    EXPECT_EQ(state(blocked), first_commits ? "available" : "blocked");
    if (!first_commits) {
      a.finish(of_a[0].token);
      EXPECT_EQ(state(blocked), "available");
    }
    EXPECT_EQ(sql.number("select count(*) from job where id = $1", blocked), 1);
    EXPECT_EQ(edges(), 0);
    EXPECT_EQ(sql.one("select cancel($1)", blocked), "cancelled");
    a.leave();
    b.leave();
    settle();
  }
}

TEST_F(EngineDepends, AnOperatorsOpenTransactionStopsNobody) {
  Hand hand(sql);
  auto const parents = enqueue_some(1);
  auto const held = child(parents);
  auto const free = child(parents);
  Sql operator_session = open();
  operator_session.exec("begin");
  EXPECT_EQ(operator_session.one("select cancel($1)", held), "cancelled");
  hand.finish(hand.claim(1).at(0).token);
  EXPECT_EQ(state(free), "available");
  EXPECT_EQ(state(held), "blocked");
  operator_session.exec("rollback");
  EXPECT_EQ(tend(sql), 1);
  EXPECT_EQ(state(held), "available");
}

TEST_F(EngineDepends, TenThousandChildrenAreReleasedInGroups) {
  Hand hand(sql);
  auto const parent = enqueue();
  sql.rows(
      "select enqueue_many((select jsonb_agg(jsonb_build_object('kind', 'k', 'depends_on', array[$1::bigint])) from "
      "generate_series(1, 10000)))",
      parent);
  settle();
  hand.finish(hand.claim(1).at(0).token);
  EXPECT_EQ(edges(), 9000);
  // What the ending transaction has said holds whatever becomes of the parent's rows.
  sql.rows("delete from job where id = $1", parent);
  while (edges() > 0) ASSERT_GT(tend(sql), 0);
  EXPECT_EQ(notes(), 0);
  std::size_t got = 0;
  for (auto jobs = hand.claim(2000); !jobs.empty(); jobs = hand.claim(2000)) got += jobs.size();
  EXPECT_EQ(got, 10000U);
}

TEST_F(EngineDepends, AChainOfManyIsCancelledWithoutRecursion) {
  Hand hand(sql);
  auto const first = enqueue();
  sql.exec("create temporary table chain as select " + std::to_string(first) +
           "::bigint as id; do $$ begin for i in 1..2000 loop insert into chain select enqueue('k', depends_on => "
           "array[max(c.id)]) from chain c; end loop; end $$");
  fail(hand, hand.claim(1).at(0));
  while (edges() > 0) ASSERT_GT(tend(sql), 0);
  EXPECT_EQ(sql.one("select string_agg(state || ' ' || jobs, ',' order by state) from counts()"),
            "cancelled 2000,failed 1");
}

TEST_F(EngineDepends, TheMarkGoesWhenNobodyWaits) {
  Hand hand(sql);
  EXPECT_FALSE(sql.truth("select has_dependents()"));
  auto const parent = enqueue();
  Sql producer = open();
  producer.exec("begin");
  auto const blocked = child(producer, {parent});
  EXPECT_TRUE(sql.truth("select has_dependents()")) << "seen before the commit";
  sql.rows("select prune()");
  EXPECT_TRUE(sql.truth("select has_dependents()")) << "somebody is just about to wait";
  producer.exec("commit");
  settle();
  sql.rows("select prune()");
  EXPECT_TRUE(sql.truth("select has_dependents()"));
  hand.finish(hand.claim(1).at(0).token);
  EXPECT_EQ(state(blocked), "available");
  sql.rows("select prune()");
  EXPECT_FALSE(sql.truth("select has_dependents()"));
  auto const claimed = hand.claim(1);
  auto const again = child({blocked});
  EXPECT_TRUE(sql.truth("select has_dependents()"));
  hand.finish(claimed.at(0).token);
  EXPECT_EQ(state(again), "available");
}

TEST_F(EngineDepends, OneThatWasMissedIsFoundByPrune) {
  Hand hand(sql);
  auto const parent = enqueue();
  auto const blocked = child({parent});
  settle();
  auto const claimed = hand.claim(1);
  // As nothing of ours would leave it: the end was not noticed.
  sql.rows("update batch set closed_at = now() where token = $1", claimed[0].token);
  EXPECT_EQ(tend(sql), 0);
  sql.rows("select prune()");
  EXPECT_EQ(tend(sql), 1);
  EXPECT_EQ(state(blocked), "available");
}

TEST_F(EngineDepends, AdoptedBlockedJobsWaitOn) {
  Hand hand(sql);
  auto const parent = enqueue();
  auto const blocked = child({parent});
  tend(sql);
  sql.rows("select adopt()");
  EXPECT_EQ(state(blocked), "blocked");
  settle();
  sql.rows("select promote()");
  Hand other(sql);
  other.finish(other.claim(1).at(0).token);
  EXPECT_EQ(state(blocked), "available");
}

}  // namespace
}  // namespace posthouse::test
