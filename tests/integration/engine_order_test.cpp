// SPDX-License-Identifier: Apache-2.0
// Which lanes a claim takes from, in which order, and how much: priorities, turns, express lanes, locked lanes.
#include <gmock/gmock.h>

#include <map>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::Ge;
using ::testing::IsEmpty;
using ::testing::Le;
using ::testing::SizeIs;

class EngineOrder : public EngineTest {
 protected:
  /// Makes n jobs of the lane and moves them to its express twin.
  void fill_express(int n, std::string const& kind = "k") {
    sql.rows("select retry(enqueue($1, delay => '1 hour')) from generate_series(1, $2)", kind, n);
  }
  std::map<std::int64_t, int> by_lane(std::vector<Claimed> const& jobs) {
    std::map<std::int64_t, int> count;
    for (auto const& job : jobs) ++count[job.lane];
    return count;
  }
};

TEST_F(EngineOrder, HigherPriorityFirst) {
  Ids jobs;
  for (int const priority : {0, 5, -3, 2147483647, -2147483647}) {
    jobs.push_back(sql.number("select enqueue('k', priority => $1)", priority));
  }
  Hand worker(sql);
  EXPECT_THAT(ids(worker.claim(2)), ElementsAre(jobs.at(3), jobs.at(1)));
  EXPECT_THAT(ids(worker.claim(10)), ElementsAre(jobs.at(0), jobs.at(2), jobs.at(4)));
}

TEST_F(EngineOrder, QueuePriorityBeforeJobPriority) {
  sql.exec("insert into queue (queue, priority) values ('fast', 1), ('slow', -1)");
  auto const slow = sql.number("select enqueue('k', queue => 'slow', priority => 100)");
  auto const plain = sql.number("select enqueue('k', priority => 50)");
  auto const fast = sql.number("select enqueue('k', queue => 'fast', priority => -100)");
  Hand worker(sql);
  EXPECT_THAT(ids(worker.claim(10)), ElementsAre(fast, plain, slow));
}

TEST_F(EngineOrder, APausedQueueIsLeftAloneUntilItIsResumed) {
  auto const job = enqueue();
  sql.exec("select pause_queue('default')");
  Hand worker(sql);
  EXPECT_THAT(worker.claim(10), IsEmpty());
  EXPECT_THAT(worker.claim(10, 10, array({lane()})), IsEmpty()) << "nor when the lane is named";
  sql.exec("select resume_queue('default')");
  EXPECT_THAT(ids(worker.claim(10)), ElementsAre(job));
}

TEST_F(EngineOrder, OnlyItsKindsAndQueues) {
  auto const other_kind = enqueue("other");
  auto const mine = sql.number("select enqueue('k', queue => 'mail')");
  auto const other_queue = enqueue("k");
  Hand worker(sql, {.kinds = "{k}", .queues = "{mail}"});
  EXPECT_THAT(ids(worker.claim(10)), ElementsAre(mine));
  EXPECT_THAT(worker.claim(10, 10, array({lane("other"), lane("k")})), IsEmpty());
  EXPECT_EQ(state(other_kind), "available");
  EXPECT_EQ(state(other_queue), "available");
}

// One busy kind never starves another of the same priority.
TEST_F(EngineOrder, KindsOfOnePriorityTakeTurns) {
  for (char const* kind : {"a", "b", "c"}) enqueue_some(200, kind);
  Hand worker(sql, {.kinds = "{a,b,c}"});
  std::map<std::int64_t, int> count;
  for (int i = 0; i < 120; ++i) {
    for (auto const& [id, n] : by_lane(worker.claim(1))) count[id] += n;
  }
  ASSERT_THAT(count, SizeIs(3));
  for (auto const& [id, n] : count) EXPECT_THAT(n, AllOf(Ge(15), Le(80))) << id;
}

// Stated bound: while its normal twin has work, an express lane gets at most three of four claimed jobs.
class EngineExpress : public EngineOrder, public ::testing::WithParamInterface<int> {};

TEST_P(EngineExpress, GetsAtMostThreeOfFourWhileItsTwinHasWork) {
  int const n = GetParam();
  int const claims = std::max(16, 80 / n) / 4 * 4;
  enqueue_some(n * claims);
  fill_express(n * claims);
  Hand worker(sql);
  std::map<std::int64_t, int> count;
  for (int i = 0; i < claims; ++i) {
    auto const got = worker.claim(n);
    ASSERT_EQ(got.size(), static_cast<std::size_t>(n));
    for (auto const& [id, m] : by_lane(got)) count[id] += m;
    EXPECT_LE(by_lane(got)[lane("k", 0, true)], n < 4 ? n : n * 3 / 4) << "in each single claim";
  }
  EXPECT_LE(count[lane("k", 0, true)], n * claims * 3 / 4);
  EXPECT_GE(count[lane("k", 0, true)], n * claims * 2 / 5) << "yet they come first";
}

INSTANTIATE_TEST_SUITE_P(Sizes, EngineExpress, ::testing::Values(1, 2, 3, 4, 5, 10, 40));

TEST_F(EngineOrder, AnExpressLaneGetsAllWhenItsTwinIsEmpty) {
  fill_express(20);
  Hand worker(sql);
  EXPECT_THAT(worker.claim(20), SizeIs(20));
}

