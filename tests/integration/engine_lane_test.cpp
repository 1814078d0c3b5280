// SPDX-License-Identifier: Apache-2.0
// Lanes: how they come to be, who waits for whom then (nobody), and their bounds.
#include <gmock/gmock.h>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAreArray;

class EngineLane : public EngineTest {
 protected:
  /// A session whose statements fail instead of waiting.
  Sql impatient() const {
    auto session = open();
    session.exec("set lock_timeout = '1ms'");
    return session;
  }
  std::string message(Sql& session, std::string const& statement) {
    try {
      session.exec(statement);
    } catch (SqlError const& error) {
      return error.sqlstate() + " " + error.what();
    }
    return "";
  }
};

class EngineLaneFirstUse : public EngineLane, public ::testing::WithParamInterface<std::tuple<bool, bool, bool>> {};

TEST_P(EngineLaneFirstUse, OfTwoTransactionsNeitherWaitsAndNothingIsLost) {
  auto const [second_ends_first, first_commits, second_commits] = GetParam();
  auto first = impatient();
  auto second = impatient();
  Ids committed;
  first.exec("begin");
  second.exec("begin");
  // Two kinds in opposite order: rows with a unique key would deadlock here.
  auto const a1 = first.number("select enqueue('a')");
  auto const b1 = second.number("select enqueue('b')");
  auto const b2 = first.number("select enqueue('b')");
  auto const a2 = second.number("select enqueue('a')");
  if (first_commits) committed.insert(committed.end(), {a1, b2});
  if (second_commits) committed.insert(committed.end(), {b1, a2});
  auto const end = [](Sql& session, bool commit) { session.exec(commit ? "commit" : "rollback"); };
  Hand early(sql, {.kinds = "{a,b}"});
  Ids claimed;
  auto const claim = [&] {
    for (auto const id : ids(early.claim(10))) claimed.push_back(id);
  };
  claim();
  EXPECT_THAT(claimed, IsEmpty());
  end(second_ends_first ? second : first, second_ends_first ? second_commits : first_commits);
  claim();
  end(second_ends_first ? first : second, second_ends_first ? first_commits : second_commits);
  claim();
  claim();
  EXPECT_THAT(claimed, UnorderedElementsAreArray(committed));
}

INSTANTIATE_TEST_SUITE_P(Orders, EngineLaneFirstUse,
                         ::testing::Combine(::testing::Bool(), ::testing::Bool(), ::testing::Bool()));

TEST_F(EngineLane, TheFoldOfAWorkerNeverWaitsForAProducerNorAProducerForIt) {
  auto producer = impatient();
  auto worker = impatient();
  producer.exec("begin");
  producer.exec("select enqueue('new')");
  Hand hand(worker, {.kinds = "{new}"});
  EXPECT_THAT(hand.claim(10), IsEmpty());
  auto other = impatient();
  auto const id = other.number("select enqueue('new')");
  worker.exec("begin");
  EXPECT_THAT(ids(hand.claim(10)), ElementsAre(id));  // has folded, and is open
  auto const late = other.number("select enqueue('new')");
  producer.exec("select enqueue('new'); commit");
  worker.exec("commit");
  EXPECT_EQ(hand.claim(10).size(), 3U);
  EXPECT_GT(late, id);
  EXPECT_EQ(sql.number("select count(*) from lane where kind = 'new'"), 1);
  EXPECT_EQ(sql.number("select count(*) from lane_seen"), 0);
}

// The rollback of the transaction that used a lane first takes nothing away that others rely on.
TEST_F(EngineLane, ARollbackOfTheFirstUseLeavesTheLaneUsable) {
  auto first = open();
  auto second = open();
  first.exec("begin; select enqueue('k')");
  auto const id = second.number("select enqueue('k')");
  first.exec("rollback");
  Hand hand(sql);
  EXPECT_THAT(ids(hand.claim(10)), ElementsAre(id));
}

// An operator's transaction that calls retry and stays open must not stop those who need the same express lane.
TEST_F(EngineLane, AnOpenTransactionWithRetryHoldsUpNobody) {
  auto const ids_of = numbers(sql.column("select enqueue('k', delay => '1 hour') from generate_series(1, 3)"));
  auto operator_ = open();
  operator_.exec("begin");
  ASSERT_TRUE(operator_.truth("select retry($1)", ids_of[0]));  // needs the twin of a lane that nobody has folded
  auto worker = impatient();
  Hand hand(worker);
  auto const now = enqueue();
  auto const got = hand.claim(10, 1);
  EXPECT_THAT(ids(got), ElementsAre(now));
  EXPECT_THAT(hand.finish(got.at(0).token, "1", 1, "[" + move_of(got.at(0), "release") + "]"), IsEmpty());
  worker.exec("update deferred set due_at = now() where id = " + std::to_string(ids_of[1]));
  EXPECT_EQ(worker.number("select promote()"), 1);
  EXPECT_THAT(ids(hand.claim(10)), UnorderedElementsAreArray({now, ids_of[1]}));
  operator_.exec("commit");
  EXPECT_THAT(ids(hand.claim(10)), ElementsAre(ids_of[0]));
}

