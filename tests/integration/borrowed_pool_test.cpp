// SPDX-License-Identifier: Apache-2.0
// Clients over connections of the application's: libpq and libpqxx, healthy and broken.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <stdexcept>

#include <posthouse/adapter/libpq.hpp>
#include <posthouse/adapter/pqxx.hpp>
#include <posthouse/client.hpp>
#include <posthouse/pool.hpp>
#include <posthouse/schedules.hpp>

#include "integration/worker_fixture.hpp"
#include "support/eventually.hpp"

namespace posthouse::test {
namespace {

using ::testing::HasSubstr;

/// The application's pool of libpq connections, the simplest there is.
class OwnPool {
 public:
  explicit OwnPool(std::string const& url) : url_(url) {}

  PGconn* take(std::chrono::milliseconds timeout) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, timeout, [&] { return !free_.empty(); })) return nullptr;
    auto* const connection = free_.front();
    free_.pop_front();
    ++taken;
    return connection;
  }
  void put(PGconn* connection, bool usable) {
    if (!usable) {
      ++unusable;
      PQreset(connection);
    }
    {
      std::lock_guard const lock(mutex_);
      free_.push_back(connection);
    }
    changed_.notify_one();
  }
  void add() {
    all_.push_back(std::make_unique<Sql>(url_));
    all_.back()->exec("set application_name = 'own_pool'");
    put(all_.back()->connection(), true);
  }
  Sql& connection(std::size_t i) { return *all_.at(i); }
  std::shared_ptr<ConnectionSource> source() {
    return libpq_connections([this](std::chrono::milliseconds timeout) { return take(timeout); },
                             [this](PGconn* connection, bool usable) { put(connection, usable); });
  }
  int taken = 0;
  int unusable = 0;

 private:
  std::string url_;
  std::vector<std::unique_ptr<Sql>> all_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<PGconn*> free_;
};

class BorrowedPoolTest : public WorkerTest {
 protected:
  std::shared_ptr<Pool> over(std::shared_ptr<ConnectionSource> source, int size = 1) {
    PoolOptions options{.name = "lent", .pool_size = size, .max_overflow = 0, .pool_timeout = 5s};
    options.logger = [this](LogRecord const& record) {
      if (record.message.starts_with("waits for results poll")) ++said_to_poll;
    };
    return std::make_shared<Pool>(std::move(options), std::move(source));
  }
  std::atomic<int> said_to_poll{0};

