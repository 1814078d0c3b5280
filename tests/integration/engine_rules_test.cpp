// SPDX-License-Identifier: Apache-2.0
// The mark that tells claims of one job, without a query, whether any limit or pause is in force.
#include <gmock/gmock.h>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

class EngineRules : public EngineTest {
 protected:
  bool marked() { return sql.truth("select has_rules()"); }
  void prune() { sql.rows("select prune()"); }
};

TEST_F(EngineRules, EveryLimitAndEveryPauseIsMarked) {
  std::pair<std::string, std::string> const rules[] = {
      {"select pause_queue('default')", "select resume_queue('default')"},
      {"select pause_kind('k')", "select resume_kind('k')"},
      {"select set_limit('kind', 'k', 2)", "select reset_limit('kind', 'k')"},
      {"select set_limit('queue', 'default', null, 2)", "select reset_limit('queue', 'default')"},
      {"select set_limit('all', '', 2)", "select reset_limit('all', '')"},
      {"select * from declare_limits('[{\"scope\": \"kind\", \"name\": \"k\", \"concurrency\": 1}]', 'w')",
       "select * from declare_limits('[{\"scope\": \"kind\", \"name\": \"k\"}]', 'w')"}};
  for (auto const& [set, undo] : rules) {
    EXPECT_FALSE(marked()) << set;
    sql.exec(set);
    EXPECT_TRUE(marked()) << set;
    prune();
    EXPECT_TRUE(marked()) << set << ": it is still in force";
    sql.exec(undo);
    prune();
  }
  EXPECT_FALSE(marked());
}

TEST_F(EngineRules, TheMarkIsSeenBeforeTheRuleIsAndStaysUntilItsCommit) {
  Sql other = open();
  other.exec("begin; select pause_kind('k')");
  EXPECT_TRUE(marked()) << "seen before the commit";
  prune();
  EXPECT_TRUE(marked()) << "somebody is just about to pause";
  other.exec("commit");
  prune();
  EXPECT_TRUE(marked());
}

TEST_F(EngineRules, ARuleThatIsRolledBackLeavesNothingForLong) {
  Sql other = open();
  other.exec("begin; select set_limit('kind', 'k', 1); rollback");
  EXPECT_TRUE(marked());
  prune();
  EXPECT_FALSE(marked());
}

TEST_F(EngineRules, OneJobAtATimeObeysARuleThatComesAndGoes) {
  Hand hand(sql);
  enqueue_some(6);
  auto const at = lane();
  auto const token = hand.claim(1).at(0).token;
  sql.exec("select pause_kind('k')");
  EXPECT_THAT(hand.claim_one(at, token), IsEmpty());
  sql.exec("select resume_kind('k')");
  EXPECT_THAT(hand.claim_one(at), SizeIs(1));
  sql.exec("select set_limit('kind', 'k', 2)");
  EXPECT_THAT(hand.claim_one(at), SizeIs(1));
  auto const blocked = hand.claim_one(at);
  ASSERT_THAT(blocked, SizeIs(1));
  EXPECT_EQ(blocked.at(0).position, -2) << "two are running";
  sql.exec("select reset_limit('kind', 'k')");
  prune();
  EXPECT_FALSE(marked());
  EXPECT_THAT(hand.claim_one(at), SizeIs(1));
}

}  // namespace
}  // namespace posthouse::test
