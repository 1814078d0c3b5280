// SPDX-License-Identifier: Apache-2.0
// Limits as claims enforce them: what runs at once, by kind, queue and in all, and how many start in a second.
#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class Limits : public EngineTest {
 protected:
  void limit(std::string const& scope, std::string const& name, int concurrency) {
    sql.rows("select set_limit($1, $2, $3)", scope, name, concurrency);
  }
  std::int64_t running(std::string const& scope = "kind", std::string const& name = "k") {
    return sql.number("select limit_running($1, $2)", scope, name);
  }
};

void raise_to(std::atomic<int>& most, int value) {
  int seen = most.load();
  while (seen < value && !most.compare_exchange_weak(seen, value)) {
  }
}

class NeverExceeded : public Limits, public ::testing::WithParamInterface<int> {};

// Eight workers, lanes of three priorities and their express twins, jobs that end in every way. Counted twice: in
// snapshots of the database, and by the workers themselves.
TEST_P(NeverExceeded, WhateverClaimsAndEnds) {
  int const most = GetParam();
  limit("kind", "k", most);
  constexpr int jobs = 120;
  sql.rows("select enqueue('k', priority => i % 3) from generate_series(1, $1) i", jobs);
  enqueue_some(20, "free");
  std::atomic<int> held{0};
  std::atomic<int> held_most{0};
  std::atomic<bool> over{false};
  auto const work = [&](int number) {
    auto session = open();
    Hand worker(session, {.kinds = "{k,free}"});
    for (int round = number; !over.load(); ++round) {
      auto const got = worker.claim(2);
      if (got.empty()) {
        session.rows("select promote()");
        continue;
      }
      int mine = 0;
      for (auto const& job : got) {
        if (session.one("select kind from lane where lane = $1", job.lane) == "k") ++mine;
      }
      raise_to(held_most, held.fetch_add(mine) + mine);
      held.fetch_sub(mine);
      for (std::size_t i = 0; i < got.size(); ++i) {
        if (i > 0 && got[i].token == got[i - 1].token) continue;
        std::string bits;
        std::string moves = "[";
        for (auto const& job : got) {
          if (job.token != got[i].token) continue;
          bits += '1';
          int const way = (round + job.position) % 7;
          std::string const outcome = way == 1 ? "retry" : way == 2 ? "snooze" : way == 3 ? "release" : "";
          if (outcome.empty() || job.attempt > 3) continue;
          moves += (moves.size() > 1 ? "," : "") + move_of(job, outcome);
        }
        worker.finish(got[i].token, bits, 2, moves.size() > 1 ? moves + "]" : "");
      }
    }
  };
  std::vector<std::jthread> threads;
  for (int i = 0; i < 8; ++i) threads.emplace_back(work, i);
  auto watch = open();
  std::int64_t seen = 0;
  auto const done = eventually([&] {
    seen =
        std::max(seen, watch.number("select count(*) from held() o join lane l on l.lane = o.lane where l.kind = 'k'"));
    return watch.number("select count(*) from jobs where state = 'succeeded'") == jobs + 20;
  });
  over = true;
  threads.clear();
  EXPECT_TRUE(done);
  EXPECT_LE(seen, most);
  EXPECT_LE(held_most.load(), most);
  EXPECT_GT(held_most.load(), 0);
  EXPECT_EQ(running(), 0);
}

INSTANTIATE_TEST_SUITE_P(Of, NeverExceeded, ::testing::Values(1, 3));

TEST_F(Limits, EveryEndMakesRoom) {
  limit("kind", "k", 1);
  enqueue_some(20);
  Hand worker(sql);
  Hand other(sql);
  for (std::string const outcome : {"", "retry", "fail", "snooze", "release"}) {
    auto const got = worker.claim(5);
    ASSERT_THAT(got, SizeIs(1)) << outcome;
    EXPECT_THAT(other.claim(5), IsEmpty());
    worker.finish(got[0].token, "1", 1, outcome.empty() ? "" : "[" + move_of(got[0], outcome, 3'600'000) + "]");
  }
  auto got = worker.claim(5);
  ASSERT_THAT(got, SizeIs(1)) << "complete";
  auto transaction = open();
  transaction.exec("begin");
  EXPECT_TRUE(worker.complete(transaction, got[0]));
  EXPECT_THAT(other.claim(5), IsEmpty()) << "not committed";
  transaction.exec("commit");
  got = other.claim(5);
  ASSERT_THAT(got, SizeIs(1));
  other.give_back({got[0].token});
  got = other.claim(5);
  ASSERT_THAT(got, SizeIs(1)) << "give_back";
  other.leave();
  Hand lost(sql);
  got = lost.claim(5);
  ASSERT_THAT(got, SizeIs(1)) << "leave";
  EXPECT_THAT(worker.claim(5), IsEmpty());
  expire(sql, lost.id());
  EXPECT_THAT(worker.claim(5), IsEmpty()) << "dead, but nobody has taken its jobs back";
  sql.rows("select reap()");
  EXPECT_THAT(worker.claim(5), SizeIs(1)) << "rescue";
}

