// SPDX-License-Identifier: Apache-2.0
// The tests' own tools: the gate, child processes, databases, a server that crashes.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <chrono>
#include <string>
#include <thread>

#include "support/child_process.hpp"
#include "support/database.hpp"
#include "support/eventually.hpp"
#include "support/seed.hpp"
#include "support/server.hpp"
#include "support/sql.hpp"
#include "support/tcp_gate.hpp"

namespace posthouse::test {
namespace {

using namespace std::chrono_literals;
using Way = TcpGate::Way;

class GateTest : public ::testing::Test {
 protected:
  TestDatabase database{TestDatabase::empty};
  TcpGate gate{database.url()};
  Sql direct{database.url()};
};

TEST_F(GateTest, PassesEverything) {
  Sql sql(gate.url());
  EXPECT_EQ(sql.one("select repeat('x', 3000000)").size(), 3000000U);
  EXPECT_EQ(sql.one("select length($1)", std::string(3000000, 'y')), "3000000");
  EXPECT_EQ(gate.accepted(), 1);
  EXPECT_EQ(gate.open_connections(), 1);
  EXPECT_GT(gate.bytes(Way::to_client), 3000000U);
  sql.close();
  EXPECT_TRUE(eventually([&] { return gate.open_connections() == 0; }));
}

TEST_F(GateTest, CutEndsOpenConnectionsAndLetsNewOnesIn) {
  Sql sql(gate.url());
  gate.cut();
  EXPECT_THROW(sql.exec("select 1"), SqlError);
  EXPECT_EQ(Sql(gate.url()).one("select 1"), "1");
}

TEST_F(GateTest, RefuseKeepsNewOnesOut) {
  gate.refuse();
  EXPECT_THROW(Sql(gate.url()), SqlError);
  gate.accept();
  EXPECT_EQ(Sql(gate.url()).one("select 1"), "1");
}

TEST_F(GateTest, HangHoldsEverythingBackUntilItPasses) {
  Sql sql(gate.url());
  sql.exec("create table t (x int)");
  gate.hang(Way::to_client);
  std::jthread const writer([&] { sql.exec("insert into t values (1)"); });
  // The request went through; the answer is held back.
  EXPECT_TRUE(eventually([&] { return direct.one("select count(*) from t") == "1"; }));
  auto const before = gate.bytes(Way::to_client);
  EXPECT_TRUE(stays_true([&] { return gate.bytes(Way::to_client) == before; }, 50ms));
  gate.pass();
}

TEST_F(GateTest, HangToTheServerStopsTheRequest) {
  Sql sql(gate.url());
  direct.exec("create table t (x int)");
  gate.hang(Way::to_server);
  PQsendQuery(sql.connection(), "insert into t values (1)");
  EXPECT_TRUE(stays_true([&] { return direct.one("select count(*) from t") == "0"; }, 50ms));
  gate.pass();
  EXPECT_TRUE(eventually([&] { return direct.one("select count(*) from t") == "1"; }));
}

TEST_F(GateTest, DelayIsKeptEachWay) {
  Sql sql(gate.url());
  gate.delay(60ms);
  auto const before = std::chrono::steady_clock::now();
  sql.exec("select 1");
  EXPECT_GE(std::chrono::steady_clock::now() - before, 120ms);
  gate.pass();
  EXPECT_EQ(sql.one("select 1"), "1");
}

TEST_F(GateTest, CutAfterLeavesHalfAMessage) {
  Sql sql(gate.url());
  auto const before = gate.bytes(Way::to_client);
  gate.cut_after(1000, Way::to_client);
  EXPECT_THROW(sql.exec("select repeat('x', 100000)"), SqlError);
  EXPECT_EQ(gate.bytes(Way::to_client) - before, 1000U);
  EXPECT_TRUE(gate.sprung());
}

TEST_F(GateTest, LoseRequestKeepsItFromTheServer) {
  Sql sql(gate.url());
  sql.exec("create table t (x int)");
  gate.lose_request("insert into t");
  EXPECT_FALSE(gate.sprung());
  EXPECT_THROW(sql.exec("insert into t values (1)"), SqlError);
  EXPECT_TRUE(gate.sprung());
  EXPECT_EQ(direct.one("select count(*) from t"), "0");
}

TEST_F(GateTest, LoseReplyLetsTheServerDoIt) {
  Sql sql(gate.url());
  sql.exec("create table t (x int)");
  sql.exec("begin; insert into t values (1)");
  gate.lose_reply("commit");
  EXPECT_THROW(sql.exec("commit"), SqlError);
  EXPECT_TRUE(gate.sprung());
  EXPECT_EQ(direct.one("select count(*) from t"), "1");
  EXPECT_EQ(Sql(gate.url()).one("select 1"), "1");
}

TEST(ChildProcess, InputOutputAndStatus) {
  ChildProcess child({.argv = {"sh", "-c", "cat; echo $WORD >&2; exit 7"},
                      .environment = {{"WORD", "hello"}},
                      .input = std::string(1 << 20, 'x')});
  EXPECT_EQ(child.wait(), 7);
  EXPECT_EQ(child.output().size(), std::size_t{1} << 20);
  EXPECT_EQ(child.errors(), "hello\n");
}

TEST(ChildProcess, IsStoppedResumedAndKilled) {
  ChildProcess child({"sh", "-c", "trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.01; done"});
  ASSERT_TRUE(child.said("ready"));
  child.pause();
  child.terminate();
  EXPECT_EQ(child.wait(100ms), std::nullopt);
  child.resume();
  EXPECT_EQ(child.wait(), 3);
  EXPECT_EQ(child.output(), "ready\nterm\n");
  ChildProcess other({"sleep", "600"});
  EXPECT_TRUE(other.running());
  other.kill();
  EXPECT_EQ(other.wait(), 128 + 9);
}

TEST(Seeds, TheSameSeedGivesTheSameRun) {
  Seed one(42);
  Seed two(42);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(one.between(-5, 5), two.between(-5, 5));
  EXPECT_EQ(one.fork()(), two.fork()());
}

TEST(TestServers, ADurableOneComesBackFromACrashWithWhatWasCommitted) {
  TestServer server(TestServer::durable);
  TestDatabase const database(TestDatabase::empty, server);
  Sql sql(database.url());
  EXPECT_EQ(sql.one("show synchronous_commit"), "on");
  sql.exec("create table t (x int); insert into t values (1)");
  server.crash();
  EXPECT_THROW(sql.exec("select 1"), SqlError);
  server.start();
  EXPECT_EQ(database.connect().one("select x from t"), "1");
  server.restart_immediate();
  EXPECT_EQ(database.connect().one("select x from t"), "1");

  Sql frozen(database.url());
  server.freeze();
  PQsendQuery(frozen.connection(), "select 1");
  EXPECT_FALSE(eventually(
      [&] { return PQconsumeInput(frozen.connection()) == 1 && PQisBusy(frozen.connection()) == 0; }, 100ms));
  server.thaw();
  EXPECT_TRUE(
      eventually([&] { return PQconsumeInput(frozen.connection()) == 1 && PQisBusy(frozen.connection()) == 0; }));
}

TEST(TestServers, TheSharedOneIsNobodysToStop) { EXPECT_THROW(TestServer::shared().crash(), std::logic_error); }

class TestDatabaseTest : public DatabaseTest {};

TEST_F(TestDatabaseTest, HasTheSchemaAndNothingOfOthers) {
  EXPECT_EQ(sql.one("select count(*) from posthouse.jobs"), "0");
  sql.exec("select posthouse.enqueue('a')");
  TestDatabase const other;
  EXPECT_NE(other.name(), database.name());
  EXPECT_EQ(other.connect().one("select count(*) from posthouse.jobs"), "0");
  EXPECT_EQ(sql.one("select count(*) from posthouse.jobs"), "1");
}

TEST_F(TestDatabaseTest, AnotherSchemaNameHasATemplateOfItsOwn) {
  TestDatabase const other("Jobs of \"Ada\"");
  EXPECT_EQ(other.connect().one("select count(*) from \"Jobs of \"\"Ada\"\"\".jobs"), "0");
}

}  // namespace
}  // namespace posthouse::test
