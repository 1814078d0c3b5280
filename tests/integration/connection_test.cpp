// SPDX-License-Identifier: Apache-2.0
// One connection: values both ways, errors by class, what is in doubt, deadlines, notifications, COPY, fork.
#include "pg/connection.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <future>

#include <posthouse/error.hpp>

#include "base/event_fd.hpp"
#include "pg/pool.hpp"
#include "support/database.hpp"
#include "support/eventually.hpp"
#include "support/tcp_gate.hpp"

namespace posthouse::test {
namespace {

using namespace std::chrono_literals;
using pg::Clock;
using pg::Connection;
using pg::Format;
using pg::Params;

class ConnectionTest : public ::testing::Test {
 protected:
  /// Straight to the server, also when others go through a pooler: it is about sessions.
  [[nodiscard]] DatabaseOptions options() const { return {.database_url = database.url()}; }
  [[nodiscard]] std::unique_ptr<Connection> open() const { return Connection::open(options()); }
  /// A connection through the gate.
  [[nodiscard]] DatabaseOptions through(TcpGate const& gate) const {
    DatabaseOptions o = options();
    o.database_url = gate.url();
    return o;
  }

  TestDatabase database{TestDatabase::empty};
  Sql sql{database.url()};
};

/// The error that `call` throws; fails the test when it throws none of that type.
template <class E, class Call>
E error_of(Call call) {
  try {
    call();
  } catch (E const& error) {
    return error;
  }
  ADD_FAILURE() << "no such exception";
  return E("none");
}

TEST_F(ConnectionTest, ValuesComeBackAsTheyWereSent) {
  auto const connection = open();
  std::vector<std::int64_t> const numbers{-1, 0, INT64_MAX};
  std::vector<int> const small{1, -2};
  std::vector<std::string> const texts{"a,b", "q\"u\\o", "", "NULL", "☃"};
  std::vector<std::optional<std::string>> const holes{std::nullopt, "x"};
  auto const row = connection->query(
      "select $1::text, $2::bigint, $3::boolean, $4::bytea, $5::bigint[], $6::int[], $7::text[], $8::text[], $9::text",
      Params()
          .text("it's ☃")
          .int8(INT64_MIN)
          .boolean(true)
          .bytea(std::string_view("\0\xff", 2))
          .int8_array(numbers)
          .int4_array(small)
          .text_array(std::span<std::string const>(texts))
          .text_array(std::span<std::optional<std::string> const>(holes))
          .null());
  EXPECT_EQ(row.text(0, 0), "it's ☃");
  EXPECT_EQ(row.int8(0, 1), INT64_MIN);
  EXPECT_EQ(row.field(0, 2), "t");
  EXPECT_EQ(row.field(0, 3), "\\x00ff");
  EXPECT_EQ(row.field(0, 4), "{-1,0,9223372036854775807}");
  EXPECT_EQ(row.field(0, 5), "{1,-2}");
  EXPECT_EQ(row.text(0, 6), R"({"a,b","q\"u\\o","","NULL",☃})");
  EXPECT_EQ(row.field(0, 7), "{NULL,x}");
  EXPECT_TRUE(row.is_null(0, 8));
  EXPECT_EQ(row.maybe(0, 8), std::nullopt);
}

TEST_F(ConnectionTest, BinaryFieldsAreDecodedAndChecked) {
  auto const connection = open();
  auto const row = connection->prepared("select 7::bigint, -7::int, '{\"a\": 1}'::jsonb", {}, Format::binary);
  EXPECT_EQ(row.binary_int8(0, 0), 7);
  EXPECT_EQ(row.binary_int4(0, 1), -7);
  EXPECT_EQ(row.binary_jsonb(0, 2), "{\"a\": 1}");
  EXPECT_THROW((void)row.binary_int8(0, 1), ServerError);
  EXPECT_THROW((void)row.binary_jsonb(0, 0), ServerError);
  EXPECT_THROW((void)connection->query("select 'x'").int8(0, 0), ServerError);
}

TEST_F(ConnectionTest, TextThatTheServerWouldRefuseIsRefusedUnsent) {
  EXPECT_THROW(Params().text(std::string_view("a\0b", 3)), InvalidArgument);
  EXPECT_THROW(Params().text("\xc3("), InvalidArgument);
  auto const connection = open();
  std::string const hostile = R"(a'b\c"d; drop table x; --)";
  EXPECT_EQ(connection->query("select " + connection->quote_literal(hostile)).text(0, 0), hostile);
  EXPECT_EQ(connection->query("select 1 as " + connection->quote_identifier(hostile)).rows(), 1);
}

