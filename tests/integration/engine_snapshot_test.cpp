// SPDX-License-Identifier: Apache-2.0
// Windows between snapshots: whatever the transactions of producers do, each committed job is claimed exactly once.
#include <gmock/gmock.h>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

class EngineSnapshot : public EngineTest {
 protected:
  EngineSnapshot() : worker_(sql) {
    // The lane has a cursor, so that later claims start from stored snapshots.
    first_ = enqueue();
    EXPECT_THAT(ids(worker_.claim(10)), ElementsAre(first_));
  }

  Ids claim(int n = 1000) { return ids(worker_.claim(n)); }
  /// Moves every lane's window on, with another session's transaction ids in between.
  void pass_time(Sql& other, int windows = 1) {
    for (int i = 0; i < windows; ++i) {
      auto const id = other.number("select enqueue('k')");
      EXPECT_THAT(claim(), ElementsAre(id));
    }
  }
  static Ids put(Sql& session, int n = 1) {
    return numbers(session.column("select enqueue('k') from generate_series(1, $1)", n));
  }

  Hand worker_;
  std::int64_t first_ = 0;
};

// A snapshot never lists its own transaction: what the transaction appends after its claim would count as seen.
TEST_F(EngineSnapshot, JobsOfTheClaimingTransactionItselfAreNotLost) {
  auto other = open();
  auto session = open();
  Hand inside(session, {.kinds = "{k}"});
  session.exec("begin; select pg_current_xact_id()");
  auto const taken = put(other)[0];  // a later transaction id ends first: ours is below xmax
  EXPECT_THAT(ids(inside.claim(10)), ElementsAre(taken));
  auto const mine = put(session, 2);
  session.exec("commit");
  EXPECT_THAT(claim(), ElementsAreArray(mine));
}

TEST_F(EngineSnapshot, JobsThatTheClaimingTransactionAppendedBeforeAreNotLost) {
  auto other = open();
  auto session = open();
  Hand inside(session, {.kinds = "{k}"});
  session.exec("begin");
  auto mine = put(session);
  auto const taken = put(other)[0];
  EXPECT_THAT(ids(inside.claim(10)), ElementsAre(taken)) << "its own uncommitted job must not be claimed";
  EXPECT_THAT(ids(inside.claim(10)), IsEmpty());
  for (auto const id : put(session)) mine.push_back(id);
  session.exec("commit");
  EXPECT_THAT(claim(), ElementsAreArray(mine));
}

TEST_F(EngineSnapshot, AClaimThatIsRolledBackIsNone) {
  auto session = open();
  Hand inside(session, {.kinds = "{k}"});
  auto const job = enqueue();
  session.exec("begin");
  EXPECT_THAT(ids(inside.claim(10)), ElementsAre(job));
  session.exec("rollback");
  EXPECT_THAT(claim(), ElementsAre(job));
}

// Its id is at or above lo's xmax, so lo does not list it, yet it is older than the window: no filter by time may hide it.
TEST_F(EngineSnapshot, AnOldTransactionWithAnIdAboveXmaxIsFound) {
  auto late = open();
  auto other = open();
  late.exec("begin");
  auto const mine = put(late);
  ASSERT_TRUE(
      sql.truth("select $1::xid8 >= pg_snapshot_xmax(pg_current_snapshot())", late.one("select pg_current_xact_id()")));
  EXPECT_THAT(claim(), IsEmpty());
  pass_time(other, 5);
  late.exec("commit");
  EXPECT_THAT(claim(), ElementsAreArray(mine));
}

TEST_F(EngineSnapshot, AClockThatStepsHidesNothing) {
  auto other = open();
  pass_time(other, 3);
  auto const id =
      sql.number("insert into job (lane, queued_at) values ($1, now() - interval '40 days') returning id", lane());
  EXPECT_THAT(claim(), ElementsAre(id));
  auto const ahead =
      sql.number("insert into job (lane, queued_at) values ($1, now() + interval '40 days') returning id", lane());
  EXPECT_THAT(claim(), ElementsAre(ahead));
}

