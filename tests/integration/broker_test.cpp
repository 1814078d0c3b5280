// SPDX-License-Identifier: Apache-2.0
// The broker as a library: many databases, their troubles, one broker each, reload, stop.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <posthouse/broker.hpp>
#include <posthouse/schema.hpp>

#include "cli_fixture.hpp"
#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class BrokerTest : public ::testing::Test {
 protected:
  void TearDown() override {
    if (!HasFailure()) return;
    std::lock_guard const lock(mutex_);
    for (auto const& line : log_) std::fprintf(stderr, "  log: %s\n", line.c_str());
  }

  static std::string entry(std::string const& name, TestDatabase const& database, std::string const& more = {}) {
    return "  - {name: " + name + ", database_url: \"" + database.url() + "\"" + more + "}\n";
  }
  BrokerConfig config(std::string const& entries, std::string const& more = {}) {
    return load_config(folder_.write("broker.yaml", "databases:\n" + entries + "heartbeat_interval_ms: 300\n" + more));
  }
  BrokerOptions options() {
    BrokerOptions options;
    options.logger = [this](LogRecord const& record) {
      std::string line(record.message);
      for (auto const& [key, value] : record.fields) line += " " + key + "=" + value;
      std::lock_guard const lock(mutex_);
      log_.push_back(std::move(line));
    };
    return options;
  }
  bool logged(std::string const& text) {
    std::lock_guard const lock(mutex_);
    for (auto const& line : log_) {
      if (line.find(text) != std::string::npos) return true;
    }
    return false;
  }
  static DatabaseStatus status_of(Broker const& broker, std::string const& name) {
    for (auto& one : broker.status()) {
      if (one.name == name) return one;
    }
    return {};
  }
  static auto becomes(Broker const& broker, std::string const& name, DatabaseState state) {
    return eventually([&] { return status_of(broker, name).state == state; }, 60s);
  }
  /// Each job leaves a row, in the transaction that completes it.
  static void prepare(Sql& sql) { sql.exec("create table ran (job bigint, queue text)"); }
  static void add_jobs(Sql& sql, int n, int queues) {
    sql.rows(
        "select posthouse.broker_add_job('row', 'insert into ran select current_setting(''posthouse.job_id'')::bigint, "
        "current_setting(''posthouse.queue'')', 1 + i % $2) from generate_series(1, $1) i",
        n, queues);
  }
  static std::int64_t ran(Sql& sql) { return sql.number("select count(*) from ran"); }

  TemporaryFolder folder_{};

 private:
  std::mutex mutex_;
  std::vector<std::string> log_;
};

TEST_F(BrokerTest, TwoDatabasesOfWhichOneStopsAndStartsDuringLoad) {
  TestServer first(TestServer::durable);
  TestServer second(TestServer::durable);
  TestDatabase one("posthouse", first);
  TestDatabase two("posthouse", second);
  auto sql = one.connect();
  auto other = std::make_unique<Sql>(two.url());
  prepare(sql);
  prepare(*other);
  constexpr int jobs = 200;
  Broker broker(config(entry("one", one) + entry("two", two)), options());
  broker.start();
  ASSERT_TRUE(becomes(broker, "one", DatabaseState::serving));
  ASSERT_TRUE(becomes(broker, "two", DatabaseState::serving));
  add_jobs(*other, jobs, 4);
  ASSERT_TRUE(eventually([&] { return ran(*other) > 0; }));
  other.reset();
  second.stop();
  // Whatever the second one does, the first one's jobs run.
  add_jobs(sql, jobs, 4);
  EXPECT_TRUE(eventually([&] { return ran(sql) == jobs; }, 60s));
  EXPECT_TRUE(becomes(broker, "two", DatabaseState::down));
  EXPECT_NE(status_of(broker, "two").problem, "");
  EXPECT_EQ(status_of(broker, "one").state, DatabaseState::serving);
  second.start();
  EXPECT_TRUE(becomes(broker, "two", DatabaseState::serving));
  Sql again(two.url(), 30s);
  EXPECT_TRUE(eventually(
      [&] {
        return again.number("select count(*) from posthouse.jobs where state not in ('succeeded', 'failed')") == 0;
      },
      60s));
  EXPECT_EQ(again.number("select count(*) from (select from ran group by job having count(*) > 1) q"), 0);
  // What ran when the server went counts as an attempt, and SQL is not tried again unless asked.
  EXPECT_EQ(ran(again), again.number("select count(*) from posthouse.jobs where state = 'succeeded'"));
  EXPECT_EQ(again.number("select count(*) from posthouse.jobs"), jobs);
  broker.stop();
  EXPECT_EQ(sql.one("select status from posthouse.broker_queueinstance"), "stopped");
}