TEST_F(ConnectionTest, ErrorsAreClassedBySqlstateAndLeaveTheConnectionUsable) {
  auto const connection = open();
  EXPECT_EQ(error_of<InvalidArgument>([&] { connection->query("select 1 / 0"); }).sqlstate(), "22012");
  auto const syntax = error_of<ServerError>([&] { connection->query("selec 1"); });
  EXPECT_EQ(syntax.sqlstate(), "42601");
  EXPECT_FALSE(syntax.in_doubt());
  auto const missing = error_of<SchemaMissing>([&] { connection->query("select \"posthouse\".nothing(1)"); });
  EXPECT_EQ(missing.sqlstate(), "3F000");
  EXPECT_NE(std::string(missing.what()).find("posthouse install"), std::string::npos);
  EXPECT_EQ(error_of<ServerError>([&] { connection->query("select other.nothing(1)"); }).sqlstate(), "3F000");
  sql.exec("create table t (x int primary key); insert into t values (1)");
  auto const twice = error_of<InvalidArgument>([&] { connection->query("insert into t values (1)"); });
  EXPECT_NE(twice.hint().find("already exists"), std::string::npos) << "the server's DETAIL is kept";
  EXPECT_EQ(connection->query("select 1").int8(0, 0), 1);
}

TEST_F(ConnectionTest, CopyAsAPlainStatementIsRefusedAndTheConnectionClosed) {
  auto const connection = open();
  EXPECT_THROW(connection->query("copy pg_class to stdout"), InvalidArgument);
  EXPECT_FALSE(connection->ok());
  EXPECT_THROW(connection->query("select 1"), Unavailable);
}

TEST_F(ConnectionTest, TerminatedBackendIsUnavailableWithTheServersReason) {
  auto const connection = open();
  auto running = std::async(std::launch::async,
                            [&] { return error_of<Unavailable>([&] { connection->query("select pg_sleep(60)"); }); });
  ASSERT_TRUE(eventually([&] {
    return sql.truth("select exists (select from pg_stat_activity where pid = $1 and wait_event = 'PgSleep')",
                     connection->backend_pid());
  }));
  sql.one("select pg_terminate_backend($1)", connection->backend_pid());
  auto const error = running.get();
  EXPECT_EQ(error.sqlstate(), "57P01") << "kept, although the line broke right after it";
  EXPECT_TRUE(error.in_doubt());
  EXPECT_FALSE(connection->ok());
}

TEST_F(ConnectionTest, AliveFindsWhatWasClosedWhileIdle) {
  auto const connection = open();
  EXPECT_TRUE(connection->alive());
  sql.one("select pg_terminate_backend($1, 5000)", connection->backend_pid());
  EXPECT_TRUE(eventually([&] { return !connection->alive(); }));
}

