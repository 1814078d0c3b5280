// SPDX-License-Identifier: Apache-2.0
// Everything that producers and the migrator do, through PgBouncer in transaction mode with two server connections.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <posthouse/client.hpp>
#include <posthouse/schema.hpp>
#include <posthouse/worker.hpp>

#include "store/work.hpp"
#include "support/database.hpp"
#include "support/eventually.hpp"
#include "support/pooler.hpp"

namespace posthouse::test {
namespace {

class PoolerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    pooler = make_pooler(2);
    if (!pooler) GTEST_SKIP() << "pgbouncer is not installed";
    options.database_url = url_through(*pooler, database.name());
    options.pgbouncer_transaction_mode = true;
  }

  TestDatabase database{TestDatabase::empty};
  Sql sql{database.url()};
  std::unique_ptr<dev::Pooler> pooler{};
  DatabaseOptions options{};
};

TEST_F(PoolerTest, ProducersAndTheMigratorNeedNoSession) {
  EXPECT_TRUE(install(options));
  EXPECT_TRUE(verify(options).empty());
  Client client{{.database = options, .pool_size = 8}};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        auto const id = client.enqueue("k", json{std::to_string(i)}).id;
        EXPECT_EQ(client.find(id)->payload.data(), std::to_string(i));
      }
      EXPECT_EQ(client.enqueue_many("bulk", std::vector<Payload>(6000, json{"1"})).size(), 6000U);
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(sql.number("select count(*) from posthouse.job"), 8 * 6020);
  EXPECT_LE(
      sql.number("select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
                 " and backend_type = 'client backend'"),
      2);

  auto const connection = pg::Connection::open(options);
  store::Work work(*connection);
  store::Registration registration;
  registration.name = "w";
  registration.kinds = {"k"};
  auto const worker = work.register_worker(registration);
  auto const claim = work.claim(worker, {.token = 16, .jobs = 50, .start = 50});
  ASSERT_EQ(claim.jobs.size(), 50U);
  std::vector<store::BatchAck> const acks{{.token = claim.jobs[0].token}};
  EXPECT_EQ(work.finish_and_claim(worker, acks, {}, {.token = 32, .jobs = 50, .start = 50}).jobs.size(), 50U);
  work.leave(worker, false);
  EXPECT_EQ(sql.number("select count(*) from posthouse.held()"), 0);
  uninstall(options);
}

// A thousand jobs, a failure and a completion in a transaction of the handler's own; with prefetch, so that claims are
// sent ahead. The roles' isolation is not ours to choose.
class PooledWorkerTest : public PoolerTest {
 protected:
  void work_through() {
    sql.exec("alter database " + database.name() + " set default_transaction_isolation = serializable");
    EXPECT_TRUE(install(options));
    Client client{{.database = options}};
    client.enqueue_many("plain", std::vector<Payload>(1000, json{"1"}));
    auto const flaky = client.enqueue("flaky").id;
    auto const later = client.enqueue("plain", {}, {.delay = std::chrono::milliseconds(300)}).id;
    WorkerOptions worker_options;
    worker_options.database = options;
    worker_options.concurrency = 3;
    worker_options.heartbeat_interval = std::chrono::milliseconds(200);
    worker_options.with_prefetch(200, std::chrono::seconds(5));
    Worker worker(worker_options);
    std::atomic<int> ran{0};
    worker.on("plain", [&](Job const&) { ++ran; });
    HandlerOptions twice;
    twice.max_attempts = 2;
    twice.backoff = Backoff::fixed({std::chrono::milliseconds(0)});
    worker.on("flaky", twice, [](Job const& job) {
      if (job.attempt() == 1) throw std::runtime_error("the first time");
    });
    worker.start();
    auto const state = [&](std::int64_t id) { return client.find(id)->state; };
    EXPECT_TRUE(eventually([&] { return state(flaky) == "succeeded" && state(later) == "succeeded"; }));
    EXPECT_TRUE(eventually([&] { return worker.stats().succeeded == 1002; }));
    // An idle worker hears of the next one, by its bell or by polling.
    EXPECT_TRUE(eventually([&] { return worker.stats().empty_claims > 0; }));
    auto const lone = client.enqueue("plain").id;
    EXPECT_TRUE(eventually([&] { return state(lone) == "succeeded"; }));
    worker.stop();
    EXPECT_EQ(ran, 1002);
    EXPECT_EQ(worker.stats().lease_lost, 0);
    EXPECT_EQ(sql.number("select count(*) from posthouse.held()"), 0);
    EXPECT_EQ(sql.number("select count(*) from posthouse.attempt_error"), 1);
  }
};

