// SPDX-License-Identifier: Apache-2.0
// Acks: idempotent when resent, refused when late, and each outcome's move.
#include <gmock/gmock.h>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

class EngineFinish : public EngineTest {
 protected:
  std::string everything() {
    return sql.one(
        "select concat_ws(' | ', (select string_agg(b::text, ',' order by b) from (select lane, seq, moved, acked, "
        "started_to, "
        "closed_at is null from batch) b), (select string_agg(j::text, ',' order by j) from (select id, lane, attempt, "
        "options from "
        "job) j), (select string_agg(d::text, ',' order by d) from (select id, lane, state, attempt, due_at from "
        "deferred) d), "
        "(select string_agg(d::text, ',' order by d) from (select id, state, attempt, reason from dead) d), "
        "(select string_agg(e::text, ',' order by e) from attempt_error e))");
  }
};

TEST_F(EngineFinish, ClosesABatchAndSaysNothingIsLost) {
  auto const jobs = enqueue_some(3);
  Hand worker(sql);
  auto const got = worker.claim(10);
  ASSERT_THAT(ids(got), ElementsAreArray(jobs));
  EXPECT_EQ(state(jobs.at(1)), "running");
  EXPECT_THAT(worker.finish(got.at(0).token), IsEmpty());
  for (auto const id : jobs) EXPECT_EQ(state(id), "succeeded");
  EXPECT_THAT(worker.claim(10), IsEmpty());
}

TEST_F(EngineFinish, IsIdempotentWhenItIsSentAgain) {
  enqueue_some(5);
  Hand worker(sql);
  auto const got = worker.claim(10);
  std::string const moves = "[" + move_of(got.at(0), "retry", 60000) + "," + move_of(got.at(1), "fail") + "," +
                            move_of(got.at(2), "snooze", 60000) + "," + move_of(got.at(3), "release") + "]";
  EXPECT_THAT(worker.finish(got.at(0).token, "11110", 5, moves), IsEmpty());
  auto const once = everything();
  EXPECT_THAT(worker.finish(got.at(0).token, "11110", 5, moves), IsEmpty());
  EXPECT_EQ(everything(), once);
  // An earlier, smaller ack that arrives late takes nothing back.
  EXPECT_THAT(worker.finish(got.at(0).token, "10000", 1, "[" + move_of(got.at(0), "retry") + "]"), IsEmpty());
  EXPECT_EQ(everything(), once);
  EXPECT_THAT(worker.finish(got.at(0).token, "11111", 5, moves), IsEmpty());
  auto const closed = everything();
  EXPECT_THAT(worker.finish(got.at(0).token, "11111", 5, moves), IsEmpty()) << "closed by an earlier sending: not lost";
  EXPECT_THAT(worker.finish(got.at(0).token, "11110", 5, moves), IsEmpty());
  EXPECT_EQ(everything(), closed);
}

// What is to be tried again without a delay need not wait for the leader.
TEST_F(EngineFinish, ARetryWithoutDelayIsAvailableAtOnce) {
  auto const jobs = enqueue_some(6);
  Hand worker(sql);
  auto const got = worker.claim(10);
  auto const enqueued_at = sql.one("select enqueued_at from jobs where id = $1", jobs.at(0));
  auto const token = std::to_string(got.at(0).token);
  auto const columns = [&](int first, int second, std::string const& delays) {
    return R"({"token": "{)" + token + "," + token + R"(}", "pos": "{)" + std::to_string(first) + "," +
           std::to_string(second) + R"(}", "id": "{)" + std::to_string(jobs.at(first)) + "," +
           std::to_string(jobs.at(second)) + R"(}", "outcome": "{retry,retry}", "delay_ms": "{)" + delays +
           R"(}", "message": "{a,b}", "crashes": "{NULL,2}"})";
  };
  EXPECT_THAT(worker.finish(got.at(0).token, "101000", 6, columns(0, 2, "60000,0")), IsEmpty());
  EXPECT_EQ(state(jobs[0]), "retryable");
  EXPECT_EQ(state(jobs[2]), "available");
  // A delay that is not plainly none goes the way of every delay.
  EXPECT_THAT(worker.finish(got.at(0).token, "111100", 6, columns(1, 3, "NULL,-1")), IsEmpty());
  EXPECT_EQ(state(jobs[1]), "retryable");
  EXPECT_EQ(state(jobs[3]), "retryable");
  EXPECT_THAT(worker.finish(got.at(0).token, "111110", 6, "[" + move_of(got.at(4), "retry", 0) + "]"), IsEmpty());
  EXPECT_EQ(state(jobs[4]), "available");

  EXPECT_EQ(sql.number("select count(*) from deferred where id = any($1::bigint[])", array({jobs[2], jobs[4]})), 0);
  EXPECT_THAT(sql.column("select job || ' ' || attempt from attempt_error where job = any($1::bigint[]) order by job",
                         array({jobs[2], jobs[4]})),
              ElementsAre(std::to_string(jobs[2]) + " 1", std::to_string(jobs[4]) + " 1"));
  Hand other(sql);
  auto const again = other.claim(10);
  ASSERT_THAT(ids(again), ElementsAre(jobs[2], jobs[4]));
  EXPECT_EQ(again[0].attempt, 1);
  EXPECT_EQ(sql.one("select options ->> 'child_crashes' from job where id = $1", jobs[2]), "2");
  EXPECT_EQ(sql.one("select enqueued_at from jobs where id = $1", jobs[2]), enqueued_at);

  // Sent again while somebody else has them.
  auto const before = everything();
  EXPECT_THAT(worker.finish(got.at(0).token, "111110", 6, columns(2, 4, "0,0")), IsEmpty());
  EXPECT_EQ(everything(), before);
}