TEST_F(ConnectionTest, ALossInsideATransactionIsNotInDoubtButThatOfCommitIs) {
  sql.exec("create table t (x int)");
  TcpGate gate(database.url());
  {
    auto const connection = Connection::open(through(gate));
    connection->begin();
    connection->query("insert into t values (1)");
    gate.cut();
    EXPECT_FALSE(error_of<Unavailable>([&] { connection->query("insert into t values (2)"); }).in_doubt());
  }
  {
    auto const connection = Connection::open(through(gate));
    connection->begin();
    connection->query("insert into t values (3)");
    gate.lose_reply("commit");
    EXPECT_TRUE(error_of<Unavailable>([&] { connection->commit(); }).in_doubt());
  }
  {
    auto const connection = Connection::open(through(gate));
    gate.lose_reply("values (4)");
    EXPECT_TRUE(error_of<Unavailable>([&] { connection->query("insert into t values (4)"); }).in_doubt());
  }
  EXPECT_EQ(sql.column("select x from t order by 1"), (std::vector<std::string>{"3", "4"}));
}

TEST_F(ConnectionTest, ASilentServerEndsInTimeoutAndAClosedConnection) {
  TcpGate gate(database.url());
  auto const connection = Connection::open(through(gate));
  connection->set_deadline(300ms);
  gate.hang();
  auto const start = Clock::now();
  auto const error = error_of<Timeout>([&] { connection->query("select 1"); });
  auto const passed = Clock::now() - start;
  EXPECT_TRUE(error.in_doubt());
  EXPECT_GE(passed, 300ms);
  EXPECT_LT(passed, 5s);
  EXPECT_FALSE(connection->ok());
}

TEST_F(ConnectionTest, TheServerEndsLongStatementsItselfWithoutDoubt) {
  DatabaseOptions o = options();
  o.statement_timeout = 500ms;
  auto const connection = Connection::open(o);
  auto const error = error_of<Timeout>([&] { connection->query("select pg_sleep(30)"); });
  EXPECT_EQ(error.sqlstate(), "57014");
  EXPECT_FALSE(error.in_doubt());
  EXPECT_TRUE(connection->ok());
  connection->set_deadline(5s);
  EXPECT_NO_THROW(connection->query("select pg_sleep(0.7)")) << "the server is told of a longer deadline";
}

TEST_F(ConnectionTest, PreparedStatementsSurviveDiscardAndChangedResults) {
  auto const connection = open();
  sql.exec("create table t (x int); insert into t values (1)");
  std::string const statement = "select * from t";
  EXPECT_EQ(connection->prepared(statement).columns(), 1);
  EXPECT_EQ(sql.number("select 1"), 1);
  connection->script("deallocate all");
  EXPECT_EQ(connection->prepared(statement).columns(), 1);
  sql.exec("alter table t add y int");
  EXPECT_EQ(connection->prepared(statement).columns(), 2);
}

TEST_F(ConnectionTest, CommitOfAFailedTransactionSaysSo) {
  auto const connection = open();
  connection->begin();
  EXPECT_THROW(connection->query("select 1 / 0"), InvalidArgument);
  auto const error = error_of<ServerError>([&] { connection->commit(); });
  EXPECT_EQ(error.sqlstate(), "25P02");
  EXPECT_FALSE(error.in_doubt());
  EXPECT_FALSE(connection->in_transaction());
}

TEST_F(ConnectionTest, NotificationsAreNeverLost) {
  auto const connection = open();
  connection->script("listen a");
  sql.exec("notify a, 'one'");
  ASSERT_TRUE(eventually([&] { return connection->query("select 1").rows() == 1; }));
  // It came with the answer of another statement; wait() must not sleep over it.
  std::vector<pg::Notification> seen = connection->wait(-1, Clock::now() + 20s);
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].channel, "a");
  EXPECT_EQ(seen[0].payload, "one");
  sql.exec("notify a, 'two'");
  seen = connection->wait(-1, Clock::now() + 20s);
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].payload, "two");
  auto const start = Clock::now();
  EXPECT_TRUE(connection->wait(-1, start + 100ms).empty());
  EXPECT_GE(Clock::now() - start, 100ms);
}