TEST_F(EngineLane, MoreThan256PrioritiesOfAKindAreRefusedAndTheKindIsNamed) {
  // No worker has folded any of them yet.
  EXPECT_EQ(sql.column("select enqueue('busy', priority => i) from generate_series(1, 256) i").size(), 256U);
  EXPECT_THAT(message(sql, "select enqueue('busy', priority => 257)"),
              ::testing::AllOf(HasSubstr("54000"), HasSubstr("kind busy in queue default has 256 priorities")));
  EXPECT_THAT(message(sql, "select open_lane('busy', 'default', 258)"), HasSubstr("kind busy"));
  EXPECT_THAT(message(sql, R"(select enqueue_many('[{"kind":"other"},{"kind":"busy","priority":259}]'))"),
              ::testing::AllOf(HasSubstr("element 1"), HasSubstr("kind busy")));
  Hand hand(sql, {.kinds = "{busy}"});
  hand.claim(1);
  EXPECT_THAT(message(sql, "select enqueue('busy', priority => 257)"), HasSubstr("kind busy in queue default has 256"));
  EXPECT_EQ(sql.sqlstate_of("select enqueue('busy', priority => 256)"), "");
  EXPECT_EQ(sql.sqlstate_of("select enqueue('busy', queue => 'other', priority => 257)"), "")
      << "the bound is a queue's";
  EXPECT_EQ(sql.number("select count(*) from jobs where kind = 'busy' and priority = 257 and queue = 'default'"), 0);
}

TEST_F(EngineLane, ExpressLanesDoNotCountAsPriorities) {
  sql.column("select enqueue('busy', priority => i) from generate_series(1, 256) i");
  sql.column("select retry(enqueue('busy', priority => i, delay => '1 hour')) from generate_series(1, 256) i");
  Hand hand(sql, {.kinds = "{busy}"});
  hand.claim(1);
  EXPECT_EQ(sql.number("select count(*) from lane where kind = 'busy'"), 512);
  EXPECT_EQ(sql.sqlstate_of("select enqueue('busy', priority => 17)"), "");
}

TEST_F(EngineLane, TooManyLanesAreRefused) {
  sql.exec("insert into lane select -i, 'q', 'kind' || i, 0, false from generate_series(1, 200000) i");
  EXPECT_THAT(message(sql, "select enqueue('one_more')"),
              ::testing::AllOf(HasSubstr("54000"), HasSubstr("kind one_more is one too many")));
}

TEST_F(EngineLane, IdsAreTheFirst64BitsOfTheHashThatAnyoneCanCompute) {
  EXPECT_EQ(sql.number("select ('x' || left(encode(sha256('default k 0'), 'hex'), 16))::bit(64)::bigint"), lane());
  EXPECT_EQ(sql.number("select ('x' || left(encode(sha256('mail a/b -7 express'), 'hex'), 16))::bit(64)::bigint"),
            lane("a/b", -7, true, "mail"));
}

TEST_F(EngineLane, AHashThatMeetsAnotherIsAnErrorAndNotAMixUp) {
  sql.exec("insert into lane values (lane_of('default', 'k', 0, false), 'default', 'somebody_else', 0, false)");
  EXPECT_THAT(message(sql, "select enqueue('k')"), HasSubstr("same hash as kind somebody_else"));
}

TEST_F(EngineLane, BadNamesAreRefusedByEveryWayIn) {
  std::string const longest(100, 'x');
  EXPECT_EQ(sql.sqlstate_of("select enqueue('" + longest + "', null, '" + longest + "')"), "");
  for (std::string const& name :
       {std::string("''"), std::string("' '"), std::string("'.a'"), std::string("'a b'"), std::string("E'a\\n'"),
        std::string("'é'"), std::string("'a;drop table job'"), "'" + longest + "x'", std::string("null")}) {
    for (std::string const& call :
         {"select enqueue(" + name + ")", "select enqueue('k', null, " + name + ")",
          "select enqueue_bytes(" + name + ", 'x')", "select open_lane(" + name + ")",
          "select open_lane('k', " + name + ")",
          "select enqueue_many(jsonb_build_array(jsonb_build_object('kind', " + name + "::text)))"}) {
      auto const state = sql.sqlstate_of(call);
      EXPECT_TRUE(state == "22023" || state == "22004") << call << ": " << state;
    }
    if (name == "null") continue;  // in an element, null is as if the name were not there
    EXPECT_EQ(sql.sqlstate_of("select enqueue_many(jsonb_build_array(jsonb_build_object('kind', 'k', 'queue', " + name +
                              "::text)))"),
              "22023")
        << name;
  }
  EXPECT_EQ(sql.sqlstate_of("select enqueue('k', priority => null)"), "22004");
  EXPECT_EQ(sql.number("select count(*) from job"), 1);
}

}  // namespace
}  // namespace posthouse::test