  template <class Call>
  static std::string refusal(Call call) {
    try {
      call();
    } catch (Error const& error) {
      return error.what();
    }
    return "nothing was thrown";
  }
  /// What each client does, over whatever connections.
  void everything(std::shared_ptr<Pool> const& pool) {
    Client client({.pool = pool, .safe_resend = true});
    auto const id = client.enqueue("k", json{R"({"a": "ä'"})"}, {.headers = {{"h", "v"}}}).id;
    EXPECT_EQ(client.find(id)->payload.data(), R"({"a": "ä'"})");
    auto const raw = client.enqueue("k", bytes{std::string("\x00\xff\\x", 4)}).id;
    EXPECT_EQ(client.find(raw)->payload.data(), std::string("\x00\xff\\x", 4));
    EXPECT_EQ(client.enqueue("k", {}, {.dedupe_key = "d"}).status, EnqueueStatus::created);
    EXPECT_EQ(client.enqueue("k", {}, {.dedupe_key = "d"}).status, EnqueueStatus::duplicate);
    std::vector<Payload> const many(6'000, json{"1"});
    auto const ids = client.enqueue_many("bulk", many);
    EXPECT_EQ(sql.number("select count(*) from jobs where kind = 'bulk'"), 6'000);
    EXPECT_EQ(client.find(ids.back())->kind, "bulk");
    std::vector<Request> requests(3);
    for (auto& request : requests) request = {.kind = "few", .payload = json{"2"}, .options = {.dedupe_key = "one"}};
    EXPECT_EQ(client.enqueue_many(requests)[2].status, EnqueueStatus::duplicate);
    EXPECT_THROW(client.enqueue("k", json{"1"}, {.dedupe_key = "d", .on_duplicate = OnDuplicate::error}),
                 InvalidArgument);
    EXPECT_EQ(client.cancel(id), CancelOutcome::cancelled);
    Schedules schedules({.pool = pool});
    schedules.add({.name = "s", .kind = "k", .every = 1h});
    EXPECT_EQ(schedules.find("s")->schedule.kind, "k");

    auto const wanted = client.enqueue("result", json{"1"}).id;
    auto const wanted_bytes = client.enqueue("result", json{"2"}).id;
    auto options = quick();
    options.once = true;
    options.kinds = {"result"};
    Worker worker(std::move(options));
    worker.on("result", {}, [](Job const& job) -> Outcome {
      if (job.payload().data() == "2") return Success{bytes{std::string("\x00\xfe", 2)}, {}};
      return Success{json{R"({"r": 1})"}, {}};
    });
    work_once(worker);
    auto const ended = client.wait(wanted, 60s);
    EXPECT_TRUE(ended.succeeded());
    EXPECT_EQ(ended.result.data(), R"({"r": 1})");
    EXPECT_EQ(client.wait(wanted_bytes, 60s).result.data(), std::string("\x00\xfe", 2));
  }
};

TEST_F(BorrowedPoolTest, EverythingGoesThroughTheApplicationsLibpqConnections) {
  OwnPool own(url());
  own.add();
  auto const pool = over(own.source());
  everything(pool);
  EXPECT_GT(own.taken, 10);
  EXPECT_EQ(own.unusable, 0);
  auto& mine = own.connection(0);
  EXPECT_EQ(PQisnonblocking(mine.connection()), 0);
  EXPECT_EQ(mine.one("show application_name"), "own_pool");
  EXPECT_EQ(mine.number("select count(*) from pg_prepared_statements"), 0);
  EXPECT_EQ(mine.one("show statement_timeout"), "0");
  EXPECT_EQ(pool->stats().open, 0) << "nothing is kept";
}

TEST_F(BorrowedPoolTest, TheApplicationMayTakeItsOwnThroughThePool) {
  OwnPool own(url());
  own.add();
  auto const pool = over(own.source());
  {
    auto const lease = pool->acquire("mine");
    EXPECT_EQ(lease.get(), own.connection(0).connection());
    PQclear(PQexec(lease.get(), "begin"));
  }
  EXPECT_EQ(PQtransactionStatus(own.connection(0).connection()), PQTRANS_IDLE);
}

TEST_F(BorrowedPoolTest, ABrokenConnectionIsGivenBackAsSuch) {
  OwnPool own(url());
  own.add();
  own.add();
  auto const pool = over(own.source(), 2);
  Client client({.pool = pool});
  client.enqueue("k");
  sql.rows(
      "select pg_terminate_backend(pid, 20000) from pg_stat_activity where application_name = 'own_pool' and "
      "datname = current_database()");
  client.enqueue("k");
  EXPECT_GE(own.unusable, 1);
  EXPECT_EQ(sql.number("select count(*) from jobs"), 2);
}

TEST_F(BorrowedPoolTest, WhatCannotBeUsedIsRefused) {
  Sql mine(url());
  Client client({.pool = over(libpq_connection(mine.connection()))});
  mine.exec("begin");
  EXPECT_THAT(refusal([&] { client.enqueue("k"); }), HasSubstr("inside a transaction"));
  mine.exec("rollback; set client_encoding = latin1");
  EXPECT_THAT(refusal([&] { client.enqueue("k"); }), HasSubstr("client_encoding"));
  mine.exec("set client_encoding = utf8");
  client.enqueue("k");
  Client none({.pool = over(libpq_connections([](auto) { return nullptr; }, [](PGconn*, bool) {}))});
  EXPECT_THAT(refusal([&] { none.enqueue("k"); }), HasSubstr("no free connection"));
  Client bad({.pool = over(libpq_connections([](auto) -> PGconn* { throw std::runtime_error("down for today"); },
                                             [](PGconn*, bool) {}))});
  EXPECT_THAT(refusal([&] { bad.enqueue("k"); }), HasSubstr("down for today"));
}

// There is nowhere to LISTEN: the wait looks from time to time, and the pool says so once.
TEST_F(BorrowedPoolTest, WithoutASessionConnectionWaitsPollAndSaySoOnce) {
  Sql mine(url());
  auto const pool = over(libpq_connection(mine.connection()));
  Client client({.pool = pool});
  auto const id = client.enqueue("k", json{"1"}).id;
  EXPECT_TRUE(eventually([&] { return client.wait(id, 200ms).state == "available" && said_to_poll == 1; }));
  EXPECT_EQ(client.wait(id, 200ms).state, "available");
  EXPECT_EQ(mine.number("select count(*) from pg_listening_channels()"), 0);
  EXPECT_EQ(said_to_poll, 1);
}

TEST_F(BorrowedPoolTest, EverythingGoesThroughTheApplicationsPqxxConnections) {
  auto const mine = std::make_shared<pqxx::connection>(url());
  auto const pool = over(pqxx_connections([&](auto) { return mine; }));
  everything(pool);
  EXPECT_THAT(refusal([&] { pool->acquire(); }), HasSubstr("another library"));
  EXPECT_EQ(pool->stats().open, 0);
  pqxx::work work(*mine);
  EXPECT_EQ(work.exec("select count(*) from pg_prepared_statements")[0][0].as<int>(), 0);
}

TEST_F(BorrowedPoolTest, ATransactionOfPqxxThatFailsLeavesNothingOpen) {
  auto const mine = std::make_shared<pqxx::connection>(url());
  Client client({.pool = over(pqxx_connections([&](auto) { return mine; })), .safe_resend = true});
  std::vector<Request> requests(2);
  for (auto& request : requests) {
    request = {.kind = "k", .options = {.dedupe_key = "d", .on_duplicate = OnDuplicate::error}};
  }
  EXPECT_THROW(client.enqueue_many(requests), InvalidArgument);
  EXPECT_EQ(sql.number("select count(*) from jobs"), 0);
  EXPECT_EQ(sql.number("select count(*) from pg_stat_activity where datname = current_database() and state like 'idle "
                       "in transaction%'"),
            0);
  EXPECT_GT(client.enqueue("k").id, 0);
}

TEST_F(BorrowedPoolTest, PqxxConnectionsThatDieAreReplacedByTheApplication) {
  auto mine = std::make_shared<pqxx::connection>(url());
  int taken = 0;
  auto const pool = over(pqxx_connections([&](auto) {
    ++taken;
    if (!mine->is_open()) mine = std::make_shared<pqxx::connection>(url());
    return mine;
  }));
  Client client({.pool = pool});
  client.enqueue("k");
  sql.rows("select pg_terminate_backend(pid, 20000) from pg_stat_activity where pid = $1", mine->backendpid());
  // libpqxx finds out by sending, so a first call may be in doubt and fail.
  int made = 1;
  try {
    client.enqueue("k");
    ++made;
  } catch (Unavailable const&) {
  }
  client.enqueue("k");
  ++made;
  EXPECT_GE(taken, 3);
  EXPECT_EQ(sql.number("select count(*) from jobs"), made);
}

}  // namespace
}  // namespace posthouse::test
