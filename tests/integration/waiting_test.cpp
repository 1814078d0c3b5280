// SPDX-License-Identifier: Apache-2.0
// Waiting by notification: only for jobs that somebody watches, however they end; without a session a plain pause.
#include <gmock/gmock.h>

#include <posthouse/client.hpp>

#include "integration/worker_fixture.hpp"
#include "produce/wait_room.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class Waiting : public WorkerTest {
 protected:
  Waiting() : waiter_(open()) { waiter_.exec("listen \"" + sql.one("select done_channel()") + "\""); }
  void watch(Ids const& jobs) { waiter_.rows("select watch_jobs($1)", array(jobs)); }
  void unwatch(Ids const& jobs) { waiter_.rows("select unwatch_jobs($1)", array(jobs)); }
  Ids heard() {
    waiter_.one("select 1");
    Ids jobs;
    while (PGnotify* const message = PQnotifies(waiter_.connection())) {
      jobs.push_back(std::stoll(message->extra));
      PQfreemem(message);
    }
    return jobs;
  }
  std::int64_t locks() { return sql.number("select count(*) from pg_locks where locktype = 'advisory'"); }

  Sql waiter_;
};

TEST_F(Waiting, WhoIsNotWaitedForIsNotNotified) {
  Hand hand(sql);
  auto const jobs = enqueue_some(3);
  auto const first = hand.claim(3);
  hand.finish(first[0].token, "100", 3);
  EXPECT_THAT(heard(), IsEmpty());
  watch({jobs[1]});
  hand.finish(first[0].token, "101", 3);
  EXPECT_THAT(heard(), IsEmpty()) << "somebody waits, but for none of these";
  hand.finish(first[0].token);
  EXPECT_THAT(heard(), ElementsAre(jobs[1]));
  EXPECT_EQ(locks(), 2) << "those of the watch";
  unwatch({jobs[1]});
  EXPECT_EQ(locks(), 0);
}

// The short way of a worker that has done one job and wants the next.
TEST_F(Waiting, TheClaimOfOneTellsAsWell) {
  auto const jobs = enqueue_some(3);
  watch({jobs[0]});
  Hand hand(sql);
  auto const job = hand.claim(1).at(0);
  auto const next = hand.take_token();
  EXPECT_EQ(sql.number("select id from finish_and_claim_one($1, $2, $3, $4)", hand.id(), job.token, next, job.lane),
            jobs[1]);
  EXPECT_THAT(heard(), ElementsAre(jobs[0]));
  EXPECT_EQ(
      sql.number("select id from finish_and_claim_one($1, $2, $3, $4)", hand.id(), next, hand.take_token(), job.lane),
      jobs[2]);
  EXPECT_THAT(heard(), IsEmpty());
}

TEST_F(Waiting, NotBeforeTheCommit) {
  auto const id = enqueue();
  watch({id});
  Sql worker = open();
  Hand hand(worker);
  auto const token = hand.claim(1).at(0).token;
  worker.exec("begin");
  hand.finish(token);
  EXPECT_THAT(heard(), IsEmpty());
  worker.exec("rollback; begin");
  hand.finish(token);
  worker.exec("commit");
  EXPECT_THAT(heard(), ElementsAre(id));
}

TEST_F(Waiting, EveryWayToEndIsTold) {
  auto const jobs = enqueue_some(6);
  auto const expiring = sql.number("select enqueue('k', delay => '1 hour', expires_in => '2 hours')");
  Ids all = jobs;
  all.push_back(expiring);
  watch(all);
  Hand hand(sql);
  auto const claimed = hand.claim(5);
  ASSERT_EQ(claimed.size(), 5U);
  hand.finish(claimed[0].token, "11100", 5,
              "[" + move_of(claimed[1], "fail") + "," + move_of(claimed[2], "retry") + "]");
  // A failed job is told by its row among the dead and by its bit: the server sends one of two that are the same.
  EXPECT_THAT(heard(), UnorderedElementsAre(jobs[0], jobs[1], jobs[2]));
  EXPECT_EQ(sql.one("select cancel($1)", jobs[5]), "cancelled");
  EXPECT_THAT(heard(), ElementsAre(jobs[5]));
  sql.exec(
      "update deferred set due_at = now(), options = jsonb_set(options, '{expires_at}', "
      "'\"2000-01-01T00:00:00.000000Z\"') "
      "where id = " +
      std::to_string(expiring));
  sql.rows("select promote()");
  EXPECT_EQ(state(expiring), "expired");
  EXPECT_THAT(heard(), ElementsAre(expiring));
  // On the last attempt, a lost worker ends its jobs.
  sql.exec("update job set options = '{\"max_attempts\": 1}' where id = " + std::to_string(jobs[3]));
  expire(sql, hand.id());
  sql.rows("select reap()");
  EXPECT_EQ(state(jobs[3]), "failed");
  EXPECT_THAT(heard(), ElementsAre(jobs[3])) << "the other one will run again";
}

