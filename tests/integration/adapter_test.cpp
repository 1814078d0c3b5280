// SPDX-License-Identifier: Apache-2.0
// Jobs in the caller's own transaction: libpq and libpqxx, commit, rollback, savepoints, refusals.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <posthouse/adapter/libpq.hpp>
#include <posthouse/adapter/pqxx.hpp>
#include <posthouse/client.hpp>

#include "support/engine.hpp"
#include "support/tcp_gate.hpp"

namespace posthouse::test {
namespace {

using ::testing::HasSubstr;

class AdapterTest : public EngineTest {
 protected:
  std::vector<std::string> payloads() { return sql.column("select payload::text from jobs order by id"); }

  Client client{{.database = options()}};
  Sql mine{url()};  ///< the application's connection
};

TEST_F(AdapterTest, LibpqJobsCommitAndRollBackWithTheTransaction) {
  mine.exec("begin");
  auto const id = client.enqueue(mine.connection(), "k", json{"1"}, {.headers = {{"a", "'"}}, .max_attempts = 4}).id;
  EXPECT_EQ(sql.number("select count(*) from jobs"), 0) << "not before the commit";
  mine.exec("commit");
  auto const found = client.find(id).value();
  EXPECT_EQ(found.headers, R"({"a": "'"})");
  EXPECT_EQ(found.max_attempts, 4);
  mine.exec("begin");
  client.enqueue(mine.connection(), "k", json{"2"});
  mine.exec("rollback");
  EXPECT_EQ(payloads(), std::vector<std::string>{"1"});
}

TEST_F(AdapterTest, LibpqSavepointsTakeBackWhatCameAfterThem) {
  mine.exec("begin");
  client.enqueue(mine.connection(), "k", json{"1"});
  mine.exec("savepoint s");
  client.enqueue(mine.connection(), "k", json{"2"});
  mine.exec("rollback to savepoint s");
  client.enqueue(mine.connection(), "k", json{"3"});
  mine.exec("commit");
  EXPECT_EQ(payloads(), (std::vector<std::string>{"1", "3"}));
}

TEST_F(AdapterTest, LibpqWithoutATransactionCommitsEachCall) {
  client.enqueue(mine.connection(), "k", json{"1"});
  EXPECT_EQ(payloads(), std::vector<std::string>{"1"});
}

TEST_F(AdapterTest, LibpqBulkAndBytes) {
  std::vector<Request> requests(12'000);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    requests[i].kind = i % 2 == 0 ? "a" : "b";
    requests[i].payload = json{std::to_string(i)};
  }
  mine.exec("begin");
  auto const outcomes = client.enqueue_many(mine.connection(), requests);
  auto const raw = client.enqueue(mine.connection(), "raw", bytes{std::string("\0\\x\xff", 4)}).id;
  mine.exec("commit");
  ASSERT_EQ(outcomes.size(), requests.size());
  EXPECT_EQ(client.find(outcomes[11'999].id)->payload.data(), "11999");
  EXPECT_EQ(client.find(outcomes[5000].id)->kind, "a");
  EXPECT_EQ(client.find(raw)->payload.data(), std::string("\0\\x\xff", 4));
}

TEST_F(AdapterTest, LibpqConnectionsThatCannotTakeAJobAreRefusedWithWords) {
  auto const words = [&](PGconn* connection) {
    try {
      client.enqueue(connection, "k");
    } catch (InvalidArgument const& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_THAT(words(nullptr), HasSubstr("null"));
  mine.exec("begin");
  mine.sqlstate_of("select 1 / 0");
  EXPECT_THAT(words(mine.connection()), HasSubstr("already failed"));
  mine.exec("rollback");
  PQsetClientEncoding(mine.connection(), "LATIN1");
  EXPECT_THAT(words(mine.connection()), HasSubstr("UTF8"));
  PQsetClientEncoding(mine.connection(), "UTF8");
  PQsendQuery(mine.connection(), "select 1");
  EXPECT_THAT(words(mine.connection()), HasSubstr("another statement"));
  while (PGresult* result = PQgetResult(mine.connection())) PQclear(result);
  EXPECT_EQ(words(mine.connection()), "accepted");
  sql.one("select pg_terminate_backend($1, 5000)", mine.backend_pid());
  EXPECT_THROW(client.enqueue(mine.connection(), "k"), Unavailable);
}

TEST_F(AdapterTest, LibpqWorksOnANonblockingConnection) {
  PQsetnonblocking(mine.connection(), 1);
  EXPECT_GT(client.enqueue(mine.connection(), "k", json{"\"" + std::string(900'000, 'x') + "\""}).id, 0);
}

TEST_F(AdapterTest, PqxxTransactionsAndSubtransactions) {
  pqxx::connection connection(url());
  {
    pqxx::work work(connection);
    client.enqueue(work, "k", json{R"({"q": "it's \\ ☃"})"}, {.headers = {{"a", "b"}}});
    {
      pqxx::subtransaction sub(work, "s");
      client.enqueue(sub, "k", json{"2"});
      sub.abort();
    }
    {
      pqxx::subtransaction sub(work, "t");
      client.enqueue(sub, "k", json{"3"});
      sub.commit();
    }
    work.commit();
  }
  {
    pqxx::work work(connection);
    client.enqueue(work, "k", json{"4"});
    work.abort();
  }
  {
    pqxx::nontransaction work(connection);
    client.enqueue(work, "k", bytes{"5"});
  }
  EXPECT_EQ(payloads(), (std::vector<std::string>{R"({"q": "it's \\ ☃"})", "3", ""}));
}

TEST_F(AdapterTest, PqxxBulk) {
  pqxx::connection connection(url());
  pqxx::work work(connection);
  std::vector<Request> const requests(6000, Request{.kind = "k", .payload = json{"1"}});
  auto const outcomes = client.enqueue_many(work, requests);
  work.commit();
  EXPECT_EQ(outcomes.size(), 6000U);
  EXPECT_EQ(sql.number("select count(*) from job"), 6000);
}

TEST_F(AdapterTest, PqxxErrorsAreOursAndRefusalsLeaveTheTransactionAlive) {
  pqxx::connection connection(url());
  pqxx::work work(connection);
  EXPECT_THROW(client.enqueue(work, "not a kind"), InvalidArgument);
  client.enqueue(work, "k", json{"1"});
  work.commit();
  EXPECT_EQ(payloads(), std::vector<std::string>{"1"});

  Client elsewhere{{.database_url = url(), .database = {.schema = "nowhere"}}};
  pqxx::work other(connection);
  EXPECT_THROW(elsewhere.enqueue(other, "k"), SchemaMissing);
}

TEST_F(AdapterTest, PqxxLossOfTheConnectionIsUnavailable) {
  TcpGate gate(url());
  pqxx::connection connection(gate.url());
  pqxx::work work(connection);
  client.enqueue(work, "k");
  gate.cut();
  try {
    client.enqueue(work, "k");
    FAIL();
  } catch (Unavailable const& error) {
    EXPECT_FALSE(error.in_doubt());
  }
}

}  // namespace
}  // namespace posthouse::test