TEST_F(PooledWorkerTest, WorksAndListensOnASessionOfItsOwn) {
  options.session_database_url = database.url();
  work_through();
}

TEST_F(PooledWorkerTest, WorksAndPollsWithoutOne) { work_through(); }

TEST_F(PoolerTest, WaitsForResults) {
  EXPECT_TRUE(install(options));
  Client client{{.database = options}};
  auto const id = client.enqueue("k").id;
  EXPECT_EQ(client.wait(id, std::chrono::milliseconds(0)).state, "available");
  std::thread waiter([&] {
    auto const got = client.wait(id, std::chrono::seconds(30));
    EXPECT_TRUE(got.succeeded()) << got.state;
    EXPECT_EQ(got.result.data(), "[1, 2]");
  });
  auto const connection = pg::Connection::open(options);
  store::Work work(*connection);
  store::Registration registration;
  registration.name = "w";
  registration.kinds = {"k"};
  auto const worker = work.register_worker(registration);
  auto const claim = work.claim(worker, {.token = 16, .jobs = 1, .start = 1});
  EXPECT_EQ(claim.jobs.size(), 1U);
  std::vector<store::BatchAck> const acks{{.token = 16}};
  std::vector<store::JobResult> const results{
      {.token = 16, .position = 0, .id = id, .has_value = true, .is_bytes = false, .data = "[1, 2]", .problem = {}}};
  work.finish(worker, acks, {}, results);
  waiter.join();
}

TEST_F(PoolerTest, NothingOfASessionStaysBehindForOthers) {
  EXPECT_TRUE(install(options));
  Client client{{.database = options}};
  client.enqueue("k");
  client.enqueue_many("bulk", std::vector<Payload>(6000, json{"1"}));
  auto const connection = pg::Connection::open(options);
  // PgBouncer itself carries the first of these over to each of its server connections; the last two are of each of our
  // transactions, and gone with it.
  std::string const set_by_us =
      "select count(*) from pg_settings where source = 'session' and name <> all('{application_name, client_encoding, "
      "DateStyle, TimeZone, standard_conforming_strings, transaction_isolation, transaction_read_only}')";
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(connection->query(set_by_us).int8(0, 0), 0);
    EXPECT_EQ(connection->query("select count(*) from pg_prepared_statements").int8(0, 0), 0);
    EXPECT_EQ(connection->query("select count(*) from pg_locks where locktype = 'advisory'").int8(0, 0), 0);
  }
}