TEST_F(ConnectionTest, WaitEndsWhenTheWakeDescriptorIsReadable) {
  auto const connection = open();
  base::EventFd wake;
  wake.signal();
  auto const start = Clock::now();
  EXPECT_TRUE(connection->wait(wake.fd(), start + 30s).empty());
  EXPECT_LT(Clock::now() - start, 20s);
}

TEST_F(ConnectionTest, WaitFindsTheEndOfTheSession) {
  auto const connection = open();
  sql.one("select pg_terminate_backend($1)", connection->backend_pid());
  EXPECT_THROW(
      {
        for (;;) connection->wait(-1, Clock::now() + 20s);
      },
      Unavailable);
}

TEST_F(ConnectionTest, CopyTakesChunksAndKeepsErrorsApart) {
  auto const connection = open();
  sql.exec("create table t (x int primary key, y text)");
  int next = 0;
  std::string chunk;
  auto const rows = connection->copy_in("copy t from stdin", [&]() -> std::string_view {
    chunk.clear();
    for (int i = 0; i < 1000 && next < 20'000; ++i, ++next) chunk += std::to_string(next) + "\tsome text\n";
    return chunk;
  });
  EXPECT_EQ(rows, 20'000);
  EXPECT_EQ(sql.number("select count(*) from t"), 20'000);

  bool sent = false;
  EXPECT_THROW(connection->copy_in("copy t from stdin",
                                   [&]() -> std::string_view { return std::exchange(sent, true) ? "" : "0\ttwice\n"; }),
               InvalidArgument);
  EXPECT_THROW(connection->copy_in("copy t from stdin", []() -> std::string_view { throw std::runtime_error("mine"); }),
               std::runtime_error);
  EXPECT_THROW(connection->copy_in("select 1", []() -> std::string_view { return {}; }), InvalidArgument);
  EXPECT_TRUE(connection->ok());
  EXPECT_EQ(connection->query("select count(*) from t").int8(0, 0), 20'000);
}

TEST_F(ConnectionTest, CopyLossInTheMiddleIsUnavailable) {
  sql.exec("create table t (x text)");
  TcpGate gate(database.url());
  auto const connection = Connection::open(through(gate));
  connection->begin();
  gate.cut_after(1'000'000, TcpGate::Way::to_server);
  std::string const chunk = std::string(10'000, 'x') + "\n";
  int chunks = 0;
  auto const error = error_of<Unavailable>([&] {
    connection->copy_in("copy t from stdin",
                        [&] { return ++chunks > 2000 ? std::string_view() : std::string_view(chunk); });
  });
  EXPECT_FALSE(error.in_doubt());
  EXPECT_FALSE(connection->ok());
}

TEST_F(ConnectionTest, AForkedChildCannotUseOrHarmTheParentsConnection) {
  auto connection = open();
  pid_t const child = ::fork();
  if (child == 0) {
    int refused = 0;
    try {
      connection->query("select 1");
    } catch (InvalidArgument const&) {
      refused = 1;
    }
    connection.reset();
    ::_exit(refused == 1 ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(connection->query("select 2").int8(0, 0), 2);
}

TEST_F(ConnectionTest, StatementsAreReadCommittedWhateverTheRoleSays) {
  sql.exec("create role strict login; alter role strict set default_transaction_isolation = serializable");
  std::string const isolation = "select current_setting('transaction_isolation')";
  DatabaseOptions o = options();
  o.database_url += database.url().find('?') == std::string::npos ? "?user=strict" : "&user=strict";
  for (bool const pooled : {false, true}) {
    o.pgbouncer_transaction_mode = pooled;
    auto const connection = Connection::open(o);
    EXPECT_EQ(connection->query("select current_user").field(0, 0), "strict");
    EXPECT_EQ(connection->query(isolation).field(0, 0), "read committed") << "pooled: " << pooled;
    EXPECT_EQ(connection->prepared(isolation).field(0, 0), "read committed");
    connection->begin();
    EXPECT_EQ(connection->query(isolation).field(0, 0), "read committed");
    connection->commit();
    EXPECT_THROW(connection->query("select 1 / 0"), InvalidArgument);
    EXPECT_FALSE(connection->in_transaction());
  }
  sql.exec("drop role strict");
}

TEST_F(ConnectionTest, PooledConnectionsSetNoSessionState) {
  DatabaseOptions o = options();
  o.pgbouncer_transaction_mode = true;
  auto const connection = Connection::open(o);
  connection->prepared("select 1");
  EXPECT_EQ(connection->query("select count(*) from pg_prepared_statements").int8(0, 0), 0);
  EXPECT_EQ(connection
                ->query("select count(*) from pg_settings where source = 'session' and name not in "
                        "('transaction_isolation', 'transaction_read_only')")
                .int8(0, 0),
            0);
}

TEST_F(ConnectionTest, EachHostHasItsOwnTimeAndTheFirstGoodOneIsTaken) {
  TcpGate silent(database.url());
  silent.hang();
  TcpGate good(database.url());
  DatabaseOptions o = options();
  o.connect_timeout = 300ms;
  auto const base = sql.rows("select current_user, current_database()").at(0);
  o.database_url = "host=127.0.0.1,127.0.0.1 port=" + std::to_string(silent.port()) + "," +
                   std::to_string(good.port()) + " sslmode=disable gssencmode=disable user=" + *base[0] +
                   " dbname=" + *base[1];
  auto const start = Clock::now();
  auto const connection = Connection::open(o);
  EXPECT_EQ(connection->query("select 1").int8(0, 0), 1);
  EXPECT_LT(Clock::now() - start, 5s);
  good.refuse();
  auto const error = error_of<Unavailable>([&] { Connection::open(o); });
  EXPECT_NE(std::string(error.what()).find("did not answer within 300 ms"), std::string::npos) << error.what();
}

TEST_F(ConnectionTest, BadUrlsAreNamedWithoutTheirPasswords) {
  for (std::string const url :
       {"postgresql://u:hidden@h:5432:5433/d", "postgresql://u:hidden@[h/d", "postgresql://u:hidden@h/d?nosuch=1",
        "host=h password='hidden", "mysql://u:hidden@h/d", "postgresql://u:hid%00den@h/d"}) {
    DatabaseOptions o = options();
    o.database_url = url;
    auto const error = error_of<InvalidArgument>([&] { Connection::open(o); });
    EXPECT_EQ((std::string(error.what()) + error.hint()).find("hid"), std::string::npos) << url << ": " << error.what();
  }
  DatabaseOptions o = options();
  o.schema = std::string(49, 'x');
  EXPECT_THROW(Connection::open(o), InvalidArgument);
  o = options();
  o.statement_timeout = 0ms;
  EXPECT_THROW(Connection::open(o), InvalidArgument);
}

TEST_F(ConnectionTest, PoolLendsAtMostItsSizeAndReplacesWhatBroke) {
  pg::Pool pool(options(), 2, 200ms);
  int pid = 0;
  {
    auto first = pool.acquire();
    auto second = pool.acquire();
    EXPECT_THROW((void)pool.acquire(), Timeout);
    pid = first->backend_pid();
    second->begin();
  }
  {
    auto again = pool.acquire();
    auto other = pool.acquire();
    EXPECT_TRUE(again->backend_pid() == pid || other->backend_pid() == pid) << "connections are kept";
    EXPECT_FALSE(again->in_transaction() || other->in_transaction()) << "and given back clean";
  }
  sql.one("select pg_terminate_backend($1, 5000)", pid);
  for (int i = 0; i < 4; ++i) {
    auto first = pool.acquire();
    auto second = pool.acquire();
    EXPECT_EQ(first->query("select 1").rows() + second->query("select 1").rows(), 2);
  }
}

}  // namespace
}  // namespace posthouse::test
