// SPDX-License-Identifier: Apache-2.0
// A producer's commit never fails because the queue of notifications is full: from a quarter on nothing is notified, and
// polling finds the jobs.
//
// The server's queue holds 8 GB, so the quick tests put may_notify() into the state that a filling queue brings about;
// the long one (POSTHOUSE_TEST_LONG) fills a quarter of a real one.
#include <gmock/gmock.h>

#include <cstdlib>

#include "integration/worker_fixture.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class EngineNotify : public WorkerTest {
 protected:
  EngineNotify() : listener_(open()) {
    enqueue();
    Hand hand(sql);
    hand.finish(hand.claim(1).at(0).token);
    hand.leave();
    listener_.exec("listen \"" + sql.one("select channel()") + "\"");
  }
  /// From now on may_notify() decides as if the queue were so full.
  void use(std::string const& usage) {
    auto text = original_;
    std::string const asks = "pg_notification_queue_usage()";
    auto const at = text.find(asks);
    ASSERT_NE(at, std::string::npos) << text;
    sql.exec(text.replace(at, asks.size(), usage + "::float8"));
  }
  std::vector<std::string> heard() {
    listener_.one("select 1");
    std::vector<std::string> messages;
    while (PGnotify* const message = PQnotifies(listener_.connection())) {
      messages.emplace_back(message->extra);
      PQfreemem(message);
    }
    return messages;
  }

  Sql listener_;
  std::string const original_ = sql.one("select pg_get_functiondef('posthouse.may_notify()'::regprocedure)");
};

TEST_F(EngineNotify, NothingIsNotifiedWhileTheQueueIsMoreThanAQuarterFull) {
  ASSERT_FALSE(listener_.rows("select unnest(bell($1))", array({lane()})).empty());
  auto const ways = [&] {
    sql.exec("select enqueue('k')");
    sql.exec("select enqueue_bytes('k', 'x')");
    sql.exec("select enqueue_many('[{\"kind\":\"k\"}]')");
    return heard();
  };
  use("0.25");
  EXPECT_THAT(ways(), ElementsAre(std::to_string(lane()), std::to_string(lane()), std::to_string(lane())));
  use("0.26");
  EXPECT_THAT(ways(), IsEmpty());
  sql.exec("select enqueue('unheard_of')");
  EXPECT_THAT(heard(), IsEmpty()) << "a new lane is found by looking";
  use("0.1");
  EXPECT_EQ(ways().size(), 3U);
}

TEST_F(EngineNotify, WhoWaitsForAJobIsNotToldEither) {
  auto const first = enqueue();
  auto const second = enqueue();
  auto const third = enqueue();
  auto waiter = open();
  waiter.exec("listen \"" + waiter.one("select watch_jobs($1)", array({first, second, third})) + "\"");
  Hand hand(sql);
  auto const told = [&] {
    waiter.one("select 1");
    int n = 0;
    while (PGnotify* const message = PQnotifies(waiter.connection())) {
      ++n;
      PQfreemem(message);
    }
    return n;
  };
  hand.finish(hand.claim(1).at(0).token);
  EXPECT_EQ(told(), 1);
  use("0.9");
  hand.finish(hand.claim(1).at(0).token);
  sql.rows("select cancel($1)", third);
  EXPECT_EQ(told(), 0);
}

TEST_F(EngineNotify, AnIdleWorkerFindsTheJobAllTheSame) {
  use("0.9");
  std::atomic<int> ran{0};
  Worker worker(quick());
  worker.on("k", [&](Job const&) { ++ran; });
  worker.start();
  ASSERT_TRUE(eventually([&] {
    return sql.number("select count(*) from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock'") > 0;
  })) << "it sleeps";
  enqueue();
  EXPECT_TRUE(eventually([&] { return ran == 1; }));
  worker.stop();
}

TEST(EngineNotifyLong, AFilledQueueFailsNobodysCommit) {
  if (std::getenv("POSTHOUSE_TEST_LONG") == nullptr)
    GTEST_SKIP() << "writes 2 GB, by itself: POSTHOUSE_TEST_LONG=1 scripts/test --filter 'EngineNotifyLong.*'";
  TestServer server(TestServer::durable);
  TestDatabase const database("posthouse", server);
  auto sql = engine_session(database.url());
  auto const channel = sql.one("select channel()");
  sql.number("select enqueue('k')");
  Hand hand(sql);
  hand.finish(hand.claim(1).at(0).token);
  auto idle = engine_session(database.url());  // a listener that reads nothing keeps all that comes
  idle.exec("listen \"" + channel + "\"");
  idle.exec("begin; select 1");
  auto keeper = engine_session(database.url());
  auto const lane = sql.number("select lane_of('default', 'k', 0, false)");
  ASSERT_FALSE(keeper.rows("select unnest(bell($1))", array({lane})).empty());
  keeper.exec("listen \"" + channel + "\"");
  auto const rings = [&] {
    keeper.one("select 1");
    while (PGnotify* const message = PQnotifies(keeper.connection())) PQfreemem(message);
    sql.number("select enqueue('k')");
    keeper.one("select 1");
    int n = 0;
    while (PGnotify* const message = PQnotifies(keeper.connection())) {
      ++n;
      PQfreemem(message);
    }
    return n;
  };
  EXPECT_EQ(rings(), 1);
  auto filler = engine_session(database.url());
  while (!sql.truth("select pg_notification_queue_usage() > 0.25")) {
    filler.exec("select count(pg_notify('elsewhere', i || repeat('x', 7900))) from generate_series(1, 5000) i");
  }
  EXPECT_EQ(rings(), 0);
  auto const got = hand.claim(10);
  EXPECT_EQ(got.size(), 2U) << "and looking finds both";
  idle.exec("commit");
  EXPECT_TRUE(eventually([&] {
    filler.exec("notify elsewhere");
    idle.one("select 1");
    return rings() == 1;
  })) << "with the queue empty again it rings again";
}

}  // namespace
}  // namespace posthouse::test