// Another client of the pooler, which resets nothing, leaves its settings on the server connections that we get.
TEST_F(PoolerTest, HostileSettingsOfOthersChangeNothing) {
  EXPECT_TRUE(install(options));
  DatabaseOptions const direct{.database_url = database.url()};
  auto const poison = [&] {
    Sql hostile(url_through(*pooler, database.name()));
    // Both server connections, since each block holds one.
    Sql second(url_through(*pooler, database.name()));
    for (auto* session : {&hostile, &second}) session->exec("begin");
    for (auto* session : {&hostile, &second}) {
      session->exec(
          "set search_path = pg_temp; set timezone = 'Pacific/Chatham'; set datestyle = 'German, DMY'; "
          "set intervalstyle = 'sql_standard'; set bytea_output = 'escape'; set extra_float_digits = -15; "
          "set default_transaction_isolation = 'serializable'; set default_transaction_read_only = off; "
          "set enable_indexscan = off; set enable_indexonlyscan = off; set jit_above_cost = 0; "
          "set plan_cache_mode = force_custom_plan; set client_min_messages = debug1; set xmlbinary = hex; "
          "set array_nulls = off; set transform_null_equals = on; set quote_all_identifiers = on; set role none; "
          "set synchronous_commit = local; set lc_messages = 'C'; set default_table_access_method = heap");
    }
    for (auto* session : {&hostile, &second}) session->exec("commit");
  };
  poison();
  Client client{{.database = options}};
  auto const at =
      std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now() + std::chrono::hours(1));
  auto const bytes_in = std::string("\0\xff\\x", 4);
  auto const blob = client.enqueue("blob", bytes{bytes_in}).id;
  auto const later = client.enqueue("later", json{R"({"a": [null, 0.1]})"}, {.run_at = at}).id;
  poison();
  auto const found = client.find(later);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->payload.data(), R"({"a": [null, 0.1]})");
  EXPECT_EQ(client.enqueue_many("bulk", std::vector<Payload>(6000, json{"1"})).size(), 6000U);
  poison();
  std::string seen;
  std::mutex mutex;
  WorkerOptions worker_options;
  worker_options.database = options;
  worker_options.database.session_database_url = database.url();
  worker_options.concurrency = 3;
  worker_options.heartbeat_interval = std::chrono::milliseconds(200);
  worker_options.with_prefetch(500, std::chrono::seconds(5));
  Worker worker(worker_options);
  worker.on("blob", [&](Job const& job) {
    std::lock_guard const lock(mutex);
    seen = job.payload().data();
  });
  worker.on("bulk", [](Job const&) {});
  worker.start();
  poison();
  EXPECT_TRUE(eventually([&] { return worker.stats().succeeded == 6001; }));
  poison();
  worker.stop();
  EXPECT_EQ(worker.stats().failed, 0);
  EXPECT_EQ(worker.stats().lease_lost, 0);
  EXPECT_EQ(seen, bytes_in);
  EXPECT_EQ(client.find(blob)->state, "succeeded");
  EXPECT_EQ(
      sql.one("select extract(epoch from due_at)::numeric(20, 3)::text from posthouse.deferred where id = $1", later),
      sql.one("select (($1)::numeric / 1000)::numeric(20, 3)::text", at.time_since_epoch().count()));
  EXPECT_EQ(sql.number("select count(*) from posthouse.held()"), 0);
}

/// Whether a worker says so, and works all the same.
class PoolerProbe : public PoolerTest {
 protected:
  bool complains(DatabaseOptions const& database_options, std::string const& of) {
    EXPECT_TRUE(install(options));
    std::atomic<bool> said{false};
    WorkerOptions worker_options;
    worker_options.database = database_options;
    worker_options.logger = [&](LogRecord const& record) {
      if (record.level == LogLevel::warning && record.message.find(of) != std::string_view::npos) said = true;
    };
    Worker worker(worker_options);
    worker.on("k", [](Job const&) {});
    worker.start();
    bool const heard = eventually([&] { return said.load(); });
    Client client{{.database = options}};
    auto const id = client.enqueue("k").id;
    EXPECT_TRUE(eventually([&] { return client.find(id)->state == "succeeded"; }));
    worker.stop();
    // Nothing of a session is left to whoever gets the server connection next.
    EXPECT_EQ(sql.number("select count(*) from pg_locks where locktype = 'advisory'"), 0);
    return heard;
  }
};

TEST_F(PoolerProbe, ASessionUrlThatLeadsToThePoolerIsFound) {
  options.session_database_url = options.database_url;
  EXPECT_TRUE(complains(options, "session_database_url leads to a pooler in transaction mode"));
}

}  // namespace
}  // namespace posthouse::test
