// SPDX-License-Identifier: Apache-2.0
// The server is restarted, frozen, full of connections or out of room for notifications while workers and a producer go
// on: the same workers find back, and no job is lost or runs twice beyond what docs/reference/outages.md says.
#include <gtest/gtest.h>

#include <deque>

#include "support/database.hpp"
#include "support/outage.hpp"

namespace posthouse::test {
namespace {

using namespace std::chrono_literals;

using OutageServer = OutageTest;

TEST_F(OutageServer, RestartedInTheMiddle) {
  Load load({.database = database.options()});
  load.start();
  ASSERT_TRUE(load.runs(60));
  server.restart_immediate();
  EXPECT_TRUE(load.recovers("restart -m immediate", Load::Clock::now()));
  auto after = sql();
  expect_kept(load.finish(after));
}

TEST_F(OutageServer, DownForSomeSeconds) {
  if (!long_run()) GTEST_SKIP() << "with scripts/test --long";
  Load load({.database = database.options()});
  load.start();
  ASSERT_TRUE(load.runs(60));
  server.stop();
  // Long enough for the pauses between two tries to have grown.
  ASSERT_TRUE(eventually([&] { return load.refused() >= 1; }, 60s));
  std::this_thread::sleep_for(4s);
  server.start();
  EXPECT_TRUE(load.recovers("server down for some seconds", Load::Clock::now()));
  auto after = sql();
  expect_kept(load.finish(after));
}

TEST_F(OutageServer, Frozen) {
  if (!long_run()) GTEST_SKIP() << "with scripts/test --long";
  Load load({.database = hurried(database.url())});
  load.start();
  ASSERT_TRUE(load.runs(60));
  server.freeze();
  // Neither an answer nor the end of a connection: our own deadlines end it.
  EXPECT_TRUE(eventually([&] { return load.logged("did not answer within"); }, 60s)) << load.log();
  EXPECT_TRUE(eventually([&] { return load.refused() >= 1; }, 60s));
  auto const thawed = Load::Clock::now();
  server.thaw();
  EXPECT_TRUE(load.recovers("server frozen (SIGSTOP)", thawed));
  auto after = sql();
  expect_once(load.finish(after));
}

// The worker keeps its lease on the connections that it has, and claims again when there is room.
TEST_F(OutageServer, SlotsExhausted) {
  if (!long_run()) GTEST_SKIP() << "with scripts/test --long";
  set("max_connections = 14");
  set("autovacuum = off");
  server.stop();
  server.start();
  Load load({.database = database.options(), .workers = 1, .backlog = 300, .pause = 20ms, .between = 0ms});
  load.start();
  ASSERT_TRUE(load.runs(20));
  auto observer = sql();
  std::deque<Sql> others;
  auto const take_all = [&] {
    try {
      for (;;) others.emplace_back(database.url());
    } catch (SqlError const&) {
    }
  };
  take_all();
  auto const beats = [&] { return observer.number("select count(*) from posthouse.heartbeat"); };
  // The connection over which it claims goes, and somebody takes the place.
  ASSERT_TRUE(eventually(
      [&] {
        observer.rows(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'posthouse' and query ~ "
            "'(claim|finish)' and query !~ 'beat|listen'");
        take_all();
        return load.logged("too many clients");
      },
      60s))
      << load.log();
  auto const known = beats();
  EXPECT_TRUE(eventually([&] { return beats() > known + 2; }, 60s)) << "no more heartbeats";
  EXPECT_EQ(observer.number("select count(*) from posthouse.worker where ended_at is not null"), 0);
  auto const freed = Load::Clock::now();
  others.clear();
  EXPECT_TRUE(load.recovers("connection slots exhausted", freed));
  expect_once(load.finish(observer));
}

// As engine_notify_test has it, where a real queue is filled under --long.
TEST_F(OutageServer, NoRoomForNotifications) {
  if (!long_run()) GTEST_SKIP() << "with scripts/test --long";
  Load load({.database = database.options(), .backlog = 300});
  load.start();
  ASSERT_TRUE(load.runs(30));
  auto admin = sql();
  auto const original = admin.one("select pg_get_functiondef('posthouse.may_notify()'::regprocedure)");
  auto full = original;
  std::string const asks = "pg_notification_queue_usage()";
  ASSERT_NE(full.find(asks), std::string::npos);
  admin.exec(full.replace(full.find(asks), asks.size(), "0.9::float8"));
  ASSERT_TRUE(load.runs(300)) << "the backlog, and what comes one by one";
  admin.exec(original);
  load.pile_up(100);
  EXPECT_TRUE(load.recovers("NOTIFY queue full (simulated)", Load::Clock::now()));
  expect_once(load.finish(admin));
}

}  // namespace
}  // namespace posthouse::test
