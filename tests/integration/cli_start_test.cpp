// SPDX-License-Identifier: Apache-2.0
// `posthouse start`: signals, exit status, systemd, takeover after a crash.
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstdlib>

#include "cli_fixture.hpp"

namespace posthouse::test {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;

class CliStart : public CliTest {
 protected:
  CliStart() {
    environment["POSTHOUSE_HEARTBEAT_INTERVAL_MS"] = "300";
    environment["POSTHOUSE_CLAIM_LEASE_MS"] = "2000";
    sql.exec("create table ran (job bigint, at timestamptz default clock_timestamp())");
  }
  std::string config(std::string const& more = {}) {
    return folder.write("broker.yaml",
                        "databases:\n  - {name: one, database_url: \"" + database.url() + "\"}\n" + more);
  }
  void add(int n, std::string const& before = {}) {
    sql.rows(
        "select posthouse.broker_add_job('j', $2 || 'insert into ran values "
        "(current_setting(''posthouse.job_id'')::bigint)') "
        "from generate_series(1, $1)",
        n, before);
  }
  std::int64_t ran() { return sql.number("select count(*) from ran"); }
  auto served() {
    return eventually(
        [&] { return sql.number("select count(*) from posthouse.broker_queueinstance where status = 'active'") == 1; });
  }

  TestDatabase database{};
  Sql sql{database.url()};
};

TEST_F(CliStart, RunsJobsAndDrainsAtSigterm) {
  auto broker = start({"start", "--config", config()});
  ASSERT_TRUE(broker.said("broker started"));
  EXPECT_THAT(broker.errors(), HasSubstr("{\"time\":")) << "json unless told otherwise";
  add(3);
  EXPECT_TRUE(eventually([&] { return ran() == 3; }));
  add(1, "select pg_sleep(0.5); ");
  ASSERT_TRUE(
      eventually([&] { return sql.number("select count(*) from posthouse.jobs where state = 'running'") == 1; }));
  broker.terminate();
  EXPECT_EQ(broker.wait(), 0);
  EXPECT_EQ(ran(), 4) << "what runs may finish";
  EXPECT_EQ(sql.one("select status from posthouse.broker_queueinstance"), "stopped");
}

TEST_F(CliStart, ASecondSignalStopsAtOnce) {
  auto broker = start({"start", "--config", config()});
  ASSERT_TRUE(broker.said("broker started"));
  add(1, "select pg_sleep(60); ");
  ASSERT_TRUE(
      eventually([&] { return sql.number("select count(*) from posthouse.jobs where state = 'running'") == 1; }));
  broker.terminate();
  ASSERT_TRUE(broker.said("broker stops: running jobs may finish"));
  broker.terminate();
  EXPECT_EQ(broker.wait(30s), 0);
  EXPECT_EQ(ran(), 0);
  EXPECT_EQ(sql.number("select count(*) from posthouse.jobs where state in ('available', 'scheduled', 'retryable')"), 1)
      << sql.one("select state from posthouse.jobs");
}

TEST_F(CliStart, ASecondBrokerEndsWithStatusOneAndNamesTheFirst) {
  auto first = start({"start", "--config", config()});
  ASSERT_TRUE(first.said("broker started"));
  auto const second = run({"start", "--config", config()});
  EXPECT_EQ(second.status, 1);
  EXPECT_THAT(second.err, AllOf(HasSubstr("served by broker pgsql-broker on "),
                                HasSubstr("process " + std::to_string(first.pid())), HasSubstr("--standby")));
}

TEST_F(CliStart, AStandbyTakesOverWhenTheFirstIsKilled) {
  auto first = start({"start", "--config", config()});
  ASSERT_TRUE(first.said("broker started"));
  ASSERT_TRUE(eventually([&] { return sql.truth("select in_session from posthouse.broker_instance"); }));
  auto second = start({"start", "--standby", "--config", config()});
  ASSERT_TRUE(second.said("database has another broker"));
  // Two jobs of the queue at once would meet at the lock, which the second one is refused.
  constexpr int jobs = 60;
  add(jobs,
      "do $$ begin if not pg_try_advisory_xact_lock(4711) then raise 'two at once'; end if; end $$; select "
      "pg_sleep(0.02); ");
  ASSERT_TRUE(eventually([&] { return ran() >= 5; }));
  first.kill();
  EXPECT_TRUE(second.said("database is served"));
  ASSERT_TRUE(eventually(
      [&] { return sql.number("select count(*) from posthouse.jobs where state in ('succeeded', 'failed')") == jobs; },
      60s));
  EXPECT_EQ(sql.number("select count(*) from posthouse.attempt_error where message like '%two at once%'"), 0);
  EXPECT_EQ(sql.number("select count(*) from (select from ran group by job having count(*) > 1) q"), 0);
  EXPECT_GE(ran(), jobs - 1) << "at most the one that ran then is lost, and says so";
  EXPECT_EQ(sql.one("select string_agg(status, ' ' order by id) from posthouse.broker_queueinstance"), "lost active");
}

// Jobs are there all the time, in four queues of which each runs three at once. All ends are orderly, so nothing may run
// again, and every statement that ran to its end is a row.
TEST_F(CliStart, RestartsUnderLoadLoseAndRepeatNothing) {
  int const restarts = std::getenv("POSTHOUSE_TEST_LONG") == nullptr ? 4 : 100;
  auto const file = config("broker: {queue_concurrency: 3}\n");
  constexpr int each_time = 200;
  constexpr int at_least = 20;
  std::int64_t added = 0;
  for (int i = 0; i < restarts; ++i) {
    auto broker = start({"start", "--config", file});
    ASSERT_TRUE(broker.said("broker started")) << i;
    sql.rows(
        "select posthouse.broker_add_job('j', 'select pg_sleep(0.002); insert into ran values "
        "(current_setting(''posthouse.job_id'')::bigint)', 1 + n % 4) from generate_series(1, $1) n",
        each_time);
    added += each_time;
    auto const before = ran();
    ASSERT_TRUE(eventually([&] { return ran() >= std::min(added, before + at_least); })) << i;
    broker.terminate();
    ASSERT_EQ(broker.wait(30s), 0) << i << ": " << broker.errors();
    EXPECT_EQ(sql.number("select count(*) from posthouse.jobs where state = 'running'"), 0) << i;
    EXPECT_EQ(sql.number("select count(*) from posthouse.jobs where state = 'succeeded'"), ran()) << i;
  }
  auto broker = start({"start", "--config", file});
  EXPECT_TRUE(eventually([&] { return ran() == added; }, 60s)) << ran() << " of " << added;
  EXPECT_EQ(sql.number("select count(distinct job) from ran"), added);
  EXPECT_EQ(sql.number("select count(*) from posthouse.attempt_error"), 0);
}

TEST_F(CliStart, SighupReadsTheConfigurationAgain) {
  auto broker = start({"start", "--log-format", "text", "--config", config("queue_count: 1\n")});
  ASSERT_TRUE(broker.said("broker started"));
  sql.exec("select posthouse.broker_add_job('j', 'insert into ran values (1)', 3)");
  (void)config("queue_count: none\n");
  broker.send(SIGHUP);
  ASSERT_TRUE(broker.said("configuration is wrong, the old one stays in use"));
  EXPECT_THAT(broker.errors(), HasSubstr("queue_count"));
  (void)config("queue_count: 3\nhttp: {listen: \"127.0.0.1:1\"}\n");
  broker.send(SIGHUP);
  EXPECT_TRUE(broker.said("changes that need a restart are not in use keys=http.listen"));
  EXPECT_TRUE(eventually([&] { return ran() == 1; }));
}

TEST_F(CliStart, TellsSystemd) {
  auto const path = (folder.path() / "notify").string();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  int const fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr const*>(&address), sizeof(address)), 0);  // NOLINT
  environment["NOTIFY_SOCKET"] = path;
  environment["WATCHDOG_USEC"] = "200000";
  std::string heard;
  auto const hears = [&](std::string const& text) {
    return eventually([&] {
      char buffer[512];
      for (;;) {
        auto const n = ::recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
        if (n <= 0) break;
        heard.append(buffer, static_cast<std::size_t>(n)).append("\n");
      }
      return heard.find(text) != std::string::npos;
    });
  };
  auto broker = start({"start", "--config", config()});
  EXPECT_TRUE(hears("READY=1"));
  EXPECT_TRUE(hears("WATCHDOG=1"));
  EXPECT_TRUE(hears("STATUS=1 of 1 databases are served"));
  broker.terminate();
  EXPECT_TRUE(hears("STOPPING=1"));
  EXPECT_EQ(broker.wait(), 0);
  ::close(fd);
}