// In an express lane a released job stays in its lane: a resent release must not take it from its next worker.
TEST_F(EngineFinish, AResentReleaseLeavesTheNextWorkerAlone) {
  auto const job = enqueue();
  Hand worker(sql);
  auto got = worker.claim(1);
  worker.finish(got.at(0).token, std::nullopt, 1, "[" + move_of(got.at(0), "release") + "]");
  got = worker.claim(2);
  ASSERT_THAT(ids(got), ElementsAre(job));
  ASSERT_EQ(got.at(0).lane, lane("k", 0, true));
  std::string const moves = "[" + move_of(got.at(0), "release") + "]";
  // The batch stays open in the resent call's eyes: its bit is set, another member's is not.
  sql.rows("update batch set n = 2, ids = ids || array[0::bigint], acked = null where token = $1", got.at(0).token);
  EXPECT_THAT(worker.finish(got.at(0).token, "10", 2, moves), IsEmpty());
  Hand next(sql);
  auto const again = next.claim(1, 1, array({lane("k", 0, true)}));
  ASSERT_THAT(ids(again), ElementsAre(job));
  EXPECT_THAT(worker.finish(got.at(0).token, "10", 2, moves), IsEmpty());
  EXPECT_EQ(state(job), "running");
  EXPECT_EQ(sql.number("select worker from jobs where id = $1", job), next.id());
  EXPECT_THAT(next.finish(again.at(0).token), IsEmpty());
  EXPECT_EQ(state(job), "succeeded");
}

TEST_F(EngineFinish, EachOutcomeGoesWhereItBelongs) {
  auto const jobs = enqueue_some(5);
  Hand worker(sql);
  auto const got = worker.claim(10);
  worker.finish(got.at(0).token, std::nullopt, 5,
                "[" + move_of(got.at(0), "retry", 60000) + "," + move_of(got.at(1), "fail") + "," +
                    move_of(got.at(2), "snooze", 60000) + "," + move_of(got.at(3), "release") + "]");
  EXPECT_EQ(state(jobs.at(0)), "retryable");
  EXPECT_EQ(attempt(jobs.at(0)), 1);
  EXPECT_EQ(state(jobs.at(1)), "failed");
  EXPECT_EQ(attempt(jobs.at(1)), 1);
  EXPECT_EQ(state(jobs.at(2)), "scheduled");
  EXPECT_EQ(attempt(jobs.at(2)), 0) << "a snooze counts no attempt";
  EXPECT_EQ(state(jobs.at(3)), "available");
  EXPECT_EQ(attempt(jobs.at(3)), 0) << "a release counts no attempt";
  EXPECT_EQ(state(jobs.at(4)), "succeeded");
  EXPECT_THAT(
      sql.column("select job || ' ' || attempt || ' ' || type || ' ' || message from attempt_error order by job"),
      ElementsAre(std::to_string(jobs.at(0)) + " 1 Error oops", std::to_string(jobs.at(1)) + " 1 Error oops"));
  auto const again = worker.claim(10);
  ASSERT_THAT(ids(again), ElementsAre(jobs.at(3)));
  EXPECT_EQ(again.at(0).lane, lane("k", 0, true));
  EXPECT_EQ(again.at(0).attempt, 0);
  EXPECT_TRUE(
      sql.truth("select (options ->> 'enqueued_at')::timestamptz < queued_at from job where id = $1", jobs.at(3)));
}

TEST_F(EngineFinish, ALateAckOfAReapedWorkerIsRefusedAndChangesNothing) {
  auto const jobs = enqueue_some(3);
  Hand worker(sql);
  auto const got = worker.claim(10, 2);
  expire(sql, worker.id());
  ASSERT_EQ(sql.number("select reap()"), 3);
  auto const before = everything();
  EXPECT_THAT(worker.finish(got.at(0).token), ElementsAre(got.at(0).token));
  EXPECT_THAT(worker.finish(got.at(0).token, "100", 1, "[" + move_of(got.at(0), "fail") + "]"),
              ElementsAre(got.at(0).token));
  EXPECT_EQ(everything(), before);
  for (auto const id : jobs) EXPECT_EQ(state(id), "available");
  EXPECT_EQ(sql.one("select beat($1, 0, 1, 1) ->> 'alive'", worker.id()), "false");
  EXPECT_THAT(worker.claim(10), IsEmpty()) << "a dead incarnation claims nothing";
  EXPECT_EQ(worker.give_back({got.at(0).token}), 0);
}