TEST_F(EngineOrder, ManyExpressLanesTogetherStarveNoNormalOne) {
  for (char const* kind : {"a", "b", "c"}) {
    enqueue_some(100, kind);
    fill_express(200, kind);
  }
  Hand worker(sql, {.kinds = "{a,b,c}"});
  int normal = 0;
  int all = 0;
  for (int i = 0; i < 16; ++i) {
    for (auto const& [id, n] : by_lane(worker.claim(20))) {
      all += n;
      if (sql.truth("select not express from lane where lane = $1", id)) normal += n;
    }
  }
  EXPECT_EQ(all, 16 * 20);
  EXPECT_GE(normal, all / 4);
}

TEST_F(EngineOrder, InALaneByTransactionThenId) {
  Ids jobs;
  for (int i = 0; i < 5; ++i) {
    for (auto const id : enqueue_some(3)) jobs.push_back(id);
  }
  Hand worker(sql);
  EXPECT_THAT(ids(worker.claim(7)), ElementsAreArray(Ids(jobs.begin(), jobs.begin() + 7)));
  EXPECT_THAT(ids(worker.claim(100)), ElementsAreArray(Ids(jobs.begin() + 7, jobs.end())));
}

TEST_F(EngineOrder, AtMostSixteenLanesAClaim) {
  for (int i = 0; i < 20; ++i) sql.rows("select enqueue('k', priority => $1)", i);
  Hand worker(sql);
  auto const got = worker.claim(100);
  EXPECT_THAT(got, SizeIs(16));
  Ids tokens;
  for (auto const& job : got) tokens.push_back(job.token - got.at(0).token);
  EXPECT_THAT(tokens, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  EXPECT_THAT(worker.claim(100), SizeIs(4));
}

TEST_F(EngineOrder, StartsAreSpreadOverTheBatchesInOrder) {
  sql.rows("select enqueue('k', priority => p) from generate_series(1, 3) p, generate_series(1, 2)");
  Hand worker(sql);
  worker.claim(6, 3);
  EXPECT_THAT(sql.column("select started_to || '/' || n from batch order by token"), ElementsAre("2/2", "1/2", "0/2"));
}

// Batches of large payloads are cut by size, so that a claim fits into the worker's memory.
TEST_F(EngineOrder, ABatchHoldsAtMostSixteenMegabytes) {
  sql.rows(
      "select enqueue_bytes('k', convert_to(string_agg(md5(random()::text), ''), 'UTF8')) from generate_series(1, 20) "
      "j, "
      "generate_series(1, 31000) group by j");
  Hand worker(sql);
  auto const got = worker.claim(100);
  EXPECT_THAT(got, AllOf(SizeIs(Ge(16U)), SizeIs(Le(17U))));
  EXPECT_EQ(got.size() + worker.claim(100).size(), 20U);
}

// -- lanes that another claimer holds --------------------------------------------------------------------------------

TEST_F(EngineOrder, ALockedLaneIsPassedOver) {
  auto const best = sql.number("select enqueue('k', priority => 9)");
  auto const next = enqueue();
  auto session = open();
  session.exec("begin; select pg_advisory_xact_lock(key_space(), hashint8(lane_of('default', 'k', 9, false)) & -4)");
  sql.exec("set lock_timeout = '1ms'");
  Hand worker(sql);
  EXPECT_THAT(ids(worker.claim(10)), ElementsAre(next));
  session.exec("rollback");
  EXPECT_THAT(ids(worker.claim(10)), ElementsAre(best));
}

TEST_F(EngineOrder, TheOnlyLaneIsWaitedFor) {
  auto const job = enqueue();
  auto session = open();
  auto waiting = open();
  Hand worker(waiting);
  session.exec("begin; select pg_advisory_xact_lock(key_space(), hashint8(lane_of('default', 'k', 0, false)) & -4)");
  auto answer = std::async(std::launch::async, [&] { return ids(worker.claim(10)); });
  ASSERT_TRUE(waits_for_lock(sql, waiting.backend_pid()));
  session.exec("rollback");
  EXPECT_THAT(answer.get(), ElementsAre(job));
}

// The lock of a lane may be held by a user's open transaction, which called cancel: the acks of the same call must not
// hang with the claim.
TEST_F(EngineOrder, AnOpenTransactionWithCancelDelaysAClaimByASecondAtMost) {
  auto const jobs = enqueue_some(2);
  Hand worker(sql);
  auto const got = worker.claim(1);
  auto session = open();
  session.exec("begin");
  ASSERT_EQ(session.one("select cancel($1)", jobs.at(1)), "cancelled");
  auto const start = std::chrono::steady_clock::now();
  EXPECT_THAT(sql.rows("select * from finish_and_claim($1, $2, '{null}', '{0}', null, $3, $4, 5, 5)", worker.id(),
                       array({got.at(0).token}), worker.take_token(), array({lane()})),
              IsEmpty());
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(15));
  EXPECT_EQ(state(jobs.at(0)), "succeeded");
  session.exec("rollback");
  EXPECT_THAT(ids(worker.claim(10)), ElementsAre(jobs.at(1)));
}

TEST_F(EngineOrder, TwoClaimersOfManyLanesNeverWaitForEachOther) {
  for (int i = 0; i < 10; ++i) sql.rows("select enqueue('k', priority => $1) from generate_series(1, 2)", i);
  auto first = open();
  auto second = open();
  Hand one(first);
  Hand two(second);
  first.exec("begin");
  second.exec("begin; set local lock_timeout = '1ms'");
  EXPECT_THAT(one.claim(3), SizeIs(3));
  EXPECT_THAT(two.claim(100), SizeIs(16));  // eight other lanes
  first.exec("commit");
  second.exec("commit");
  EXPECT_THAT(one.claim(100), SizeIs(1));
}

}  // namespace
}  // namespace posthouse::test
