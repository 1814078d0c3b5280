// SPDX-License-Identifier: Apache-2.0
// A standby takes over under load, and the former primary comes back: whoever has seen the new timeline never works
// with the old one again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <set>

#include "pg/connection.hpp"
#include "support/database.hpp"
#include "support/outage.hpp"
#include "support/twin.hpp"

namespace posthouse::test {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

class OutageFailover : public OutageTest {
 protected:
  [[nodiscard]] DatabaseOptions both(Twin const& twin) const {
    return hurried(either(database.url(), twin.url(database.name())));
  }
  static void drop_all(Sql& sql) {
    sql.exec("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'posthouse'");
  }
  /// Changes with every claim.
  static std::string claims(Sql& sql) {
    return sql.one("select count(*) || ' ' || coalesce(max(token), 0) from posthouse.batch");
  }
  static std::string problem_of(DatabaseOptions const& options) {
    try {
      pg::Connection::open(options);
    } catch (Unavailable const& error) {
      return error.what();
    }
    return "connected";
  }

  TestServer& first{server};
};

TEST_F(OutageFailover, AFormerPrimaryIsRefused) {
  first.stop();
  auto twin = Twin::copy(first);
  auto const options = both(twin);
  first.start();
  // This process knows nothing of a failover yet.
  auto early = pg::Connection::open(options);
  auto const kept = [](pg::Connection& connection) {
    try {
      connection.query("select 1");
      return std::string("kept");
    } catch (Unavailable const& error) {
      return std::string(error.what());
    }
  };
  EXPECT_EQ(kept(*early), "kept");
  twin.promote();
  first.stop();
  EXPECT_EQ(problem_of(options), "connected") << "to the second of the two";
  early = pg::Connection::open(options);
  EXPECT_EQ(early->query("select pg_walfile_name(pg_current_wal_lsn())").text(0, 0).substr(0, 8), "00000002");

  first.start();
  Sql old(database.url(), 20s);
  old.exec("select posthouse.enqueue('outage', '0')");
  Load load({.database = options, .workers = 2, .backlog = 200});
  load.start();
  ASSERT_TRUE(load.runs(20));
  Sql now(twin.url(database.name()), 20s);
  for (int i = 0; i < 3; ++i) {
    drop_all(now);
    ASSERT_TRUE(load.runs(20));
  }
  twin.server().stop();
  EXPECT_TRUE(eventually([&] { return load.logged("it is a former primary that does not know"); }, 150s)) << load.log();
  twin.server().start();
  EXPECT_TRUE(load.recovers("former primary refused, the new one back", Load::Clock::now()));
  Sql again(twin.url(database.name()), 20s);
  expect_kept(load.finish(again));
  EXPECT_EQ(old.number("select count(*) from posthouse.worker"), 0);
  EXPECT_EQ(old.number("select count(*) from posthouse.jobs where state = 'available'"), 1);

  // Another program, or another URL, knows nothing of that: it is the operator who fences a former primary.
  DatabaseOptions alone;
  alone.database_url = database.url();
  EXPECT_EQ(problem_of(alone), "connected");
}

// A connection that was opened before anybody knew is given up as soon as another one of the process knows.
TEST_F(OutageFailover, OpenConnectionsToAFormerPrimaryAreGivenUp) {
  if (!long_run()) GTEST_SKIP() << "with scripts/test --long";
  first.stop();
  auto twin = Twin::copy(first);
  auto const options = both(twin);
  first.start();
  auto const early = pg::Connection::open(options);
  EXPECT_TRUE(early->ok());
  twin.promote();
  set("default_transaction_read_only = on");
  ASSERT_TRUE(eventually([&] { return Sql(first.url()).one("show default_transaction_read_only") == "on"; }));
  EXPECT_TRUE(pg::Connection::open(options)->ok()) << "the second of the two takes writes";
  EXPECT_FALSE(early->ok());
  try {
    early->query("select 1");
    FAIL() << "it was used";
  } catch (Unavailable const& error) {
    EXPECT_THAT(error.what(), HasSubstr("timeline 1, and timeline 2 of the same cluster has been seen"));
    EXPECT_FALSE(error.in_doubt());
  }
}

class OutageFailoverLong : public OutageFailover {
 protected:
  void SetUp() override {
    if (!long_run()) GTEST_SKIP() << "a streaming standby: with scripts/test --long";
  }
  void synchronous() {
    set("synchronous_standby_names = '*'");
    auto session = sql();
    ASSERT_TRUE(eventually(
        [&] { return session.number("select count(*) from pg_stat_replication where sync_state = 'sync'") == 1; },
        60s));
  }
  void comes_back_in_vain(Load& load, Twin& twin) {
    first.start();
    Sql old(database.url(), 60s);
    auto const before = claims(old);
    Sql now(twin.url(database.name()), 20s);
    for (int i = 0; i < 3; ++i) {
      drop_all(now);
      ASSERT_TRUE(load.runs(20));
    }
    EXPECT_EQ(claims(old), before);
  }
};

TEST_F(OutageFailoverLong, SynchronousStandbyTakesOverAndNothingIsLost) {
  auto twin = Twin::streaming(first);
  synchronous();
  Load load({.database = both(twin), .backlog = 1500});
  load.start();
  ASSERT_TRUE(load.runs(200));
  first.crash();
  twin.promote();
  EXPECT_TRUE(load.recovers("failover, synchronous", Load::Clock::now()));
  load.pile_up(300);
  comes_back_in_vain(load, twin);
  Sql after(twin.url(database.name()), 20s);
  expect_kept(load.finish(after));
}

TEST_F(OutageFailoverLong, AsynchronousStandbyLosesWhatItHadNotHeardOf) {
  auto twin = Twin::streaming(first);
  auto sql = Sql(database.url());
  Load load({.database = both(twin), .backlog = 800});
  load.start();
  ASSERT_TRUE(load.runs(100));
  // From here on the standby hears nothing more; what was there before, it knows.
  std::set<std::int64_t> ended;
  for (auto const& n : sql.column("select j.payload #>> '{}' from posthouse.job j join posthouse.jobs v using (id) "
                                  "where v.state = 'succeeded'")) {
    ended.insert(std::stoll(n));
  }
  auto const promised = load.highest();
  auto const lsn = sql.one("select pg_current_wal_flush_lsn()");
  Sql standby(twin.url(), 20s);
  ASSERT_TRUE(eventually([&] { return standby.truth("select pg_last_wal_replay_lsn() >= $1::pg_lsn", lsn); }, 60s));
  ::kill(static_cast<pid_t>(sql.number("select pid from pg_stat_replication")), SIGSTOP);
  ASSERT_TRUE(load.runs(100));
  first.crash();
  twin.promote();
  EXPECT_TRUE(load.recovers("failover, asynchronous", Load::Clock::now()));
  Sql after(twin.url(database.name()), 20s);
  auto const verdict = load.finish(after);
  std::printf("[   OUTAGE ] asynchronous: of %lld confirmed %zu were lost and %zu ran twice\n",
              static_cast<long long>(verdict.confirmed), verdict.lost.size(), verdict.doubled.size());
  for (auto const n : verdict.lost) EXPECT_GT(n, promised) << "it was there before the standby went deaf";
  for (auto const n : verdict.doubled) EXPECT_FALSE(ended.contains(n)) << n << " had ended before that";
  EXPECT_TRUE(verdict.uninvited.empty());
}

TEST_F(OutageFailoverLong, FrozenPrimaryThawsAfterTheFailover) {
  auto twin = Twin::streaming(first);
  synchronous();
  Load load({.database = both(twin), .backlog = 1500});
  load.start();
  ASSERT_TRUE(load.runs(200));
  first.freeze();
  twin.promote();
  EXPECT_TRUE(load.recovers("primary frozen, failover", Load::Clock::now()));
  first.thaw();
  Sql old(database.url(), 60s);
  // What was under way there ends, or waits for a standby that no longer follows.
  ASSERT_TRUE(eventually(
      [&] {
        return old.number(
                   "select count(*) from pg_stat_activity where application_name = 'posthouse' and state = 'active' "
                   "and wait_event is distinct from 'SyncRep'") == 0;
      },
      60s));
  auto const before = claims(old);
  Sql now(twin.url(database.name()), 20s);
  load.pile_up(300);
  for (int i = 0; i < 3; ++i) {
    drop_all(now);
    ASSERT_TRUE(load.runs(20));
  }
  EXPECT_EQ(claims(old), before);
  expect_kept(load.finish(now));
}

}  // namespace
}  // namespace posthouse::test