TEST_F(Waiting, NoneForATransactionThatMustNotNotify) {
  auto const id = enqueue();
  watch({id});
  sql.exec("set posthouse.wake = off");
  sql.rows("select cancel($1)", id);
  EXPECT_THAT(heard(), IsEmpty());
  auto const other = enqueue();
  watch({other});
  Hand hand(sql);
  hand.finish(hand.claim(1).at(0).token);
  EXPECT_THAT(heard(), IsEmpty());
}

TEST_F(Waiting, TwoWhoWaitForOneJobAreBothTold) {
  auto const id = enqueue();
  watch({id});
  Sql other = open();
  other.exec("listen \"" + sql.one("select done_channel()") + "\"");
  other.rows("select watch_jobs($1)", array({id}));
  other.close();
  EXPECT_TRUE(eventually([&] { return locks() == 2; })) << "the locks of a session that ends are gone";
  watch({id});
  unwatch({id});
  Hand hand(sql);
  hand.finish(hand.claim(1).at(0).token);
  EXPECT_THAT(heard(), ElementsAre(id)) << "watched twice, given back once";
}

TEST_F(Waiting, BadInput) {
  EXPECT_EQ(waiter_.sqlstate_of("select watch_jobs('{}')"), "22023");
  EXPECT_EQ(waiter_.sqlstate_of("select watch_jobs(null)"), "22023");
  EXPECT_EQ(waiter_.sqlstate_of("select watch_jobs(array(select generate_series(1, 1001)))"), "22023");
}

DatabaseOptions database_at(std::string const& url) {
  DatabaseOptions options;
  options.database_url = url;
  return options;
}

// A pause of an hour ends with the job.
TEST_F(Waiting, TheRoomWakesWhoeverWaits) {
  auto const jobs = enqueue_some(2);
  produce::WaitRoom room(database_at(url()));
  produce::WaitRoom::Watch first(room, jobs[0]);
  produce::WaitRoom::Watch again(room, jobs[0]);
  produce::WaitRoom::Watch second(room, jobs[1]);
  // Watched from now on: look.
  EXPECT_TRUE(first.sleep(1h));
  EXPECT_TRUE(again.sleep(1h));
  EXPECT_TRUE(second.sleep(1h));
  Hand hand(sql);
  auto const claimed = hand.claim(2);
  auto sleeper = std::async(std::launch::async, [&] { return first.sleep(1h) && again.sleep(1h); });
  hand.finish(claimed[0].token, "10", 2);
  EXPECT_TRUE(sleeper.get());
  EXPECT_FALSE(second.sleep(0ms));
  hand.finish(claimed[0].token);
  EXPECT_TRUE(second.sleep(1h));
}

TEST_F(Waiting, TheRoomGivesLocksBackAndComesBackAfterALostSession) {
  auto const jobs = enqueue_some(2);
  produce::WaitRoom room(database_at(url()));
  {
    produce::WaitRoom::Watch one(room, jobs[0]);
    EXPECT_TRUE(one.sleep(1h));
    EXPECT_EQ(locks(), 2);
  }
  EXPECT_TRUE(eventually([&] { return locks() == 0; }));
  produce::WaitRoom::Watch two(room, jobs[1]);
  EXPECT_TRUE(two.sleep(1h));
  EXPECT_EQ(
      sql.number("select count(*) from (select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' "
                 "and objid = 0) q"),
      1);
  EXPECT_TRUE(two.sleep(1h)) << "watched anew";
  sql.rows("select cancel($1)", jobs[1]);
  EXPECT_TRUE(two.sleep(1h));
}

TEST_F(Waiting, BehindATransactionPoolerItIsAPause) {
  auto options = database_at(url());
  options.pgbouncer_transaction_mode = true;
  produce::WaitRoom room(options);
  produce::WaitRoom::Watch watch(room, enqueue());
  EXPECT_FALSE(watch.sleep(1ms));
  EXPECT_EQ(locks(), 0);
}

// Through the client, with a job that ends late enough to be watched, and in one that is never.
TEST_F(Waiting, AClientWaitsEitherWay) {
  for (bool const pooled : {false, true}) {
    auto options = database_at(url());
    options.pgbouncer_transaction_mode = pooled;
    Client client({.database = options});
    auto const jobs = enqueue_some(3);
    auto waiting = std::async(std::launch::async, [&] { return client.wait_many(jobs, 1h); });
    if (!pooled) {
      EXPECT_TRUE(eventually([&] { return locks() > 0; })) << "it watches one of them";
      EXPECT_EQ(locks(), 2);
    }
    Hand hand(sql);
    auto const claimed = hand.claim(3);
    ASSERT_EQ(claimed.size(), 3U);
    hand.finish(claimed[0].token, "001", 3);
    hand.finish(claimed[0].token);
    auto const outcomes = waiting.get();
    for (auto const& outcome : outcomes) EXPECT_TRUE(outcome.succeeded()) << outcome.state;
  }
}

}  // namespace
}  // namespace posthouse::test
