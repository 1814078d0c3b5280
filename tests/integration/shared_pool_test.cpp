// SPDX-License-Identifier: Apache-2.0
// A pool that clients, schedules and the application share, against a real server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <thread>

#include <posthouse/adapter/libpq.hpp>
#include <posthouse/client.hpp>
#include <posthouse/pool.hpp>
#include <posthouse/schedules.hpp>

#include "integration/worker_fixture.hpp"
#include "support/eventually.hpp"

namespace posthouse::test {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;

std::string field(pg_conn* connection, char const* statement) {
  std::unique_ptr<PGresult, decltype(&PQclear)> const result(PQexec(connection, statement), PQclear);
  if (PQresultStatus(result.get()) != PGRES_TUPLES_OK) return PQerrorMessage(connection);
  return PQgetvalue(result.get(), 0, 0);
}

void run(pg_conn* connection, char const* statement) {
  std::unique_ptr<PGresult, decltype(&PQclear)> const result(PQexec(connection, statement), PQclear);
  EXPECT_EQ(PQresultStatus(result.get()), PGRES_COMMAND_OK) << PQerrorMessage(connection);
}

template <class Call>
std::string refusal(Call call) {
  try {
    call();
  } catch (Error const& error) {
    return error.what();
  }
  return "nothing was thrown";
}

class SharedPoolTest : public WorkerTest {
 protected:
  PoolOptions small() {
    PoolOptions options{.database_url = url(), .name = "web", .pool_size = 1, .max_overflow = 0};
    options.database.application_name = "pool_test";
    options.logger = [this](LogRecord const& record) {
      std::string line(record.message);
      for (auto const& [name, value] : record.fields) line += " " + name + "=" + value;
      std::lock_guard const lock(mutex);
      lines.push_back(std::move(line));
    };
    return options;
  }
  static std::shared_ptr<Pool> made(PoolOptions options) { return std::make_shared<Pool>(std::move(options)); }

  std::int64_t connections() {
    return sql.number(
        "select count(*) from pg_stat_activity where application_name = 'pool_test' and datname = "
        "current_database() and backend_type = 'client backend'");
  }
  void terminate_all() {
    sql.rows(
        "select pg_terminate_backend(pid, 20000) from pg_stat_activity where application_name = 'pool_test' and "
        "datname = current_database() and backend_type = 'client backend'");
  }