// The ack of a call counts for its own claim.
TEST_F(Limits, AFinishAndClaimUsesTheRoomItMakes) {
  limit("kind", "k", 2);
  enqueue_some(5);
  Hand worker(sql);
  auto const got = worker.claim(5);
  ASSERT_THAT(got, SizeIs(2));
  EXPECT_EQ(
      sql.number("select count(*) from finish_and_claim($1, $2, '{10}', '{2}', null, $3, null, 5, 5) where pos >= 0",
                 worker.id(), array({got[0].token}), worker.take_token()),
      1);
}

TEST_F(Limits, QueuesAndTheWholeCountWithTheKind) {
  limit("kind", "k", 3);
  limit("queue", "q", 2);
  limit("all", "", 4);
  sql.exec(
      "select enqueue('k', queue => 'q') from generate_series(1, 9); select enqueue('k') from generate_series(1, 9); "
      "select enqueue('m') from generate_series(1, 9)");
  Hand worker(sql, {.kinds = "{k,m}"});
  EXPECT_THAT(worker.claim(9, 9, array({lane("k", 0, false, "q")})), SizeIs(2)) << "queue";
  EXPECT_THAT(worker.claim(9, 9, array({lane("k")})), SizeIs(1)) << "kind";
  EXPECT_THAT(worker.claim(9, 9, array({lane("m")})), SizeIs(1)) << "all";
  EXPECT_THAT(worker.claim(9), IsEmpty());
  EXPECT_EQ(running("queue", "q"), 2);
  EXPECT_EQ(running("all", ""), 4);
}

TEST_F(Limits, OtherKindsGoOn) {
  limit("kind", "k", 1);
  sql.rows("select enqueue('k', priority => 9) from generate_series(1, 5)");
  enqueue_some(5, "m");
  Hand worker(sql, {.kinds = "{k,m}"});
  EXPECT_THAT(worker.claim(10), SizeIs(6));
}

TEST_F(Limits, LoweredBelowWhatRunsItWaits) {
  enqueue_some(9);
  Hand worker(sql);
  auto const got = worker.claim(3);
  limit("kind", "k", 2);
  EXPECT_THAT(worker.claim(9), IsEmpty());
  worker.finish(got[0].token, "110", 3);
  EXPECT_EQ(running(), 1);
  EXPECT_THAT(worker.claim(9), SizeIs(1));
}

// The rows for the worker: which lane, and how long until a rate lets the next job start.
TEST_F(Limits, AClaimSaysWhatIsHeldBack) {
  limit("kind", "k", 1);
  enqueue_some(3);
  Hand worker(sql);
  auto const rows = sql.rows("select pos, token, lane from claim($1, 16, null, 5, 5) order by pos", worker.id());
  ASSERT_THAT(rows, SizeIs(2));
  EXPECT_EQ(rows[0][0], "-2");
  EXPECT_EQ(rows[0][1], "-1");
  EXPECT_EQ(std::stoll(*rows[0][2]), lane());
  sql.rows("select set_limit('kind', 'k', per_second => 0.001)");
  EXPECT_EQ(sql.number("select count(*) from claim($1, 32, null, 5, 5) where pos = 0", worker.id()), 1);
  auto const wait = sql.number("select token from claim($1, 48, null, 5, 5) where pos = -2", worker.id());
  EXPECT_GT(wait, 0);
  EXPECT_LE(wait, 1'000'000);
}

TEST_F(Limits, ALockedLimitHoldsUpItsOwnLanesAlone) {
  limit("kind", "k", 9);
  sql.rows("select enqueue('k', priority => p) from unnest('{0,1}'::int[]) p");
  enqueue("m");
  auto first = open();
  Hand holder(first);
  Hand worker(sql, {.kinds = "{k,m}"});
  first.exec("begin");
  ASSERT_THAT(holder.claim(1, 1, array({lane("k", 1)})), SizeIs(1));
  EXPECT_THAT(worker.claim(9), ElementsAre(::testing::Field(&Claimed::lane, lane("m"))));
  first.exec("commit");
  EXPECT_THAT(worker.claim(9), ElementsAre(::testing::Field(&Claimed::lane, lane("k"))));
}

TEST_F(Limits, ALimitedClaimIsOnDiskWhenItIsCommitted) {
  enqueue_some(2);
  limit("kind", "k", 1);
  Hand worker(sql);
  sql.exec("set synchronous_commit = on; begin");
  ASSERT_THAT(worker.claim(1), SizeIs(1));
  EXPECT_EQ(sql.one("show synchronous_commit"), "on");
  sql.exec("commit");
}

