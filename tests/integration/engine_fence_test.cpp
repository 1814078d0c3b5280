// SPDX-License-Identifier: Apache-2.0
// The fences under the claim: the primary key of batch, what a crash of the server makes of a claim that was not flushed,
// and locks that are taken crosswise.
#include <gmock/gmock.h>

#include <atomic>
#include <mutex>
#include <set>
#include <thread>

#include "integration/worker_fixture.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// -- primary key (lane, seq) ---------------------------------------------------------------------------------------

class EngineFence : public WorkerTest {
 protected:
  /// The next batch of the lane, as somebody would write it who has not taken the lane's lock. It claims nothing.
  static void write_next_batch(Sql& session, std::int64_t lane) {
    session.rows(
        "insert into batch (lane, seq, worker, token, lo, hi, pos_txid, pos_id, claimed_at, closed_at, n, started_to, "
        "ids) select b.lane, b.seq + 1, 0, b.seq + 1, b.lo, b.hi, b.pos_txid, b.pos_id, now(), now(), 0, 0, '{}' from "
        "batch b where b.lane = $1 order by b.seq desc limit 1",
        lane);
  }
  void make_cursor() {
    enqueue();
    Hand hand(sql);
    hand.finish(hand.claim(1).at(0).token);
    hand.leave();
  }
};

TEST_F(EngineFence, ASecondBatchOfTheSameNumberIsRefusedAndTheNextClaimGetsItsJobs) {
  make_cursor();
  auto const jobs = enqueue_some(2);
  Hand hand(sql);
  for (int round = 0; round < 2; ++round) {  // the claim of one job, then the general one
    auto intruder = open();
    intruder.exec("begin");
    write_next_batch(intruder, lane());
    auto session = open();
    hand.use(session);
    auto claim = std::async(std::launch::async, [&, round, of = lane()]() -> std::string {
      try {
        round == 0 ? hand.claim_one(of) : hand.claim(1);
      } catch (SqlError const& error) {
        return error.sqlstate();
      }
      return "claimed";
    });
    EXPECT_TRUE(waits_for_lock(sql, session.backend_pid()));
    intruder.exec("commit");
    EXPECT_EQ(claim.get(), "23505");
    auto const got = hand.claim(1);
    EXPECT_THAT(ids(got), ElementsAre(jobs.at(static_cast<std::size_t>(round))));
    EXPECT_THAT(hand.finish(got.at(0).token), IsEmpty());
    hand.use(sql);
  }
  EXPECT_EQ(sql.number("select count(*) from (select from batch group by lane, seq having count(*) > 1) q"), 0);
}

// To a worker it is one more statement that was refused: the next one reads the new cursor.
TEST_F(EngineFence, AWorkerTriesAgainAfterAViolation) {
  make_cursor();
  std::mutex mutex;
  std::multiset<std::int64_t> ran;
  auto intruder = open();
  intruder.exec("begin");
  write_next_batch(intruder, lane());
  Worker worker(quick());
  worker.on("k", [&](Job const& job) {
    std::lock_guard const lock(mutex);
    ran.insert(job.id());
  });
  worker.start();
  auto const job = enqueue();
  ASSERT_TRUE(eventually([&] {
    return sql.number(
               "select count(*) from pg_stat_activity a where datname = current_database() and wait_event_type = "
               "'Lock' and wait_event = 'transactionid'") == 1;
  })) << "it waits for whoever writes the same number";
  intruder.exec("commit");
  EXPECT_TRUE(eventually([&] { return state(job) == "succeeded"; }));
  worker.stop();
  std::lock_guard const lock(mutex);
  EXPECT_THAT(ran, ElementsAre(job));
  EXPECT_TRUE(logged("trying again sqlstate=23505") || logged("23505"));
  EXPECT_EQ(errors_of(job), 0) << "it costs the job nothing";
}

// -- locks taken crosswise -----------------------------------------------------------------------------------------

