// SPDX-License-Identifier: Apache-2.0
// Bells and fences: a producer notifies when somebody sleeps on its lane and only then; no wake-up is missed.
#include <gmock/gmock.h>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

class EngineWake : public EngineTest {
 protected:
  EngineWake() : keeper_(open()), producer_(open()) {
    enqueue();  // the lane is known
    Hand hand(sql);
    hand.finish(hand.claim(1).at(0).token);
    hand.leave();
    keeper_.exec("listen \"" + sql.one("select channel()") + "\"");
  }

  bool hold(std::int64_t lane_id) { return !keeper_.rows("select unnest(bell($1))", array({lane_id})).empty(); }
  /// What has been notified by transactions that have ended by now.
  std::vector<std::string> heard() {
    keeper_.one("select 1");
    std::vector<std::string> messages;
    while (PGnotify* const message = PQnotifies(keeper_.connection())) {
      messages.emplace_back(message->extra);
      PQfreemem(message);
    }
    return messages;
  }
  std::string name() { return std::to_string(lane()); }

  Sql keeper_;
  Sql producer_;
};

TEST_F(EngineWake, NobodySleepsNobodyIsNotified) {
  producer_.exec("select enqueue('k'); select enqueue_bytes('k', 'x'); select enqueue_many('[{\"kind\":\"k\"}]')");
  EXPECT_THAT(heard(), IsEmpty());
  EXPECT_EQ(sql.number("select count(*) from pg_locks where locktype = 'advisory'"), 0)
      << "the try is given straight back";
}

TEST_F(EngineWake, AHeldBellBringsExactlyOneNotificationThatNamesTheLane) {
  ASSERT_TRUE(hold(lane()));
  producer_.exec("select enqueue('k')");
  EXPECT_THAT(heard(), ElementsAre(name()));
  producer_.exec("begin; select enqueue('k'); select enqueue('k'); select enqueue_bytes('k', 'x')");
  EXPECT_THAT(heard(), IsEmpty()) << "not before the commit";
  producer_.exec("commit");
  EXPECT_THAT(heard(), ElementsAre(name()));
  producer_.exec("begin; select enqueue('k'); rollback");
  EXPECT_THAT(heard(), IsEmpty());
  producer_.exec(R"(select enqueue_many('[{"kind":"k"},{"kind":"k"},{"kind":"k","delay":"1h"}]'))");
  EXPECT_THAT(heard(), ElementsAre(name()));
  keeper_.rows("select unbell($1)", array({lane()}));
  producer_.exec("select enqueue('k')");
  EXPECT_THAT(heard(), IsEmpty());
}

TEST_F(EngineWake, OtherLanesStaySilent) {
  enqueue("other");
  heard();
  ASSERT_TRUE(hold(lane()));
  producer_.exec("select enqueue('other')");
  EXPECT_THAT(heard(), Not(Contains(name())));
}

TEST_F(EngineWake, ALaneThatNobodyKnowsIsAnnounced) {
  producer_.exec("select enqueue('brand_new')");
  EXPECT_THAT(heard(), ElementsAre("new"));
  producer_.exec("select enqueue('brand_new')");
  EXPECT_THAT(heard(), IsEmpty()) << "once is enough";
}

TEST_F(EngineWake, ABellHasOneHolderAndVanishesWithItsSession) {
  ASSERT_TRUE(hold(lane()));
  auto second = open();
  EXPECT_THAT(second.rows("select unnest(bell($1))", array({lane()})), IsEmpty());
  EXPECT_TRUE(keeper_.truth("select keep('profile')"));
  EXPECT_FALSE(second.truth("select keep('profile')"));
  EXPECT_TRUE(second.truth("select keep('another')"));
  keeper_.close();
  EXPECT_TRUE(eventually([&] { return second.truth("select keep('profile')"); }));
  EXPECT_TRUE(eventually([&] { return !second.rows("select unnest(bell($1))", array({lane()})).empty(); }));
}

TEST_F(EngineWake, PeersServeTheSameAndAreAlive) {
  auto const like_us = [this](char const* kinds, char const* queues) {
    return keeper_.number(std::string("select register_worker('w', 'h', 1, 'v', '") + queues + "', '" + kinds +
                          "', 30000, 1)");
  };
  auto const first = like_us("{k}", "{}");
  auto const second = like_us("{k}", "{}");
  like_us("{k,other}", "{}");
  like_us("{k}", "{q}");
  auto const peers = [&] { return keeper_.number("select peers($1)", first); };
  EXPECT_EQ(peers(), 2);
  keeper_.exec("select leave(" + std::to_string(second) + ")");
  EXPECT_EQ(peers(), 1);
  EXPECT_EQ(keeper_.number("select peers(0)"), 0);
}

// The tries of producers are shared: two at once do not take each other for a sleeper.
TEST_F(EngineWake, ProducersDoNotWakeForEachOther) {
  auto holder = open();
  holder.rows("select pg_try_advisory_lock_shared(key_space(), (hashint8($1::bigint) & -4) | 2)", lane());
  producer_.exec("select enqueue('k')");
  EXPECT_THAT(heard(), IsEmpty());
}

