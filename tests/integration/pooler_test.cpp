// SPDX-License-Identifier: Apache-2.0
// Everything that producers and the migrator do, through PgBouncer in transaction mode with two server connections.
#include <gtest/gtest.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include <posthouse/client.hpp>
#include <posthouse/schema.hpp>
#include <posthouse/worker.hpp>

#include "store/work.hpp"
#include "support/child_process.hpp"
#include "support/database.hpp"
#include "support/eventually.hpp"

namespace posthouse::test {
namespace {

std::optional<std::string> pgbouncer() {
  for (std::string const path : {"/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"}) {
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  return std::nullopt;
}

class PoolerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto const program = pgbouncer();
    if (!program) GTEST_SKIP() << "pgbouncer is not installed";
    std::string pattern = (std::filesystem::temp_directory_path() / "posthouse-pooler-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder = pattern;
    auto const facts =
        sql.rows("select current_user, current_setting('unix_socket_directories'), current_setting('port')").at(0);
    std::ofstream(folder / "pgbouncer.ini")
        << "[databases]\n* = host=" << *facts[1] << " port=" << *facts[2] << " user=" << *facts[0]
        << "\n[pgbouncer]\nlisten_addr =\nlisten_port = 6432\n"
        << "unix_socket_dir = " << folder.string() << "\nunix_socket_mode = 0777\n"
        << "auth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n"
        << "server_reset_query =\n";
    std::vector<std::string> argv{*program};
    struct stat owner {};
    ASSERT_EQ(::stat(facts[1]->c_str(), &owner), 0);
    if (::geteuid() == 0) {
      // It refuses to run as root; the server's own user may reach the server's socket.
      passwd const* user = ::getpwuid(owner.st_uid == 0 ? 65534 : owner.st_uid);
      ASSERT_NE(user, nullptr);
      ASSERT_EQ(::chown(folder.c_str(), user->pw_uid, user->pw_gid), 0);
      argv.insert(argv.end(), {"-u", user->pw_name});
    }
    argv.push_back((folder / "pgbouncer.ini").string());
    process.emplace(argv);
    options.database_url = "host=" + folder.string() + " port=6432 user=anyone dbname=" + database.name();
    options.pgbouncer_transaction_mode = true;
    // Its socket is there before it listens.
    ASSERT_TRUE(eventually([&] {
      try {
        return pg::Connection::open(options)->ok();
      } catch (Unavailable const&) {
        return false;
      }
    })) << process->errors();
  }
  void TearDown() override {
    process.reset();
    if (!folder.empty()) std::filesystem::remove_all(folder);
  }

  TestDatabase database{TestDatabase::empty};
  Sql sql{database.url()};
  std::filesystem::path folder{};
  std::optional<ChildProcess> process{};
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
  // PgBouncer itself carries these settings over to each of its server connections.
  std::string const set_by_us =
      "select count(*) from pg_settings where source = 'session' and name <> all('{application_name, client_encoding, "
      "DateStyle, TimeZone, standard_conforming_strings}')";
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(connection->query(set_by_us).int8(0, 0), 0);
    EXPECT_EQ(connection->query("select count(*) from pg_prepared_statements").int8(0, 0), 0);
    EXPECT_EQ(connection->query("select count(*) from pg_locks where locktype = 'advisory'").int8(0, 0), 0);
  }
}

}  // namespace
}  // namespace posthouse::test
