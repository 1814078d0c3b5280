// SPDX-License-Identifier: Apache-2.0
// Dedupe keys and tokens between sessions: waits that end, snapshots that are old, and many producers on one key.
#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include "support/engine.hpp"
#include "support/seed.hpp"

namespace posthouse::test {
namespace {

using ::testing::IsEmpty;

class EngineUniqueRace : public EngineTest {
 protected:
  std::string const outcome_ = "select status from posthouse.enqueue_outcome('k', dedupe_key => 'a')";
  std::string const token_ =
      "select status from posthouse.enqueue_outcome('k', token => '11111111-2222-4333-8444-555555555555')";
};

TEST_F(EngineUniqueRace, TheSecondWaitsForTheFirstAndGoesByItsEnd) {
  for (auto const& statement : {outcome_, token_}) {
    for (std::string const end : {"rollback", "commit"}) {
      Sql first = open();
      Sql second = open();
      first.exec("begin");
      EXPECT_EQ(first.one(statement), "created");
      auto waiting = beside(second, statement);
      EXPECT_TRUE(waits_for_lock(sql, second.backend_pid()));
      first.exec(end);
      auto const expected = end == "rollback" ? "created" : statement == outcome_ ? "duplicate" : "replayed";
      EXPECT_EQ(waiting.get(), expected);
      sql.exec("delete from job; delete from unique_key; delete from enqueue_token");
    }
  }
}

// The same where the key is taken over from a job that has ended.
TEST_F(EngineUniqueRace, TakingOverIsExactToo) {
  for (std::string const end : {"rollback", "commit"}) {
    auto const id = sql.number("select enqueue('k', dedupe_key => 'a')");
    sql.rows("select cancel($1)", id);
    Sql first = open();
    Sql second = open();
    first.exec("begin");
    EXPECT_EQ(first.one(outcome_), "created");
    auto waiting = beside(second, outcome_);
    EXPECT_TRUE(waits_for_lock(sql, second.backend_pid()));
    first.exec(end);
    EXPECT_EQ(waiting.get(), end == "rollback" ? "created" : "duplicate");
    sql.exec("delete from job; delete from unique_key");
  }
}

TEST_F(EngineUniqueRace, TheWaitIsBounded) {
  Sql first = open();
  first.exec("begin");
  first.one(outcome_);
  first.one(token_);
  for (auto const& statement : {outcome_, token_}) {
    sql.exec("set posthouse.lock_timeout = '20ms'");
    EXPECT_EQ(sql.sqlstate_of(statement), "55P03");
    // A bound of the session's own is left alone.
    sql.exec("set posthouse.lock_timeout = '1h'");
    sql.exec("set lock_timeout = '30ms'");
    EXPECT_EQ(sql.sqlstate_of(statement), "55P03");
    EXPECT_EQ(sql.one("show lock_timeout"), "30ms");
    sql.exec("reset lock_timeout");
  }
  first.exec("commit");
  sql.exec("begin");
  EXPECT_EQ(sql.one(outcome_), "duplicate");
  EXPECT_EQ(sql.one("show lock_timeout"), "0");
  sql.exec("commit");
}

// A duplicate leaves nothing for others to wait for.
TEST_F(EngineUniqueRace, ADuplicateInAnOpenTransactionHoldsNobodyUp) {
  auto const id = sql.number("select enqueue('k', dedupe_key => 'a')");
  Sql first = open();
  first.exec("begin");
  EXPECT_EQ(first.one(outcome_), "duplicate");
  EXPECT_EQ(sql.one("select cancel($1)", id), "cancelled");
  EXPECT_EQ(sql.one(outcome_), "created");
  first.exec("commit");
}

TEST_F(EngineUniqueRace, AnOldSnapshotFailsInsteadOfMakingASecondJob) {
  Sql old = open();
  old.exec("begin isolation level repeatable read; select count(*) from job");
  auto const id = sql.number("select enqueue('k', dedupe_key => 'a')");
  EXPECT_EQ(old.sqlstate_of(outcome_), "40001");
  old.exec("rollback");
  // It saw the holder dead; the holder lives again.
  sql.rows("select cancel($1)", id);
  old.exec("begin isolation level repeatable read; select count(*) from job");
  EXPECT_TRUE(sql.truth("select retry($1)", id));
  EXPECT_EQ(old.sqlstate_of(outcome_), "40001");
  old.exec("rollback");
}

TEST_F(EngineUniqueRace, RetryAndEnqueueOfOneKey) {
  auto const id = sql.number("select enqueue('k', dedupe_key => 'a')");
  sql.rows("select cancel($1)", id);
  Sql first = open();
  Sql second = open();
  first.exec("begin");
  EXPECT_TRUE(first.truth("select retry($1)", id));
  auto waiting = beside(second, outcome_);
  EXPECT_TRUE(waits_for_lock(sql, second.backend_pid()));
  first.exec("commit");
  EXPECT_EQ(waiting.get(), "duplicate");

  sql.rows("select cancel($1)", id);
  first.exec("begin");
  EXPECT_EQ(first.one(outcome_), "created");
  auto refused = beside(second, "select posthouse.retry(" + std::to_string(id) + ")");
  EXPECT_TRUE(waits_for_lock(sql, second.backend_pid()));
  first.exec("commit");
  EXPECT_THROW(refused.get(), SqlError);
  EXPECT_EQ(state(id), "cancelled");
}

// Prune meets a row that is being taken: it neither waits nor takes it away.
TEST_F(EngineUniqueRace, PruneLeavesAloneWhatIsBeingTaken) {
  auto const id = sql.number("select enqueue('k', dedupe_key => 'a')");
  sql.rows("select cancel($1)", id);
  Sql first = open();
  first.exec("begin");
  EXPECT_EQ(first.one(outcome_), "created");
  EXPECT_EQ(sql.number("select prune_unique(100)"), 0);
  first.exec("commit");
  EXPECT_EQ(sql.one(outcome_), "duplicate");
}

// Sixteen producers, workers that end jobs in every way, an operator: never two unfinished jobs of a key.
TEST_F(EngineUniqueRace, SixteenProducersOneUnfinishedJobAKey) {
  constexpr int producers = 16;
  constexpr int rounds = 60;
  Seed seed;
  std::atomic<int> created = 0;
  std::atomic<int> broken = 0;
  std::atomic<bool> over = false;
  std::atomic<int> odd = 0;
  auto const check = [&](Sql& session) {
    auto const bad = session.column(
        "select dedupe_key from posthouse.jobs where kind = 'k' and state not in ('succeeded', 'failed', 'cancelled') "
        "group by 1 having count(*) > 1");
    if (!bad.empty()) ++broken;
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < producers; ++i) {
    threads.emplace_back([&, random = seed.fork()]() mutable {
      try {
        Sql session = open();
        for (int n = 0; n < rounds; ++n) {
          auto const key = "key" + std::to_string(random() % 3);
          switch (random() % 4) {
            case 0:
              session.exec("begin");
              session.one("select status from enqueue_outcome('k', dedupe_key => $1)", key);
              session.exec("rollback");
              break;
            case 1:
              if (!session
                       .rows("select from unnest(enqueue_many(jsonb_build_array(jsonb_build_object('kind', 'k', "
                             "'dedupe_key', $1::text), jsonb_build_object('kind', 'k', 'dedupe_key', $1::text)))) u "
                             "where u is not null",
                             key)
                       .empty()) {
                ++created;
              }
              break;
            default:
              if (session.one("select status from enqueue_outcome('k', dedupe_key => $1)", key) == "created") ++created;
          }
          if (n % 8 == 0) check(session);
        }
      } catch (std::exception const& error) {
        ADD_FAILURE() << error.what();
      }
    });
  }
  std::vector<std::thread> others;
  for (int i = 0; i < 2; ++i) {
    others.emplace_back([&, random = seed.fork()]() mutable {
      try {
        Sql session = open();
        Hand worker(session);
        while (!over) {
          for (auto const& job : worker.claim(1)) {
            check(session);
            static constexpr char const* ends[] = {"", "", "retry", "fail", "release"};
            std::string const end = ends[random() % 5];
            if (end.empty()) {
              worker.finish(job.token);
            } else {
              worker.finish(job.token, "1", 1, "[" + move_of(job, end) + "]");
            }
          }
          session.exec("select promote()");
          if (random() % 8 == 0) session.exec("select prune_unique(10)");
        }
      } catch (std::exception const& error) {
        ADD_FAILURE() << error.what();
      }
    });
  }
  others.emplace_back([&, random = seed.fork()]() mutable {
    try {
      Sql session = open();
      while (!over) {
        check(session);
        for (auto const id : numbers(session.column("select id from posthouse.dead order by id desc limit 3"))) {
          if (random() % 2 == 0) {
            auto const state = session.sqlstate_of("select posthouse.retry(" + std::to_string(id) + ")");
            if (!state.empty() && state != "23505") ++odd;
          } else {
            session.rows("select posthouse.delete_job($1)", id);
          }
        }
        for (auto const id : numbers(session.column("select job from posthouse.unique_key limit 1"))) {
          session.rows("select posthouse.cancel($1)", id);
        }
      }
    } catch (std::exception const& error) {
      ADD_FAILURE() << error.what();
    }
  });
  for (auto& thread : threads) thread.join();
  over = true;
  for (auto& thread : others) thread.join();
  EXPECT_EQ(broken, 0);
  EXPECT_EQ(odd, 0);
  EXPECT_GT(created, 3);

  // In the end every key is free: nothing was left behind.
  for (auto const id : numbers(sql.column("select id from jobs where state in ('available', 'retryable')"))) {
    EXPECT_EQ(sql.one("select cancel($1)", id), "cancelled");
  }
  EXPECT_THAT(sql.column("select key from unique_key u where holds_key(u)"), IsEmpty());
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(sql.one("select status from enqueue_outcome('k', dedupe_key => $1)", "key" + std::to_string(i)),
              "created");
  }
}

}  // namespace
}  // namespace posthouse::test