TEST_F(EngineFence, ClaimsThatWaitForEachOthersLanesEndWithoutADeadlock) {
  enqueue("a");
  enqueue("b");
  auto one = open();
  auto two = open();
  Hand first(one, {.kinds = "{a,b}"});
  Hand second(two, {.kinds = "{a,b}"});
  for (auto const& job : first.claim(10)) first.finish(job.token);
  // A server that looks for deadlocks sooner than a claim gives up waiting.
  one.exec("set deadlock_timeout = '20ms'; begin");
  two.exec("set deadlock_timeout = '20ms'; begin");
  // A lane in which a claim has found nothing stays locked until its transaction ends.
  EXPECT_THAT(first.claim(1, 1, array({lane("a")})), IsEmpty());
  EXPECT_THAT(second.claim(1, 1, array({lane("b")})), IsEmpty());
  auto const claim = [&](Hand& hand, std::string const& kind) {
    return std::async(std::launch::async, [&hand, lanes = array({lane(kind)})]() -> std::string {
      try {
        return hand.claim(1, 1, lanes).empty() ? "nothing" : "claimed";
      } catch (SqlError const& error) {
        return error.sqlstate();
      }
    });
  };
  auto crosswise = claim(first, "b");
  ASSERT_TRUE(waits_for_lock(sql, one.backend_pid()));
  auto back = claim(second, "a");
  EXPECT_EQ(crosswise.get(), "nothing");
  EXPECT_EQ(back.get(), "nothing");
  one.exec("commit");
  two.exec("commit");
}

// Queue, then lane: two workers with two queues, each under a limit, that name them in opposite orders.
TEST_F(EngineFence, TwoQueueLimitsTakenCrosswise) {
  sql.exec(
      "select enqueue('a', queue => 'p'), enqueue('b', queue => 'p'), enqueue('a', queue => 'q'), enqueue('b', queue "
      "=> 'q')");
  sql.exec("select set_limit('queue', 'p', 1), set_limit('queue', 'q', 1)");
  auto one = open();
  auto two = open();
  Hand first(one, {.kinds = "{a,b}"});
  Hand second(two, {.kinds = "{a,b}"});
  auto const of = [&](std::string const& queue, std::string const& kind) {
    return array({lane(kind, 0, false, queue)});
  };
  // Each holds the lock of one queue's limit, and wants another lane of the other one's.
  one.exec("begin");
  two.exec("begin");
  auto const p = first.claim(1, 1, of("p", "a"));
  auto const q = second.claim(1, 1, of("q", "a"));
  ASSERT_EQ(p.size(), 1U);
  ASSERT_EQ(q.size(), 1U);
  auto const from_p = of("p", "b");
  auto crosswise = std::async(std::launch::async, [&first, from_q = of("q", "b")]() -> std::string {
    try {
      return first.claim(1, 1, from_q).empty() ? "nothing" : "claimed";
    } catch (SqlError const& error) {
      return error.sqlstate();
    }
  });
  std::string back;
  try {
    back = second.claim(1, 1, from_p).empty() ? "nothing" : "claimed";
  } catch (SqlError const& error) {
    back = error.sqlstate();
  }
  EXPECT_EQ(crosswise.get(), "nothing");
  EXPECT_EQ(back, "nothing");
  one.exec("commit");
  two.exec("commit");
  EXPECT_EQ(sql.number("select count(*) from jobs where state = 'running'"), 2) << "one of each queue";
  first.finish(p.at(0).token);
  second.finish(q.at(0).token);
  EXPECT_EQ(first.claim(1, 1, of("q", "b")).size(), 1U);
  EXPECT_EQ(second.claim(1, 1, of("p", "b")).size(), 1U);
}