  std::mutex mutex;
  std::vector<std::string> lines;
};

TEST_F(SharedPoolTest, OneConnectionServesEverybody) {
  auto const pool = made(small());
  Client client({.pool = pool});
  Client other({.pool = pool});
  Schedules schedules({.pool = pool});
  auto const id = client.enqueue("k", json{"1"}).id;
  EXPECT_EQ(other.find(id)->state, "available");
  schedules.add({.name = "s", .kind = "k", .cron = "@daily"});
  EXPECT_EQ(client.wait(id, 0ms).state, "available");
  std::int64_t inside = 0;
  {
    auto const mine = pool->acquire("order");
    run(mine.get(), "begin");
    inside = client.enqueue(mine.get(), "k", json{"2"}).id;
    EXPECT_EQ(pool->stats().longest_holder, "order");
    run(mine.get(), "commit");
  }
  EXPECT_EQ(other.find(inside)->state, "available");
  EXPECT_EQ(schedules.list().size(), 1u);
  EXPECT_EQ(pool->stats().opened, 1);
  EXPECT_EQ(connections(), 1);
}

TEST_F(SharedPoolTest, WhoIsGivenAPoolNeverClosesIt) {
  auto const pool = made(small());
  {
    Client client({.pool = pool});
    Schedules schedules({.pool = pool});
    client.enqueue("k");
    EXPECT_TRUE(schedules.list().empty());
  }
  EXPECT_TRUE(pool->is_open());
  EXPECT_EQ(pool->stats().idle, 1);
  Client client({.pool = pool});
  pool->close();
  EXPECT_EQ(pool->stats().open, 0);
  EXPECT_TRUE(eventually([&] { return connections() == 0; }));
  EXPECT_EQ(refusal([&] { client.enqueue("k"); }), "pool 'web' is closed");
  Client another({.pool = pool});  // opens it
  client.enqueue("k");
  EXPECT_EQ(sql.number("select count(*) from jobs"), 2);
}

TEST_F(SharedPoolTest, AUrlBesideThePoolIsRefused) {
  auto const pool = made(small());
  EXPECT_THAT(refusal([&] { Client({.database_url = url(), .pool = pool}); }),
              HasSubstr("given beside a database_url"));
  DatabaseOptions other;
  other.schema = "elsewhere";
  EXPECT_THAT(refusal([&] { Client({.database = other, .pool = pool}); }), HasSubstr("schema"));
}

TEST_F(SharedPoolTest, OptionsOutOfRangeAreRefused) {
  auto const wrong = [&](auto change) {
    auto options = small();
    change(options);
    return refusal([&] { made(options); });
  };
  EXPECT_THAT(wrong([](auto& o) { o.pool_size = 0; }), HasSubstr("pool_size is 0; allowed: 1 to 1000"));
  EXPECT_THAT(wrong([](auto& o) { o.max_overflow = -1; }), HasSubstr("max_overflow is -1"));
  EXPECT_THAT(wrong([](auto& o) { o.pool_timeout = 0ms; }), HasSubstr("pool_timeout"));
  EXPECT_THAT(wrong([](auto& o) { o.pool_recycle = -1ms; }), HasSubstr("pool_recycle"));
  EXPECT_THAT(wrong([](auto& o) { o.name = ""; }), HasSubstr("name"));
  EXPECT_THAT(refusal([&] { Pool(small(), nullptr); }), HasSubstr("null"));
}

TEST_F(SharedPoolTest, TheTimeoutNamesWhoHoldsTheConnection) {
  auto options = small();
  options.pool_timeout = 20ms;
  auto const pool = made(options);
  Client client({.pool = pool});
  auto const held = pool->acquire("monthly report");
  auto const text = refusal([&] { client.enqueue("k"); });
  EXPECT_THAT(text, HasSubstr("pool 'web': no connection came free within 20 ms; 1 of 1 are in use (pool_size 1, "
                              "max_overflow 0)"));
  EXPECT_THAT(text, HasSubstr("held longest by \"monthly report\" for "));
  EXPECT_EQ(pool->stats().timeouts, 1);
}

TEST_F(SharedPoolTest, KilledConnectionsAreReplacedUnseen) {
  auto options = small();
  options.pool_size = 3;
  auto const pool = made(options);
  Client client({.pool = pool});
  {
    auto const a = pool->acquire();
    auto const b = pool->acquire();
    client.enqueue("k");
  }
  ASSERT_EQ(connections(), 3);
  terminate_all();
  client.enqueue("k");
  EXPECT_EQ(field(pool->acquire().get(), "select 1"), "1");
  EXPECT_EQ(pool->stats().discarded, 3);
  EXPECT_EQ(sql.number("select count(*) from jobs"), 2);
}

TEST_F(SharedPoolTest, EachIsAskedForASignOfLifeWhenToldTo) {
  auto options = small();
  options.ping_after = 0ms;
  auto const pool = made(options);
  Client client({.pool = pool});
  for (int i = 0; i < 4; ++i) client.enqueue("k");
  EXPECT_EQ(pool->stats().pings, 3);
  EXPECT_EQ(pool->stats().opened, 1);
}

// The dead connection shows as the failure of the first statement; the client tries again since nothing was sent.
TEST_F(SharedPoolTest, WithoutAPingTheFirstStatementFails) {
  auto options = small();
  options.pool_size = 2;
  options.pool_pre_ping = false;
  auto const pool = made(options);
  Client client({.pool = pool});
  {
    auto const a = pool->acquire();
    client.enqueue("k");
  }
  terminate_all();
  EXPECT_THAT(field(pool->acquire().get(), "select 1"), Not("1"));
  client.enqueue("k");
  EXPECT_EQ(sql.number("select count(*) from jobs"), 2);
  EXPECT_EQ(pool->stats().discarded, 2);
  terminate_all();
  EXPECT_TRUE(Schedules({.pool = pool}).list().empty());
  EXPECT_EQ(pool->stats().discarded, 3);
  EXPECT_EQ(pool->stats().pings, 0);
}

// Statements that were sent are not sent again: they may have been done.
TEST_F(SharedPoolTest, WhatIsInDoubtIsNotTriedAgain) {
  auto options = small();
  options.pool_pre_ping = false;
  auto const pool = made(options);
  Client client({.pool = pool});
  client.enqueue("k");
  sql.exec("begin; lock table job in access exclusive mode");
  std::optional<bool> in_doubt;
  std::thread blocked([&] {
    try {
      client.enqueue("k");
    } catch (Unavailable const& error) {
      in_doubt = error.in_doubt();
    }
  });
  Sql other(url());
  ASSERT_TRUE(eventually([&] {
    return other.number(
               "select count(*) from pg_stat_activity where application_name = 'pool_test' and "
               "wait_event_type = 'Lock' and datname = current_database()") == 1;
  }));
  terminate_all();
  blocked.join();
  sql.exec("commit");
  EXPECT_EQ(in_doubt, true);
  EXPECT_EQ(sql.number("select count(*) from jobs"), 1);
}

TEST_F(SharedPoolTest, OldConnectionsAreRecycled) {
  auto options = small();
  options.pool_recycle = 1ms;
  auto const pool = made(options);
  auto const first = field(pool->acquire().get(), "select pg_backend_pid()");
  EXPECT_TRUE(eventually([&] { return field(pool->acquire().get(), "select pg_backend_pid()") != first; }));
  EXPECT_GE(pool->stats().recycled, 1);
}

TEST_F(SharedPoolTest, IdleConnectionsAreClosedWithoutAnybodysDoing) {
  auto options = small();
  options.pool_size = 3;
  options.pool_idle_timeout = 30ms;
  auto const pool = made(options);
  {
    auto const a = pool->acquire();
    auto const b = pool->acquire();
    auto const c = pool->acquire();
  }
  EXPECT_TRUE(eventually([&] { return connections() == 0; }));
  EXPECT_EQ(pool->stats().open, 0);
  EXPECT_EQ(field(pool->acquire().get(), "select 1"), "1");
  EXPECT_TRUE(eventually([&] { return connections() == 0; })) << "and again";
}

// Whatever the application leaves behind, a client works as if the connection were new.
TEST_F(SharedPoolTest, WhatTheApplicationLeavesBehindChangesNothing) {
  auto const pool = made(small());
  Client client({.pool = pool});
  for (char const* left : {"set default_transaction_read_only = on", "set statement_timeout = 1",
                           "set default_transaction_isolation = serializable", "set search_path = pg_catalog",
                           "set session_replication_role = replica", "set timezone = 'Asia/Kolkata'", "listen x",
                           "set bytea_output = escape", "deallocate all", "discard all", "begin"}) {
    client.enqueue("k");
    run(pool->acquire().get(), left);
    EXPECT_EQ(client.find(client.enqueue("k", bytes{"\xff"}).id)->state, "available") << left;
  }
  run(pool->acquire().get(), "create table mine (x int)");
  {
    auto const mine = pool->acquire();
    run(mine.get(), "begin");
    run(mine.get(), "drop table mine");
  }
  EXPECT_TRUE(sql.truth("select to_regclass('public.mine') is not null")) << "rolled back";
  field(pool->acquire().get(), "select pg_advisory_lock(7)");
  client.enqueue("k");
  EXPECT_EQ(field(pool->acquire().get(), "show timezone"), sql.one("show timezone"));
  EXPECT_TRUE(sql.truth("select pg_try_advisory_lock(7)"));
  EXPECT_EQ(pool->stats().opened, 1);
}

TEST_F(SharedPoolTest, AConnectionInTheMiddleOfSomethingIsDiscarded) {
  auto const pool = made(small());
  Client client({.pool = pool});
  PQsendQuery(pool->acquire().get(), "select pg_sleep(100)");
  client.enqueue("k");
  run(pool->acquire().get(), "set client_encoding = latin1");
  client.enqueue("k");
  PQenterPipelineMode(pool->acquire().get());
  client.enqueue("k");
  EXPECT_EQ(pool->stats().discarded, 3);
  EXPECT_EQ(pool->stats().opened, 4);
}

TEST_F(SharedPoolTest, TheApplicationsConnectionBlocks) {
  auto const pool = made(small());
  Client({.pool = pool}).enqueue("k");
  auto const mine = pool->acquire();
  EXPECT_EQ(PQisnonblocking(mine.get()), 0);
  auto moved = pool->stats().in_use;
  EXPECT_EQ(moved, 1);
}

TEST_F(SharedPoolTest, SixteenThreadsShareThree) {
  auto options = small();
  options.pool_size = 2;
  options.max_overflow = 1;
  auto const pool = made(options);
  Client client({.pool = pool});
  constexpr int threads = 16, each = 20;
  std::vector<std::thread> all;
  std::atomic<int> most{0};
  for (int i = 0; i < threads; ++i) {
    all.emplace_back([&] {
      for (int n = 0; n < each; ++n) {
        if (n % 4 == 0) {
          auto const mine = pool->acquire();
          int const now = std::stoi(field(mine.get(),
                                          "select count(*) from pg_stat_activity where application_name = "
                                          "'pool_test' and datname = current_database() and backend_type = "
                                          "'client backend' and state <> 'idle'"));
          int before = most;
          while (now > before && !most.compare_exchange_weak(before, now)) {
          }
        }
        client.enqueue("k");
      }
    });
  }
  for (auto& thread : all) thread.join();
  EXPECT_EQ(sql.number("select count(*) from jobs"), threads * each);
  EXPECT_GE(most, 1);
  EXPECT_LE(most, 3);
  EXPECT_EQ(pool->stats().acquired, threads * each + threads * each / 4);
  EXPECT_LE(pool->stats().open, 2);
}

TEST_F(SharedPoolTest, EchoShowsStatementsAndNoValues) {
  auto options = small();
  options.echo = true;
  auto const pool = made(options);
  Client client({.pool = pool});
  client.enqueue("secret_kind", json{R"("secret payload")"}, {.dedupe_key = "secret key"});
  std::vector<Payload> many(6000, json{R"("secret bulk")"});
  client.enqueue_many("secret_kind", many);
  EXPECT_THROW(
      client.enqueue("secret_kind", json{"1"}, {.dedupe_key = "secret key", .on_duplicate = OnDuplicate::error}),
      InvalidArgument);
  std::lock_guard const lock(mutex);
  EXPECT_THAT(lines, Each(Not(HasSubstr("secret"))));
  EXPECT_THAT(lines, Contains(HasSubstr("enqueue_outcome(kind => $1")));
  EXPECT_THAT(lines, Contains(HasSubstr("rows=6000")));
  EXPECT_THAT(lines, Contains(HasSubstr("error=23505")));
  EXPECT_THAT(lines, Contains(HasSubstr("values=20 not shown")));
}

TEST_F(SharedPoolTest, EchoIsOffUnlessAskedFor) {
  auto const pool = made(small());
  Client({.pool = pool}).enqueue("k");
  std::lock_guard const lock(mutex);
  EXPECT_TRUE(lines.empty());
}

/// Counts how often the connection is lent.
class Counting final : public ConnectionSource {
 public:
  explicit Counting(pg_conn* connection) : source_(libpq_connection(connection)) {}
  std::unique_ptr<Borrowed> borrow(std::chrono::milliseconds timeout) override {
    auto borrowed = source_->borrow(timeout);
    ++times;
    return borrowed;
  }
  std::atomic<int> times{0};

