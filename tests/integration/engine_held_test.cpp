// SPDX-License-Identifier: Apache-2.0
// A snapshot that is held open keeps every dead row version: none of the hot calls may walk them. Counted in buffers,
// never in time.
#include <gmock/gmock.h>

#include "support/buffers.hpp"
#include "support/engine.hpp"

namespace posthouse::test {
namespace {

class EngineHeld : public EngineTest {
 protected:
  EngineHeld() : holder_(open()), worker_(sql) {
    enqueue_some(20);
    worker_.finish(worker_.claim(20).at(0).token);
    holder_.exec("begin isolation level repeatable read; select count(*) from lane");
  }

  std::int64_t buffers(std::string const& statement) { return buffers_of(sql, statement); }
  std::int64_t claim_cost() {
    return buffers("select * from claim(" + std::to_string(worker_.id()) + ", " + std::to_string(worker_.take_token()) +
                   ", " + "array[" + std::to_string(lane()) + "], 10, 10)");
  }
  std::int64_t look_cost() { return buffers("select look(" + std::to_string(worker_.id()) + ")"); }
  std::int64_t beat_cost() {
    return buffers("select beat(" + std::to_string(worker_.id()) + ", " + std::to_string(worker_.next_token()) +
                   ", 1, 1)");
  }

  Sql holder_;
  Hand worker_;
};

TEST_F(EngineHeld, AnHourOfHeartbeatsAndTermsCostsAClaimNothing) {
  sql.exec("select lead(" + std::to_string(worker_.id()) + "::bigint)");
  enqueue_some(50);
  auto const claim = claim_cost();
  auto const look = look_cost();
  auto const beat = beat_cost();
  sql.rows(
      "insert into heartbeat (worker, at, low_token, free, running) select $1, now() + i * interval '1 ms', 0, 1, 1 "
      "from "
      "generate_series(1, 20000) i",
      worker_.id());
  sql.rows("insert into leader (term, worker, promoted_to) select 1, $1, now() from generate_series(1, 5000)",
           worker_.id());
  sql.exec(
      "delete from heartbeat where at < (select max(at) from heartbeat); delete from leader where id < (select max(id) "
      "from leader)");
  EXPECT_LE(claim_cost(), claim + claim / 5 + 10);
  EXPECT_LE(look_cost(), look + look / 5 + 10);
  EXPECT_LE(beat_cost(), beat + beat / 5 + 10);
}

// As an hour of claims under a rate leaves its bucket: a row a claim, and those that prune() has taken away are still there.
TEST_F(EngineHeld, AnHourOfRateLimitedClaimsCostsTheNextOneNothing) {
  sql.exec("select set_limit('kind', 'k', 1000, 1000000, 1000000), set_limit('all', '', 1000, 1000000)");
  enqueue_some(50);
  worker_.finish(worker_.claim(1).at(0).token);  // each bucket has its first row
  ASSERT_EQ(sql.number("select count(*) from limit_bucket"), 2);
  auto const claim = claim_cost();
  auto const look = look_cost();
  sql.exec(
      "insert into limit_bucket (scope, name, seq, at, tokens) select b.scope, b.name, b.seq + i, b.at + i * interval "
      "'1 microsecond', b.tokens from limit_bucket b, generate_series(1, 5000) i");
  EXPECT_LE(claim_cost(), claim + claim / 5 + 10) << "rows that nobody has pruned yet";
  sql.exec("select prune_limits()");
  ASSERT_EQ(sql.number("select count(*) from limit_bucket"), 2);
  EXPECT_LE(claim_cost(), claim + claim / 5 + 10) << "rows that are dead, and held";
  EXPECT_LE(look_cost(), look + look / 5 + 10);
  // A read from the oldest one on would meet them: they are there.
  EXPECT_GT(buffers("select * from limit_bucket where scope = 'kind' and name = 'k' order by seq limit 1"),
            buffers("select * from limit_bucket where scope = 'kind' and name = 'k' order by seq desc limit 1") + 20);
}

TEST_F(EngineHeld, ManyClaimsAndAcksOfTheLaneCostTheNextOneNothing) {
  enqueue_some(50);
  auto const claim = claim_cost();
  auto const look = look_cost();
  for (int i = 0; i < 400; ++i) {
    enqueue();
    worker_.finish(worker_.claim(1).at(0).token);
  }
  EXPECT_LE(claim_cost(), claim + claim / 5 + 20);
  EXPECT_LE(look_cost(), look + look / 5 + 20);
}

// Retried jobs leave the log and deferred by deletes that the holder keeps; the leader's rounds start behind them.
TEST_F(EngineHeld, AStormOfRetriesCostsClaimsAndRoundsNothing) {
  sql.exec("select lead(" + std::to_string(worker_.id()) + "::bigint)");
  enqueue_some(50);
  auto const claim = claim_cost();
  sql.exec("update leader set at = at - interval '4 s'; select duties(" + std::to_string(worker_.id()) + ")");
  auto const from = "(select promoted_to from leader order by id desc limit 1)";
  auto const promote = buffers(std::string("select promote(") + from + ", 5000)");
  for (int i = 0; i < 20; ++i) {
    auto const got = worker_.claim(50, 50, array({lane()}));
    if (got.empty()) break;
    std::string moves;
    for (auto const& job : got) moves += (moves.empty() ? "[" : ",") + move_of(job, "retry", 1000);
    worker_.finish(got.at(0).token, std::nullopt, 50, moves + "]");
    sql.exec("update deferred set due_at = due_at - interval '1 hour'; select promote()");
    enqueue_some(50);
  }
  EXPECT_LE(claim_cost(), claim + claim / 5 + 20);
  // As at the renewal after the storm: a round looks at what was due since the last one, and not at the dead rows before.
  sql.exec(
      "insert into leader (term, worker, promoted_to) select term, worker, clock_timestamp() from leader order by id "
      "desc limit 1");
  EXPECT_LE(buffers(std::string("select promote(") + from + ", 5000)"), promote + promote / 5 + 10);
  EXPECT_GT(buffers("select promote('-infinity', 5000)"), promote + promote / 5 + 10) << "the dead rows are there";
}

}  // namespace
}  // namespace posthouse::test