TEST_F(EngineFence, TwoWorkersUnderTwoQueueLimitsNeverDeadlock) {
  constexpr int each = 60;
  for (std::string const queue : {"p", "q"}) {
    for (std::string const kind : {"a", "b"}) {
      sql.rows("select enqueue($1, queue => $2) from generate_series(1, $3)", kind, queue, each);
    }
  }
  sql.exec("select set_limit('queue', 'p', 2), set_limit('queue', 'q', 2), set_limit('all', '', 3)");
  Ids lanes;
  for (std::string const queue : {"p", "q"}) {
    for (std::string const kind : {"a", "b"}) lanes.push_back(lane(kind, 0, false, queue));
  }
  std::mutex mutex;
  std::multiset<std::int64_t> claimed;
  std::vector<std::string> errors;
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&, i] {
      auto session = open();
      Hand hand(session, {.kinds = "{a,b}"});
      auto const order = i == 0 ? array(lanes) : array(Ids(lanes.rbegin(), lanes.rend()));
      try {
        for (;;) {
          auto const jobs = hand.claim(3, 3, order);
          std::set<std::int64_t> tokens;
          {
            std::lock_guard const lock(mutex);
            for (auto const& job : jobs) {
              claimed.insert(job.id);
              tokens.insert(job.token);
            }
            if (claimed.size() >= 4 * each && tokens.empty()) return;
          }
          for (auto const token : tokens) hand.finish(token);
        }
      } catch (std::exception const& error) {
        std::lock_guard const lock(mutex);
        errors.emplace_back(error.what());
        claimed.insert(-1);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(errors, IsEmpty());
  EXPECT_EQ(claimed.size(), 4U * each);
  EXPECT_EQ(std::set<std::int64_t>(claimed.begin(), claimed.end()).size(), 4U * each) << "each once";
}

// -- commits that are flushed, and one that is not -------------------------------------------------------------------

TEST_F(EngineFence, AClaimUnderAKeyIsOnDiskWhenItIsCommitted) {
  sql.exec("select enqueue('k', key => 'a')");
  sql.exec("select enqueue('plain')");
  Hand hand(sql, {.kinds = "{k,plain}"});
  sql.exec("set synchronous_commit = on; begin");
  ASSERT_EQ(hand.claim(1, 1, array({sql.number("select keyed_lane_of('default', 'k', 0, false)")})).size(), 1U);
  EXPECT_EQ(sql.one("show synchronous_commit"), "on");
  sql.exec("rollback; begin");
  ASSERT_EQ(hand.claim(1, 1, array({lane("plain")})).size(), 1U);
  EXPECT_EQ(sql.one("show synchronous_commit"), "off") << "and without a key it need not be";
  sql.exec("commit");
}

// The claim vanishes with the server while its worker goes on; the lane's numbers then come a second time.
TEST(EngineCrash, AClaimThatVanishedIsFencedThoughItsNumberIsGivenAgain) {
  TestServer server(TestServer::durable, "wal_writer_delay = 10s\n");
  TestDatabase const database("posthouse", server);
  auto sql = engine_session(database.url());
  sql.number("select enqueue('k')");
  Hand survivor(sql);
  survivor.finish(survivor.claim(1).at(0).token);
  auto const lane = sql.number("select lane_of('default', 'k', 0, false)");
  auto const newest = [&] { return sql.number("select max(seq) from batch where lane = $1", lane); };
  bool vanished = false;
  // The server may just have written its log on its own account: then again.
  for (int round = 0; round < 10 && !vanished; ++round) {
    auto const job = sql.number("select enqueue('k')");
    auto const got = survivor.claim(1);
    ASSERT_THAT(ids(got), ElementsAre(job));
    auto const number = newest();
    server.restart_immediate();
    sql = engine_session(database.url());
    survivor.use(sql);
    vanished = newest() < number;
    if (!vanished) {
      EXPECT_THAT(survivor.finish(got.at(0).token), IsEmpty());
      continue;
    }
    EXPECT_EQ(sql.one("select state from jobs where id = $1", job), "available");
    Hand heir(sql);
    auto const again = heir.claim(1);
    ASSERT_THAT(ids(again), ElementsAre(job));
    EXPECT_EQ(again.at(0).attempt, 0);
    EXPECT_EQ(newest(), number) << "the same number, another claim";
    // Whatever the survivor says of the job that it has still in its hands changes nothing, and it is told.
    EXPECT_EQ(sql.one("select beat($1, 0, 1, 1) ->> 'open'", survivor.id()), "[]");
    EXPECT_FALSE(survivor.complete(sql, got.at(0)));
    EXPECT_EQ(survivor.finish(got.at(0).token, "1", 1, "[" + move_of(got.at(0), "retry") + "]"), Ids{got.at(0).token});
    EXPECT_EQ(survivor.finish(got.at(0).token), Ids{got.at(0).token});
    EXPECT_EQ(sql.one("select state || ' ' || worker from jobs where id = $1", job),
              "running " + std::to_string(heir.id()));
    EXPECT_THAT(heir.finish(again.at(0).token), IsEmpty());
    EXPECT_EQ(sql.one("select state || ' ' || attempt from jobs where id = $1", job), "succeeded 1");
  }
  EXPECT_TRUE(vanished) << "in ten crashes no claim was lost";
}

}  // namespace
}  // namespace posthouse::test