TEST_F(BrokerTest, ADatabaseThatIsNotThereDelaysNoOther) {
  TestDatabase one;
  TestDatabase bare(TestDatabase::empty);
  auto sql = one.connect();
  prepare(sql);
  TestDatabase later(TestDatabase::empty);
  Broker broker(config(entry("one", one) + entry("bare", bare) +
                       "  - {name: nowhere, host: /nowhere/at/all, database: x, user: y}\n" +
                       entry("installing", later, ", auto_install: true")),
                options());
  broker.start();
  add_jobs(sql, 10, 4);
  EXPECT_TRUE(eventually([&] { return ran(sql) == 10; }));
  EXPECT_TRUE(becomes(broker, "nowhere", DatabaseState::down));
  EXPECT_THAT(status_of(broker, "nowhere").problem, HasSubstr("/nowhere/at/all"));
  EXPECT_TRUE(becomes(broker, "bare", DatabaseState::not_installed));
  EXPECT_TRUE(becomes(broker, "installing", DatabaseState::serving));
  install(bare.options());
  EXPECT_TRUE(becomes(broker, "bare", DatabaseState::serving));
  EXPECT_TRUE(logged("database is not installed, trying again database=bare"));
}

TEST_F(BrokerTest, ANumberedQueueRunsOneAfterAnotherUnlessTheConfigurationSaysOtherwise) {
  TestDatabase one;
  auto sql = one.connect();
  sql.exec("create table seen (queue text, beside int)");
  Broker broker(config(entry("one", one, ", queues: {2: {concurrency: 4}}")), options());
  broker.start();
  sql.exec(
      "select posthouse.broker_add_job('look', 'insert into seen select current_setting(''posthouse.queue''), "
      "count(*) from pg_locks where locktype = ''advisory'' and objid = 4711 + ' || q || ' and pid <> "
      "pg_backend_pid(); select pg_advisory_xact_lock_shared(4711 + ' || q || '), pg_sleep(0.05)', q) "
      "from generate_series(1, 40) i, generate_series(1, 2) q");
  ASSERT_TRUE(eventually([&] { return sql.number("select count(*) from seen") == 80; }, 60s));
  EXPECT_EQ(sql.number("select max(beside) from seen where queue = 'broker:1'"), 0);
  EXPECT_GT(sql.number("select max(beside) from seen where queue = 'broker:2'"), 0);
  EXPECT_LE(sql.number("select max(beside) from seen where queue = 'broker:2'"), 3);
}

TEST_F(BrokerTest, ASecondBrokerIsRefusedAndTakesOver) {
  TestDatabase one;
  TestDatabase free;
  auto sql = one.connect();
  prepare(sql);
  auto first = std::make_unique<Broker>(config(entry("one", one)), options());
  first->start();
  ASSERT_TRUE(becomes(*first, "one", DatabaseState::serving));

  Broker refused(config(entry("one", one)), options());
  try {
    refused.start();
    FAIL() << "two brokers in a database";
  } catch (Error const& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("served by broker pgsql-broker on "),
                                    HasSubstr("process " + std::to_string(::getpid()) + ", since ")));
    EXPECT_EQ(error.sqlstate(), "55006");
  }

  // Beside one that it serves, it waits for the other.
  Broker second(config(entry("one", one) + entry("free", free)), options());
  second.start();
  EXPECT_TRUE(becomes(second, "free", DatabaseState::serving));
  EXPECT_TRUE(becomes(second, "one", DatabaseState::refused));
  first->stop();
  EXPECT_TRUE(becomes(second, "one", DatabaseState::serving));
  add_jobs(sql, 4, 4);
  EXPECT_TRUE(eventually([&] { return ran(sql) == 4; }));

  // Shut down from outside it makes way, and takes its place again when nobody else does.
  sql.exec("select posthouse.broker_shutdown_instance(id) from posthouse.broker_queueinstance where status = 'active'");
  EXPECT_TRUE(becomes(second, "one", DatabaseState::refused));
  EXPECT_TRUE(becomes(second, "one", DatabaseState::serving));
}

TEST_F(BrokerTest, ReloadChangesWhatItCan) {
  TestDatabase one;
  TestDatabase two;
  TestDatabase three;
  auto sql = one.connect();
  auto other = three.connect();
  prepare(sql);
  prepare(other);
  Broker broker(config(entry("one", one, ", queue_count: 2") + entry("two", two)), options());
  broker.start();
  ASSERT_TRUE(becomes(broker, "one", DatabaseState::serving));
  ASSERT_TRUE(becomes(broker, "two", DatabaseState::serving));
  auto const instance = status_of(broker, "one").instance;
  add_jobs(sql, 6, 6);
  EXPECT_TRUE(eventually([&] { return ran(sql) == 2; })) << "queues 3 to 6 are nobody's";

  auto const report =
      broker.reload(config(entry("one", one, ", queue_count: 6") + entry("three", three), "logging: {format: json}\n"));
  EXPECT_THAT(report.added, ElementsAre("three"));
  EXPECT_THAT(report.changed, ElementsAre("one"));
  EXPECT_THAT(report.removed, ElementsAre("two"));
  EXPECT_THAT(report.ignored, ElementsAre("logging.format"));
  EXPECT_TRUE(eventually([&] { return ran(sql) == 6; }));
  EXPECT_TRUE(becomes(broker, "three", DatabaseState::serving));
  add_jobs(other, 4, 4);
  EXPECT_TRUE(eventually([&] { return ran(other) == 4; }));
  EXPECT_EQ(status_of(broker, "one").instance, instance) << "the same broker all along";
  auto left = two.connect();
  EXPECT_TRUE(eventually([&] { return left.one("select status from posthouse.broker_queueinstance") == "stopped"; }));
  EXPECT_TRUE(eventually([&] {
    return sql.number("select queue_count from posthouse.broker_queueinstance where shutdown_at is null") == 6;
  }));
  EXPECT_EQ(broker.status().size(), 2U);

  auto const nothing =
      broker.reload(config(entry("one", one, ", queue_count: 6") + entry("three", three), "logging: {format: json}\n"));
  EXPECT_THAT(nothing.changed, ElementsAre());
  EXPECT_THAT(nothing.ignored, ElementsAre());
}