TEST_F(EngineFinish, TokensThatAreNotItsOwnAreNamed) {
  enqueue_some(2);
  Hand worker(sql);
  Hand thief(sql);
  auto const got = worker.claim(10);
  EXPECT_THAT(thief.finish(got.at(0).token), ElementsAre(got.at(0).token));
  EXPECT_THAT(worker.finish(999), ElementsAre(999));
  EXPECT_EQ(state(got.at(0).id), "running");
  // In the fused call a lost token is a row at position -1, beside the rows of the claim.
  enqueue();
  auto const rows = sql.rows(
      "select token, pos from finish_and_claim($1, '{999}', '{null}', '{0}', null, $2, null, 5, 5) order by pos",
      worker.id(), worker.take_token());
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(*rows[0][0], "999");
  EXPECT_EQ(*rows[0][1], "-1");
}

// A claim whose commit was lost in a crash of the server, and whose token came from the server, would look alive.
TEST_F(EngineFinish, AClaimThatVanishedIsLostForItsWorker) {
  auto const job = enqueue();
  Hand worker(sql);
  sql.exec("begin");
  auto const got = worker.claim(1);
  sql.exec("rollback");  // as asynchronous commits do in a crash
  Hand other(sql);
  ASSERT_THAT(ids(other.claim(1)), ElementsAre(job));
  EXPECT_THAT(worker.finish(got.at(0).token), ElementsAre(got.at(0).token));
  EXPECT_EQ(state(job), "running");
  EXPECT_EQ(sql.one("select beat($1, 0, 1, 1) ->> 'open'", worker.id()), "[]");
}

TEST_F(EngineFinish, AMoveForAnotherJobOrPlaceDoesNothing) {
  auto const jobs = enqueue_some(2);
  Hand worker(sql);
  auto const got = worker.claim(10);
  auto wrong = got.at(0);
  wrong.id = got.at(1).id;
  EXPECT_THAT(worker.finish(got.at(0).token, "10", 2, "[" + move_of(wrong, "fail") + "]"), IsEmpty());
  EXPECT_EQ(state(jobs.at(1)), "running");
  EXPECT_EQ(sql.number("select count(*) from dead"), 0);
}

TEST_F(EngineFinish, StartedToOnlyRises) {
  enqueue_some(5);
  Hand worker(sql);
  auto const got = worker.claim(10, 1);
  auto const started = [&] { return sql.number("select started_to from batch where token = $1", got.at(0).token); };
  EXPECT_EQ(started(), 1);
  worker.finish(got.at(0).token, "00000", 4);
  EXPECT_EQ(started(), 4);
  worker.finish(got.at(0).token, "10000", 2);
  EXPECT_EQ(started(), 4);
}

// No index on a column that an ack changes: the update stays on its page.
TEST_F(EngineFinish, AcksAreHotUpdates) {
  enqueue_some(100);
  Hand worker(sql);
  auto const got = worker.claim(100, 1);
  for (int i = 1; i < 20; ++i) worker.finish(got.at(0).token, std::string(i, '1') + std::string(100 - i, '0'), i + 1);
  worker.finish(got.at(0).token);
  auto const changed = sql.number("select count(*) from batch where ctid <> '(0,1)'");
  EXPECT_EQ(changed, 1);
  EXPECT_EQ(sql.number("select count(distinct split_part(ctid::text, ',', 1)) from batch"), 1);
}

// A job whose partition is being detached is out of reach for a moment: the ack must be tried again, not swallowed.
TEST_F(EngineFinish, AMoveWhileThePartitionIsAwayIsTriedAgain) {
  auto const partition = sql.one("select relname from partition order by lower limit 1");
  auto const jobs = enqueue_some(2);
  Hand worker(sql);
  auto const got = worker.claim(10, 1);
  auto const upper = sql.one("select upper from partition order by lower limit 1");
  sql.exec("alter table job detach partition " + partition);
  auto const moves = "[" + move_of(got.at(0), "retry") + "]";
  EXPECT_THROW(worker.finish(got.at(0).token, "10", 1, moves), SqlError);
  expire(sql, worker.id());
  EXPECT_EQ(sql.number("select reap()"), 0) << "nothing of it can be moved";
  EXPECT_EQ(sql.number("select count(*) from batch where closed_at is null"), 1);
  sql.exec("alter table job attach partition " + partition + " for values from (minvalue) to ('" + upper + "')");
  EXPECT_EQ(sql.number("select reap()"), 2);
  Hand next(sql);
  EXPECT_THAT(sorted(ids(next.claim(10))), ElementsAreArray(jobs));
}

}  // namespace
}  // namespace posthouse::test
