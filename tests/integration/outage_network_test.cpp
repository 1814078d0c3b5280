// SPDX-License-Identifier: Apache-2.0
// The line to the server swallows everything, cuts connections in the middle of messages, or forgets the one that
// listens; and a pooler between us and the server is killed, paused, or loses its server.
#include <gtest/gtest.h>

#include <csignal>

#include "support/database.hpp"
#include "support/outage.hpp"
#include "support/pooler.hpp"
#include "support/seed.hpp"
#include "support/tcp_gate.hpp"

namespace posthouse::test {
namespace {

using namespace std::chrono_literals;

class OutageNetwork : public DatabaseTest {
 protected:
  TcpGate gate{database.url()};
};

TEST_F(OutageNetwork, BlackHole) {
  if (!long_run()) GTEST_SKIP() << "with scripts/test --long";
  Load load({.database = hurried(gate.url())});
  load.start();
  ASSERT_TRUE(load.runs(60));
  gate.hang();
  EXPECT_TRUE(eventually([&] { return load.logged("did not answer within"); }, 60s)) << load.log();
  EXPECT_TRUE(eventually([&] { return load.refused() >= 1; }, 60s));
  auto const back = Load::Clock::now();
  gate.pass();
  EXPECT_TRUE(load.recovers("black hole", back));
  expect_once(load.finish(sql));
}

TEST_F(OutageNetwork, CutInTheMiddleOfMessages) {
  Seed seed;
  Load load({.database = hurried(gate.url()), .backlog = 300});
  load.start();
  int const cuts = long_run() ? 1'000 : 20;
  for (int i = 0; i < cuts; ++i) {
    if (i % 10 == 0) load.pile_up(40);
    auto const way = seed.between(0, 1) == 0 ? TcpGate::Way::to_server : TcpGate::Way::to_client;
    gate.cut_after(static_cast<std::size_t>(seed.between(1, 400)), way);
    ASSERT_TRUE(eventually([&] { return gate.sprung(); }, 60s));
  }
  load.pile_up(300);
  EXPECT_TRUE(load.recovers(std::to_string(cuts) + " cuts in mid-message", Load::Clock::now()));
  expect_once(load.finish(sql));
}

// Nothing comes over it, and nothing has to: only its own notification shows that nothing could.
TEST_F(OutageNetwork, SilentListenerIsFoundOut) {
  if (!long_run()) GTEST_SKIP() << "half a minute: with scripts/test --long";
  auto options = hurried(database.url());
  options.session_database_url = gate.url();
  Load load({.database = options, .workers = 1, .backlog = 20, .between = 0ms});
  load.start();
  ASSERT_TRUE(load.runs(20));
  auto const listener = [&](std::string const& last) {
    auto const pids = sql.column(
        "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and query ~* "
        "$1",
        last);
    return pids.empty() ? std::string() : pids.front();
  };
  // It proves itself while it is well, and nobody complains.
  std::string well;
  EXPECT_TRUE(eventually([&] { return !(well = listener("'here'")).empty(); }, 60s));
  EXPECT_FALSE(load.logged("LISTEN connection"));
  gate.hang();
  EXPECT_TRUE(eventually([&] { return load.logged("LISTEN connection lost"); }, 60s));
  auto const back = Load::Clock::now();
  gate.pass();
  std::string next;
  EXPECT_TRUE(eventually(
      [&] {
        next = listener("^listen|'here'|keep|bell");
        return !next.empty() && next != well;
      },
      60s));
  load.pile_up(10);
  EXPECT_TRUE(load.recovers("LISTEN connection in a black hole", back));
  expect_once(load.finish(sql));
}

class OutagePooler : public DatabaseTest {
 protected:
  void SetUp() override {
    pooler = make_pooler(4);
    if (!pooler) GTEST_SKIP() << "pgbouncer is not installed";
  }
  [[nodiscard]] DatabaseOptions through() const {
    DatabaseOptions options;
    options.database_url = url_through(*pooler, database.name());
    options.pgbouncer_transaction_mode = true;
    options.connect_timeout = 1s;
    options.statement_timeout = 1s;
    return options;
  }
  std::unique_ptr<dev::Pooler> pooler;
};

TEST_F(OutagePooler, Killed) {
  if (!long_run()) GTEST_SKIP() << "with scripts/test --long";
  Load load({.database = through()});
  load.start();
  ASSERT_TRUE(load.runs(60));
  pooler->kill();
  EXPECT_TRUE(eventually([&] { return load.refused() >= 1; }, 60s));
  pooler->start();
  EXPECT_TRUE(load.recovers("pooler killed", Load::Clock::now()));
  expect_once(load.finish(sql));
}

TEST_F(OutagePooler, Paused) {
  if (!long_run()) GTEST_SKIP() << "with scripts/test --long";
  Load load({.database = through()});
  load.start();
  ASSERT_TRUE(load.runs(60));
  ::kill(pooler->pid(), SIGUSR1);  // PAUSE
  EXPECT_TRUE(eventually([&] { return load.refused() >= 1; }, 60s)) << "our own deadline, not query_wait_timeout";
  auto const back = Load::Clock::now();
  ::kill(pooler->pid(), SIGUSR2);  // RESUME
  EXPECT_TRUE(load.recovers("pooler paused", back));
  expect_once(load.finish(sql));
}

}  // namespace
}  // namespace posthouse::test