TEST_F(CliStart, InstallsEveryDatabaseOfTheConfiguration) {
  TestDatabase bare(TestDatabase::empty);
  auto const file = folder.write("many.yaml", "databases:\n  - {name: bare, database_url: \"" + bare.url() +
                                                  "\"}\n  - {name: one, database_url: \"" + database.url() +
                                                  "\"}\n  - {name: gone, host: /nowhere, database: x, user: y}\n");
  auto const all = run({"install", "--config", file});
  EXPECT_EQ(all.status, 4);
  EXPECT_THAT(all.out, AllOf(HasSubstr("bare: schema \"posthouse\" is ready"),
                             HasSubstr("one: schema \"posthouse\" is up to date")));
  EXPECT_THAT(all.err, HasSubstr("gone: "));
  EXPECT_EQ(run({"install", "--verify-only", "--config", file, "--database", "bare"}).status, 0);
  auto const which = run({"jobs", "list", "--config", file});
  EXPECT_EQ(which.status, 2);
  EXPECT_THAT(which.err, HasSubstr("Give --database with one of: bare, one, gone"));
  auto const check = run({"config", "check", "--connect", "--config", file});
  EXPECT_EQ(check.status, 4);
  EXPECT_THAT(check.out, AllOf(HasSubstr("3 databases"), HasSubstr("bare: connected to")));
  auto const status = run({"status", "--config", file});
  EXPECT_EQ(status.status, 4);
  EXPECT_THAT(status.out, AllOf(HasSubstr("bare"), HasSubstr("one"), HasSubstr("broker            none")));
  EXPECT_THAT(status.out, HasSubstr("gone"));
}

TEST_F(CliStart, TheExampleStarts) {
  auto const example = run({"config", "example"});
  auto const file = folder.write("example.yaml", example.out);
  environment["POSTHOUSE_DATABASES__DB1__HOST"] = "/nowhere/at/all";
  auto broker = start({"start", "--config", file});
  EXPECT_TRUE(broker.said("database is down, trying again"));
  broker.terminate();
  EXPECT_EQ(broker.wait(), 0);
}

}  // namespace
}  // namespace posthouse::test