TEST_F(EngineSnapshot, ATransactionOpenOverManyWindowsIsFoundAtItsEnd) {
  auto late = open();
  auto other = open();
  late.exec("begin");
  auto const mine = put(late, 3);
  put(other);  // now the late one is below xmax
  claim();
  pass_time(other, 8);
  late.exec("commit");
  auto const later = put(other);
  Ids expected = mine;  // the older transaction id first
  expected.insert(expected.end(), later.begin(), later.end());
  EXPECT_THAT(claim(), ElementsAreArray(expected));
  EXPECT_THAT(claim(), IsEmpty());
}

TEST_F(EngineSnapshot, ALateTransactionIsClaimedInPiecesWithoutLossOrRepetition) {
  auto late = open();
  auto other = open();
  late.exec("begin");
  auto mine = put(late, 10);
  pass_time(other, 2);
  late.exec("commit");
  auto const later = put(other, 5);
  mine.insert(mine.end(), later.begin(), later.end());
  Ids all;
  for (;;) {
    auto const some = claim(3);
    if (some.empty()) break;
    all.insert(all.end(), some.begin(), some.end());
    put(other, 0);
  }
  EXPECT_THAT(all, ElementsAreArray(mine));
}

// It was open in hi, so it belongs to the next window, although its rows are to be seen while this one is walked.
TEST_F(EngineSnapshot, ATransactionThatEndsInTheMiddleOfAWindowIsClaimedOnce) {
  auto late = open();
  auto other = open();
  auto jobs = put(other, 2);
  late.exec("begin");
  auto const mine = put(late, 2);
  for (auto const id : put(other, 3)) jobs.push_back(id);
  EXPECT_THAT(claim(1), ElementsAre(jobs.at(0)));  // hi is from now on one that lists the late transaction
  late.exec("commit");
  EXPECT_THAT(claim(1000), ElementsAre(jobs.at(1), jobs.at(2), jobs.at(3), jobs.at(4)));
  EXPECT_THAT(claim(1000), ElementsAreArray(mine));
  EXPECT_THAT(claim(1000), IsEmpty());
}

TEST_F(EngineSnapshot, CommitsOutOfOrderOfIds) {
  std::vector<Sql> sessions;
  std::vector<Ids> jobs;
  for (int i = 0; i < 6; ++i) {
    sessions.push_back(open());
    sessions.back().exec("begin");
    jobs.push_back(put(sessions.back(), 2));
  }
  auto other = open();
  pass_time(other);
  for (auto const i : {3U, 5U, 0U}) {
    sessions[i].exec("commit");
    EXPECT_THAT(claim(), ElementsAreArray(jobs[i])) << i;
  }
  for (auto const i : {4U, 1U, 2U}) sessions[i].exec("commit");
  Ids rest;
  for (auto const i : {1U, 2U, 4U}) rest.insert(rest.end(), jobs[i].begin(), jobs[i].end());
  EXPECT_THAT(claim(), ElementsAreArray(rest)) << "in order of transaction, then id";
}

TEST_F(EngineSnapshot, SavepointsAndRollbacks) {
  auto session = open();
  auto other = open();
  session.exec("begin");
  auto const kept = put(session)[0];
  session.exec("savepoint a");
  put(session, 2);
  session.exec("rollback to a; savepoint b");
  auto const nested = put(session)[0];
  session.exec("savepoint c");
  auto const deeper = put(session)[0];
  session.exec("release b");
  pass_time(other);
  session.exec("commit");
  EXPECT_THAT(claim(), ElementsAre(kept, nested, deeper));

  session.exec("begin");
  put(session, 3);
  pass_time(other);
  session.exec("rollback");
  EXPECT_THAT(claim(), IsEmpty());
}

