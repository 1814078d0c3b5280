// SPDX-License-Identifier: Apache-2.0
// Jobs of `sql` kinds: how many connections they take, and that a server process which stands still keeps nobody.
#include <csignal>

#include "base/log.hpp"
#include "execute/sql_handler.hpp"
#include "integration/cli_fixture.hpp"
#include "integration/worker_fixture.hpp"
#include "node/sql_runner.hpp"

namespace posthouse::test {
namespace {

class SqlRunner : public WorkerTest {};

TEST_F(SqlRunner, AServerProcessThatStandsStillIsGivenUp) {
  base::Log const log;
  auto options = quick();
  auto const runner = std::make_shared<node::PooledSqlRunner>(DatabaseOptions{.database_url = url()}, 1, 1024, log,
                                                              pg::Pool::Keep{}, 50ms);
  Worker worker(options);
  HandlerOptions once;
  once.max_attempts = 1;
  once.timeout = 1s;
  worker.on("k", once, execute::sql_handler({"select pg_sleep(600)"}, runner));
  auto const job = enqueue();
  worker.start();
  int backend = 0;
  ASSERT_TRUE(eventually([&] {
    auto const pids =
        sql.column("select pid from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()");
    if (!pids.empty()) backend = std::stoi(pids.front());
    return backend != 0;
  }));
  ASSERT_EQ(::kill(backend, SIGSTOP), 0);
  EXPECT_TRUE(eventually([&] { return state(job) == "failed"; })) << "its timeout is kept all the same";
  worker.stop();
  ::kill(backend, SIGCONT);
}

class SqlConnections : public CliDatabaseTest {};

// worker_pool_size + worker_max_overflow + 1, whatever the concurrency.
TEST_F(SqlConnections, StayWithinTheBudget) {
  auto const config = folder.write("work.yaml", "concurrency: 16\nkinds: {k: {sql: select pg_sleep(600)}}\n");
  for (int i = 0; i < 16; ++i) ASSERT_EQ(run({"enqueue", "k"}).status, 0);
  auto worker = start({"work", "--config", config, "--log-level", "info"});
  ASSERT_TRUE(worker.said("worker started")) << worker.errors();
  auto const sleeping = [&] {
    return sql.number(
        "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()");
  };
  ASSERT_TRUE(eventually([&] {
    return sleeping() == 2 && sql.number("select count(*) from posthouse.jobs where state = 'running'") == 16;
  }));
  EXPECT_LE(sql.number("select count(*) from pg_stat_activity where datname = current_database() and pid <> "
                       "pg_backend_pid() and backend_type = 'client backend'"),
            6);
  EXPECT_EQ(sleeping(), 2);
  worker.terminate();
  EXPECT_FALSE(worker.wait(300ms)) << "its jobs still have time";
  worker.terminate();
  EXPECT_EQ(worker.wait(20s).value_or(-1), 0) << worker.errors();
}

}  // namespace
}  // namespace posthouse::test