// Arithmetic of the bucket, with times of our own.
TEST_F(Limits, ABucketFillsWithTime) {
  auto const tokens = [&](std::string const& at) {
    return sql.one("select trim_scale(limit_tokens('kind', 'k', 4, 6, $1::timestamptz))", "2030-01-01 00:00:" + at);
  };
  auto const take = [&](int n, std::string const& at) {
    sql.rows("select limit_take('kind', 'k', 4, 6, $1, $2::timestamptz)", n, "2030-01-01 00:00:" + at);
  };
  EXPECT_EQ(tokens("10"), "6") << "full at first";
  take(6, "10");
  EXPECT_EQ(tokens("10"), "0");
  EXPECT_EQ(tokens("10.250"), "1");
  EXPECT_EQ(tokens("11"), "4");
  EXPECT_EQ(tokens("59"), "6") << "never more than the burst";
  EXPECT_EQ(tokens("05"), "0") << "the clock was set back";
  take(3, "11");
  EXPECT_EQ(tokens("11.500"), "3");
  take(0, "05");
  EXPECT_EQ(tokens("05.500"), "3") << "counts on from the clock as it is now";
  EXPECT_EQ(sql.one("select trim_scale(limit_tokens('kind', 'new', 0.5, null, now()))"), "1");
  EXPECT_EQ(sql.one("select trim_scale(limit_tokens('kind', 'new', 2.5, null, now()))"), "3");
  sql.rows("select prune_limits()");
  EXPECT_EQ(sql.number("select count(*) from limit_bucket"), 1);
  EXPECT_EQ(tokens("05.500"), "3");
}

TEST_F(Limits, ARateCountsStartsOfTheWholeFleet) {
  sql.rows("select set_limit('queue', 'default', per_second => 0.001, burst => 3)");
  enqueue_some(9);
  Hand worker(sql);
  Hand other(sql);
  auto const got = worker.claim(2);
  ASSERT_THAT(got, SizeIs(2));
  worker.finish(got[0].token);
  EXPECT_THAT(other.claim(9), SizeIs(1));
  EXPECT_THAT(worker.claim(9), IsEmpty()) << "what has ended has started all the same";
  sql.rows(
      "insert into limit_bucket select 'queue', 'default', seq + 1, now() + interval '1 day', 1 from limit_bucket "
      "order by seq desc limit 1");
  EXPECT_THAT(worker.claim(9), SizeIs(1)) << "a clock that was set back a day";
  EXPECT_TRUE(sql.truth("select at < now() + interval '1 hour' from limit_bucket order by seq desc limit 1"));
}

TEST_F(Limits, WhatIsSetHidesWhatIsDeclared) {
  auto const declare = [&](std::string const& limits) {
    return sql.rows("select scope, name, old_value, new_value, hidden from declare_limits($1)", limits);
  };
  auto const in_force = [&] {
    auto const rows = sql.column("select origin || ' ' || coalesce(concurrency::text, '-') from limits");
    return rows.empty() ? std::string("none") : rows.at(0);
  };
  auto const changed = declare(R"([{"scope": "kind", "name": "k", "concurrency": 2}])");
  ASSERT_THAT(changed, SizeIs(1));
  EXPECT_EQ(changed[0][2], "none");
  EXPECT_EQ(changed[0][3], "2 at once");
  EXPECT_EQ(changed[0][4], "f");
  EXPECT_THAT(declare(R"([{"scope": "kind", "name": "k", "concurrency": 2}])"), IsEmpty()) << "nothing new";
  EXPECT_EQ(in_force(), "declared 2");
  limit("kind", "k", 5);
  EXPECT_EQ(in_force(), "set 5");
  EXPECT_EQ(declare(R"([{"scope": "kind", "name": "k", "concurrency": 3}])").at(0)[4], "t");
  EXPECT_EQ(in_force(), "set 5");
  sql.rows("select set_limit('kind', 'k')");
  EXPECT_EQ(in_force(), "set -");
  enqueue_some(9);
  Hand worker(sql);
  EXPECT_THAT(worker.claim(9), SizeIs(9)) << "set to none";
  EXPECT_TRUE(sql.truth("select reset_limit('kind', 'k')"));
  EXPECT_EQ(in_force(), "declared 3");
  declare(R"([{"scope": "kind", "name": "k"}])");
  EXPECT_EQ(in_force(), "none");
  EXPECT_FALSE(sql.truth("select reset_limit('kind', 'k')"));
}

TEST_F(Limits, BadInputIsRefused) {
  for (std::string const call :
       {"set_limit('job', 'k', 1)", "set_limit(null, 'k', 1)", "set_limit('kind', '', 1)", "set_limit('kind', null, 1)",
        "set_limit('all', 'k', 1)", "set_limit('kind', 'a b', 1)", "set_limit('kind', 'k', 0)",
        "set_limit('kind', 'k', -1)", "set_limit('kind', 'k', per_second => 0)",
        "set_limit('kind', 'k', per_second => 'NaN')", "set_limit('kind', 'k', per_second => 1, burst => 0)",
        "set_limit('kind', 'k', burst => 1)",
        "declare_limits('[{\"scope\": \"kind\", \"name\": \"k\", \"concurrency\": 0}]')"}) {
    EXPECT_EQ(sql.sqlstate_of("select " + call), "22023") << call;
  }
}

}  // namespace
}  // namespace posthouse::test