TEST_F(EngineSnapshot, PreparedTransactions) {
  auto session = open();
  auto other = open();
  sql.rows("select bell($1)", array({lane()}));  // somebody sleeps: only `wake = off` lets it prepare
  session.exec("set posthouse.wake = off; begin");
  auto const mine = put(session, 2);
  std::string const name = "posthouse_" + database.name();
  session.exec("prepare transaction '" + name + "'");
  pass_time(other, 3);
  session.exec("commit prepared '" + name + "'");
  EXPECT_THAT(claim(), ElementsAreArray(mine));

  session.exec("begin");
  put(session);
  session.exec("prepare transaction '" + name + "'");
  pass_time(other);
  session.exec("rollback prepared '" + name + "'");
  EXPECT_THAT(claim(), IsEmpty());
}

// Two claims over the same rows would need the same cursor: the second one sees the first one's, even from a snapshot of
// before (lock and cursor are read in statements of their own).
TEST_F(EngineSnapshot, AClaimThatWaitedForTheLaneReadsTheNewCursor) {
  auto session = open();
  auto waiting = open();
  Hand inside(session, {.kinds = "{k}"});
  Hand waiter(waiting, {.kinds = "{k}"});
  auto const jobs = enqueue_some(4);
  session.exec("begin");
  EXPECT_THAT(ids(inside.claim(2)), ElementsAre(jobs.at(0), jobs.at(1)));
  auto answer = std::async(std::launch::async, [&] { return ids(waiter.claim(10)); });
  ASSERT_TRUE(waits_for_lock(sql, waiting.backend_pid()));
  session.exec("commit");
  EXPECT_THAT(answer.get(), ElementsAre(jobs.at(2), jobs.at(3)));
}

TEST_F(EngineSnapshot, TheFirstClaimOfALaneTakesWhatIsCommittedAndLeavesWhatIsOpen) {
  auto early = open();
  auto other = open();
  early.exec("begin");
  auto const open_job = numbers(early.column("select enqueue('fresh')"));
  auto const job = other.number("select enqueue('fresh')");
  Hand worker(sql, {.kinds = "{fresh}"});
  EXPECT_THAT(ids(worker.claim(10)), ElementsAre(job));
  EXPECT_THAT(ids(worker.claim(10)), IsEmpty());
  early.exec("commit");
  EXPECT_THAT(ids(worker.claim(10)), ElementsAreArray(open_job));
}

TEST_F(EngineSnapshot, AnEmptyClaimWritesNothingAndTakesNoTransactionId) {
  auto const before = sql.number("select count(*) from batch");
  EXPECT_THAT(
      sql.rows("with c as (select * from claim($1, $2, $3, 10, 10)) select pg_current_xact_id_if_assigned() from "
               "(select count(*) from c) q where pg_current_xact_id_if_assigned() is not null",
               worker_.id(), worker_.take_token(), array({lane()})),
      IsEmpty());
  EXPECT_EQ(sql.number("select count(*) from batch"), before);
}

// look() says exactly which lanes have work: a late transaction's, one that is claimed in part, none that is drained.
TEST_F(EngineSnapshot, LookIsExact) {
  auto const looks = [&] { return numbers(sql.column("select unnest(look($1))", worker_.id())); };
  auto late = open();
  auto other = open();
  EXPECT_THAT(looks(), IsEmpty());
  late.exec("begin");
  put(late, 2);
  EXPECT_THAT(looks(), IsEmpty());
  pass_time(other, 2);
  EXPECT_THAT(looks(), IsEmpty());
  late.exec("commit");
  EXPECT_THAT(looks(), ElementsAre(lane()));
  EXPECT_EQ(claim(1).size(), 1U);
  EXPECT_THAT(looks(), ElementsAre(lane())) << "one of two is left below the cursor's xmax";
  EXPECT_EQ(claim(1).size(), 1U);
  EXPECT_THAT(looks(), IsEmpty());
  put(other);
  EXPECT_THAT(looks(), ElementsAre(lane()));
}

}  // namespace
}  // namespace posthouse::test
