// SPDX-License-Identifier: Apache-2.0
// Dependencies with two sessions: none is forgotten when the end of one job and the enqueue of another that waits for it
// do not see each other. And much at once, what the leader does, what becomes of the mark.
#include <gmock/gmock.h>

#include "integration/depends_fixture.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;

using EngineDependsRace = EngineDepends;

TEST_F(EngineDependsRace, TheParentEndsWhileTheEnqueueIsOpen) {
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

TEST_F(EngineDependsRace, TheEndIsOpenWhileTheChildIsEnqueued) {
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

TEST_F(EngineDependsRace, CompletedInTheHandlersTransaction) {
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

TEST_F(EngineDependsRace, TwoParentsEndAtTheSameMoment) {
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

TEST_F(EngineDependsRace, AnOperatorsOpenTransactionStopsNobody) {
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

TEST_F(EngineDependsRace, TenThousandChildrenAreReleasedInGroups) {
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

TEST_F(EngineDependsRace, AChainOfManyIsCancelledWithoutRecursion) {
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

TEST_F(EngineDependsRace, TheMarkGoesWhenNobodyWaits) {
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

TEST_F(EngineDependsRace, OneThatWasMissedIsFoundByPrune) {
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

TEST_F(EngineDependsRace, AdoptedBlockedJobsWaitOn) {
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