 private:
  std::shared_ptr<ConnectionSource> source_;
};

TEST_F(SharedPoolTest, TheCallersOwnListenConnectionWakesWaits) {
  Sql mine(url());
  auto const listen = std::make_shared<Counting>(mine.connection());
  auto options = small();
  options.database.listen = listen;
  auto const pool = made(options);
  {
    Client client({.pool = pool});
    auto const id = client.enqueue("k", json{"1"}).id;
    std::thread waiter([&] { EXPECT_EQ(client.wait(id, 60s).state, "succeeded"); });
    ASSERT_TRUE(eventually([&] {
      return sql.number("select count(*) from pg_locks where locktype = 'advisory' and pid = $1", mine.backend_pid()) >
             0;
    })) << "the job is watched on the caller's connection";
    auto worker_options = quick();
    worker_options.once = true;
    Worker worker(std::move(worker_options));
    worker.on("k", {}, [](Job const&) { return Success{}; });
    work_once(worker);
    waiter.join();
  }
  EXPECT_EQ(listen->times, 1);
  EXPECT_EQ(PQstatus(mine.connection()), CONNECTION_OK);
  EXPECT_EQ(PQisnonblocking(mine.connection()), 0);
  EXPECT_EQ(mine.number("select count(*) from pg_listening_channels()"), 0);
  EXPECT_EQ(mine.number("select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"), 0);
}

TEST_F(SharedPoolTest, AWorkerListensOnTheCallersOwnConnection) {
  Sql mine(url());
  auto const listen = std::make_shared<Counting>(mine.connection());
  auto options = quick();
  options.database.application_name = "pool_test";
  options.database.listen = listen;
  options.duties = false;
  std::atomic<int> ran{0};
  {
    Worker worker(std::move(options));
    worker.on("k", {}, [&](Job const&) { return ++ran, Success{}; });
    worker.start();
    ASSERT_TRUE(eventually([&] { return listen->times == 1; }));
    Client({.database_url = url()}).enqueue("k");
    ASSERT_TRUE(eventually([&] { return ran == 1; }));
    EXPECT_TRUE(eventually([&] { return connections() == 2; }));
    worker.stop();
  }
  EXPECT_EQ(PQstatus(mine.connection()), CONNECTION_OK);
  EXPECT_EQ(mine.number("select count(*) from pg_listening_channels()"), 0);
}

}  // namespace
}  // namespace posthouse::test
