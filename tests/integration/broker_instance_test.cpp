// SPDX-License-Identifier: Apache-2.0
// One broker a database: registration, signs of life, takeover, the orderly end.
#include <gmock/gmock.h>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class EngineBrokerInstance : public EngineTest {
 protected:
  static std::int64_t add(Sql& session, std::string const& name, int pid = 1) {
    return session.number("select broker_register_instance($1, 'here', $2, '1.0', 4)", name, pid);
  }
  static bool ping(Sql& session, std::int64_t id, bool hold) {
    return session.truth("select broker_ping_instance($1, $2)", id, hold);
  }
  std::vector<std::string> statuses() {
    return sql.column("select name || ' ' || status from broker_queueinstance order by id");
  }
  void age(std::int64_t id, std::string const& by) {
    sql.rows("update broker_instance set last_ping_at = last_ping_at - $2::interval where id = $1", id, by);
  }
};

TEST_F(EngineBrokerInstance, ASecondOneIsRefusedAndToldWhoHasIt) {
  auto const id = add(sql, "first", 4711);
  auto other = open();
  EXPECT_THAT(refusal_of("select broker_register_instance('second', 'there', 2, '1.0', 4)"),
              AllOf(HasSubstr("55006"), HasSubstr("served by broker first on here, process 4711, since 2")));
  EXPECT_TRUE(ping(sql, id, false));
  EXPECT_THAT(statuses(), ElementsAre("first active"));
}

TEST_F(EngineBrokerInstance, TheEndOfTheSessionIsTheEndOfTheBroker) {
  auto first = open();
  auto const id = add(first, "first");
  EXPECT_TRUE(ping(first, id, true));
  EXPECT_TRUE(ping(first, id, true));
  EXPECT_EQ(sql.number("select count(*) from pg_locks where locktype = 'advisory' and pid = $1", first.backend_pid()),
            1);
  EXPECT_THAT(refusal_of("select broker_register_instance('second', 'there', 2, '1.0', 4)"), HasSubstr("55006"));
  auto const backend = first.backend_pid();
  first.close();
  ASSERT_TRUE(
      eventually([&] { return sql.number("select count(*) from pg_stat_activity where pid = $1", backend) == 0; }));
  auto const second = add(sql, "second");
  EXPECT_GT(second, id);
  EXPECT_FALSE(ping(sql, id, true));
  EXPECT_TRUE(ping(sql, second, true));
  EXPECT_THAT(statuses(), ElementsAre("first lost", "second active"));
}

TEST_F(EngineBrokerInstance, WithoutASessionSilenceCounts) {
  auto const id = add(sql, "first");
  age(id, "14 s");
  EXPECT_THAT(refusal_of("select broker_register_instance('second', 'there', 2, '1.0', 4)"), HasSubstr("55006"));
  age(id, "2 s");
  EXPECT_THAT(statuses(), ElementsAre("first silent"));
  EXPECT_TRUE(ping(sql, id, false)) << "nobody took its place";
  age(id, "16 s");
  add(sql, "second");
  EXPECT_FALSE(ping(sql, id, false));
}

// As a broker that is stopped by SIGSTOP: its session lives.
TEST_F(EngineBrokerInstance, ASilentSessionDoesNotHoldTheDatabaseForEver) {
  auto first = open();
  auto const id = add(first, "first");
  ping(first, id, true);
  age(id, "16 s");
  auto const second = add(sql, "second");
  EXPECT_TRUE(ping(sql, second, true));
  EXPECT_FALSE(ping(first, id, true));
  EXPECT_EQ(sql.one("select in_session from broker_instance where id = $1", second), "f")
      << "the old session holds the lock";
  first.close();
  ASSERT_TRUE(eventually([&] {
    ping(sql, second, true);
    return sql.truth("select in_session from broker_instance where id = $1", second);
  }));
}

TEST_F(EngineBrokerInstance, ShutDownFreesTheDatabase) {
  auto const id = add(sql, "first");
  EXPECT_TRUE(sql.truth("select broker_shutdown_instance($1)", id));
  EXPECT_FALSE(sql.truth("select broker_shutdown_instance($1)", id));
  EXPECT_FALSE(sql.truth("select broker_shutdown_instance(999999)"));
  EXPECT_FALSE(ping(sql, id, false));
  add(sql, "second");
  EXPECT_THAT(statuses(), ElementsAre("first stopped", "second active"));
}

TEST_F(EngineBrokerInstance, OfManyAtOnceOneGetsIt) {
  constexpr int sessions = 8;
  for (int round = 0; round < 5; ++round) {
    std::vector<Sql> many;
    for (int i = 0; i < sessions; ++i) many.push_back(open());
    std::vector<std::future<bool>> tries;
    tries.reserve(sessions);
    for (auto& session : many) {
      tries.push_back(std::async(std::launch::async, [&session] {
        return session.sqlstate_of("select broker_register_instance('one', 'of', 3, '1', 4)").empty();
      }));
    }
    int won = 0;
    for (auto& one : tries) won += one.get() ? 1 : 0;
    EXPECT_EQ(won, 1);
    sql.exec("select broker_shutdown_instance(id) from broker_queueinstance where status = 'active'");
  }
}

TEST_F(EngineBrokerInstance, BadInputIsNamed) {
  EXPECT_THAT(refusal_of("select broker_register_instance('', 'h', 1, '1', 4)"),
              HasSubstr("name, host, pid or version"));
  EXPECT_THAT(refusal_of("select broker_register_instance('b', 'h', null, '1', 4)"), HasSubstr("22023"));
  EXPECT_THAT(refusal_of("select broker_register_instance('b', 'h', 1, '1', 1001)"), HasSubstr("queue_count is 1001"));
  EXPECT_THAT(refusal_of("select broker_register_instance('b', 'h', 1, '1', null)"), HasSubstr("queue_count is null"));
  EXPECT_THAT(refusal_of("select broker_ping_instance(1, false, -1)"), HasSubstr("queue_count is -1"));
  EXPECT_THAT(refusal_of("begin isolation level repeatable read; select broker_register_instance('b', 'h', 1, '1', 4)"),
              HasSubstr("25001"));
}

}  // namespace
}  // namespace posthouse::test