TEST_F(EngineWake, WakeOffSilencesAndLetsPrepare) {
  ASSERT_TRUE(hold(lane()));
  producer_.exec("begin; select enqueue('k')");
  EXPECT_EQ(producer_.sqlstate_of("prepare transaction '" + database.name() + "'"), "0A000") << "NOTIFY forbids it";
  producer_.exec("rollback; set posthouse.wake = off; select enqueue('k'); select enqueue('unheard_of')");
  EXPECT_THAT(heard(), IsEmpty());
  producer_.exec("begin; select enqueue('k'); select enqueue('unheard_of2'); prepare transaction '" + database.name() +
                 "'");
  producer_.exec("commit prepared '" + database.name() + "'");
  EXPECT_THAT(heard(), IsEmpty());
  producer_.exec("reset posthouse.wake; select enqueue('k')");
  EXPECT_THAT(heard(), ElementsAre(name()));
}

// Which of them was the keeper the database cannot know; a worker that leaves knows, and calls itself.
TEST_F(EngineWake, AWorkerThatIsLostCallsForAKeeperAndOneThatLeavesDoesNot) {
  Hand first(sql);
  Hand second(sql);
  heard();
  first.leave();
  EXPECT_THAT(heard(), IsEmpty());
  expire(sql, second.id());
  sql.rows("select reap()");
  EXPECT_THAT(heard(), ElementsAre("keep"));
}

TEST_F(EngineWake, EveryWayIntoALaneRings) {
  Hand worker(sql);
  enqueue_some(2);
  auto const got = worker.claim(2);
  auto const twin = sql.number("select express_of($1)", lane());
  worker.claim(1);  // folds the twin
  ASSERT_TRUE(hold(twin));
  heard();
  auto const rung = [&] {
    auto words = heard();
    std::erase(words, "keep");  // a worker that is lost calls for a keeper as well
    EXPECT_THAT(words, ElementsAre(std::to_string(twin)));
  };
  worker.finish(got.at(0).token, "10", 2, "[" + move_of(got.at(0), "release") + "]");
  rung();
  worker.give_back({got.at(0).token});
  rung();
  sql.exec("select retry(enqueue('k', delay => '1 hour'))");
  rung();
  sql.exec("begin; select enqueue('k', delay => '1 hour'); update deferred set due_at = now(); commit");
  heard();
  sql.exec("select promote()");
  rung();
  worker.claim(100, 1);
  expire(sql, worker.id());
  sql.exec("select reap()");
  rung();
}

// A producer that was open when the bell was put on may have seen nobody. The fence passes when it has ended.
TEST_F(EngineWake, AProducerThatWasOpenBeforeTheBellIsCoveredByTheFence) {
  producer_.exec("begin");
  auto const job = producer_.number("select enqueue('k')");
  // Its id is above every snapshot's xmax: no snapshot lists it.
  ASSERT_TRUE(sql.truth("select $1::xid8 >= pg_snapshot_xmax(pg_current_snapshot())",
                        producer_.one("select pg_current_xact_id()")));
  ASSERT_TRUE(hold(lane()));
  auto const fence = keeper_.one("select fence()");
  Hand worker(sql);
  EXPECT_THAT(worker.claim(10), IsEmpty());
  EXPECT_FALSE(keeper_.truth("select fence_passed($1)", fence));
  auto later = open();
  later.exec("begin; select pg_current_xact_id()");  // a younger one does not keep the fence
  EXPECT_FALSE(keeper_.truth("select fence_passed($1)", fence));
  producer_.exec("commit");
  EXPECT_THAT(heard(), IsEmpty()) << "indeed nobody was notified";
  EXPECT_TRUE(keeper_.truth("select fence_passed($1)", fence));
  EXPECT_THAT(ids(worker.claim(10)), ElementsAre(job)) << "the look after the fence finds it";
}

TEST_F(EngineWake, APreparedTransactionKeepsTheFence) {
  producer_.exec("begin; select enqueue('k'); prepare transaction '" + database.name() + "'");
  ASSERT_TRUE(hold(lane()));
  auto const fence = keeper_.one("select fence()");
  EXPECT_FALSE(keeper_.truth("select fence_passed($1)", fence));
  producer_.exec("rollback prepared '" + database.name() + "'");
  EXPECT_TRUE(keeper_.truth("select fence_passed($1)", fence));
}

TEST_F(EngineWake, AFullWorkerWakesOneOtherByName) {
  Hand full(sql);
  Hand idle(sql);
  Hand other_kind(sql, {.kinds = "{else}"});
  idle.beat();
  enqueue_some(100);
  std::vector<std::string> all;
  for (int i = 0; i < 8; ++i) {
    full.claim(2);
    for (auto& message : heard()) all.push_back(message);
  }
  EXPECT_THAT(all, Not(IsEmpty()));
  EXPECT_THAT(all, Each("w" + std::to_string(idle.id())));
}

}  // namespace
}  // namespace posthouse::test
