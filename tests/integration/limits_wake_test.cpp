// SPDX-License-Identifier: Apache-2.0
// Who waits for a limit is notified when there is room in it, and nobody else is notified of anything.
#include <gmock/gmock.h>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class LimitsWake : public EngineTest {
 protected:
  LimitsWake() {
    waiter_.exec("listen \"" + sql.one("select channel()") + "\"");
    sql.rows("select set_limit('queue', 'default', 2)");
  }
  /// What transactions that have ended by now have notified, but for lanes that were used first.
  std::vector<std::string> heard() {
    waiter_.exec("select 1");
    std::vector<std::string> payloads;
    while (PGnotify* const message = PQnotifies(waiter_.connection())) {
      payloads.emplace_back(message->extra);
      PQfreemem(message);
    }
    std::erase(payloads, "new");
    return payloads;
  }
  /// Ends a batch and claims what there is in the same call.
  std::vector<Claimed> finish_and_claim(Hand& hand, std::int64_t token, int n) {
    auto const next = hand.take_token();
    return claimed_rows(sql.rows(
        "select token, lane, pos, id, attempt from finish_and_claim($1, $2, '{null}', '{1}', null, $3, null, $4, "
        "$4) where pos >= 0",
        hand.id(), array({token}), next, n));
  }

  Sql waiter_ = open();
};

TEST_F(LimitsWake, RoomIsToldToWhoWaitsForIt) {
  enqueue_some(3);
  Hand hand(sql);
  auto const first = hand.claim(1);
  auto const second = hand.claim(1);
  ASSERT_THAT(hand.claim(1), IsEmpty());
  hand.finish(first.at(0).token);
  EXPECT_THAT(heard(), Not(Contains("limit"))) << "nobody waits";
  auto const third = hand.claim(1);
  waiter_.exec("select limit_bell(true)");
  hand.finish(second.at(0).token);
  EXPECT_THAT(heard(), ElementsAre("limit"));
  hand.finish(second.at(0).token);
  waiter_.exec("select limit_bell(false)");
  hand.finish(third.at(0).token);
  heard();
  enqueue();
  hand.finish(hand.claim(1).at(0).token);
  EXPECT_THAT(heard(), Not(Contains("limit")));
  EXPECT_EQ(sql.number("select count(*) from pg_locks where locktype = 'advisory' and pid = $1", waiter_.backend_pid()),
            0);
}

TEST_F(LimitsWake, WhoTakesTheRoomItselfTellsNobody) {
  enqueue_some(3);
  Hand hand(sql);
  auto const first = hand.claim(2);
  ASSERT_THAT(first, SizeIs(2));
  waiter_.exec("select limit_bell(true)");
  heard();
  auto const next = finish_and_claim(hand, first[0].token, 2);
  EXPECT_THAT(next, SizeIs(1));
  EXPECT_THAT(heard(), ElementsAre("limit")) << "of two it took one";
  enqueue_some(3);
  auto const more = hand.claim(1);
  ASSERT_THAT(more, SizeIs(1));
  EXPECT_THAT(finish_and_claim(hand, more[0].token, 1), SizeIs(1));
  EXPECT_THAT(heard(), IsEmpty());
}

TEST_F(LimitsWake, JobsThatNoLimitCountsTellNobody) {
  sql.rows("select enqueue('k', queue => 'free')");
  Hand hand(sql);
  auto const free = hand.claim(1);
  waiter_.exec("select limit_bell(true)");
  heard();
  hand.finish(free.at(0).token);
  EXPECT_THAT(heard(), IsEmpty());
}

// The race of a bell that is just put on is closed by the try after it: a finish that missed it has committed before, or
// the one who waits sees the room.
TEST_F(LimitsWake, ABellWaitsForNobody) {
  enqueue();
  Hand hand(sql);
  auto const job = hand.claim(1);
  auto other = open();
  hand.use(other);
  other.exec("begin");
  hand.finish(job.at(0).token);
  waiter_.exec("set lock_timeout = '1s'; select limit_bell(true)");
  other.exec("commit");
  EXPECT_EQ(sql.number("select limit_running('queue', 'default')"), 0);
}

}  // namespace
}  // namespace posthouse::test