TEST_F(BrokerTest, ConfiguredKindsRunInNumberedQueuesAndElsewhere) {
  TestDatabase one;
  auto sql = one.connect();
  prepare(sql);
  Broker broker(config(entry("one", one),
                       "kinds:\n  note: {sql: \"insert into ran select current_setting('posthouse.job_id')::bigint, "
                       "current_setting('posthouse.queue')\"}\nqueues:\n  mail: {max_concurrency: 3}\n"),
                options());
  broker.start();
  for (auto const* const queue : {"default", "mail", "broker:3"}) {
    sql.rows("select posthouse.enqueue('note', queue => $1)", queue);
  }
  sql.exec("select posthouse.enqueue('note', queue => 'other'), posthouse.enqueue('note', queue => 'broker:9')");
  EXPECT_TRUE(eventually([&] { return ran(sql) == 3; }));
  EXPECT_THAT(sql.column("select queue from ran order by queue"), ElementsAre("broker:3", "default", "mail"));
}

TEST_F(BrokerTest, TheDatabaseAdapterDecidesHowADatabaseIsReached) {
  TestDatabase one;
  auto with = options();
  int calls = 0;
  with.database = [&](std::string_view name, DatabaseOptions configured) {
    EXPECT_EQ(name, "one");
    if (++calls == 1) throw Unavailable("the vault is sealed");
    configured.database_url = one.url();
    return configured;
  };
  Broker broker(config("  - {name: one, host: /nowhere/at/all, database: x, user: y}\n"), with);
  broker.start();
  EXPECT_TRUE(becomes(broker, "one", DatabaseState::serving));
  EXPECT_TRUE(logged("the vault is sealed"));
}

/// Time that stands still until the test moves it.
class HandClock : public BrokerClock {
 public:
  Time now() override {
    std::lock_guard const lock(mutex_);
    return now_;
  }
  void wait(std::unique_lock<std::mutex>& lock, std::condition_variable& changed, Time until) override {
    if (now() >= until) return;
    // Looked at now and then, so that no notification of ours is needed.
    changed.wait_for(lock, 5ms);
  }
  void advance(std::chrono::milliseconds by) {
    std::lock_guard const lock(mutex_);
    now_ += by;
  }

 private:
  std::mutex mutex_;
  Time now_ = std::chrono::steady_clock::now();
};

TEST_F(BrokerTest, TriesFollowTheClockAdapter) {
  auto const clock = std::make_shared<HandClock>();
  std::atomic<int> tries{0};
  auto with = options();
  with.clock = clock;
  with.database = [&](std::string_view, DatabaseOptions configured) {
    ++tries;
    return configured;
  };
  Broker broker(config("  - {name: gone, host: /nowhere/at/all, database: x, user: y}\n"), with);
  broker.start();
  EXPECT_TRUE(stays_true([&] { return tries == 1; }, 300ms)) << "time stands still";
  for (int wanted = 2; wanted < 5; ++wanted) {
    EXPECT_TRUE(eventually([&] {
      clock->advance(100ms);
      return tries >= wanted;
    }));
  }
  EXPECT_TRUE(becomes(broker, "gone", DatabaseState::down));
  broker.stop();
  broker.stop();
}

TEST_F(BrokerTest, ItSaysWhatABrokerCannotDo) {
  TestDatabase one;
  EXPECT_THROW(Broker{BrokerConfig{}}, InvalidArgument);
  EXPECT_THROW(Broker(config(entry("one", one), "processes: 2\n")), InvalidArgument);
  EXPECT_THROW(Broker(config(entry("one", one), "kinds: {sql: {exec: [/bin/true]}}\n")), InvalidArgument);
  EXPECT_THROW(Broker(config(entry("one", one), "kinds: {k: {exec: [/bin/true], isolation: process}}\n")),
               InvalidArgument);
}

}  // namespace
}  // namespace posthouse::test
