// SPDX-License-Identifier: Apache-2.0
// posthouse/testing.hpp against a real server: what a transaction has enqueued, and running it there.
#include <gtest/gtest.h>

#include <chrono>
#include <posthouse/error.hpp>
#include <posthouse/testing.hpp>
#include <stdexcept>
#include <string>
#include <variant>

#include "support/sql.hpp"

namespace posthouse {
namespace {

using namespace std::chrono_literals;
using test::Sql;

class TestingTest : public ::testing::Test {
 protected:
  testing::Database database{};
  Sql sql{database.url()};
  [[nodiscard]] Transaction transaction() { return {sql.connection()}; }
};

TEST_F(TestingTest, DatabasesAreApart) {
  testing::Database const other;
  EXPECT_NE(other.url(), database.url());
  EXPECT_EQ(other.options().database_url, other.url());
  sql.exec("select posthouse.enqueue('a')");
  EXPECT_EQ(Sql(other.url()).one("select count(*) from posthouse.jobs"), "0");
}

TEST_F(TestingTest, EnqueuedShowsTheTransactionsOwnJobs) {
  sql.exec("begin");
  sql.exec(
      "select posthouse.enqueue('mail', '{\"to\": 1}', queue => 'q', priority => 7, headers => '{\"a\": \"b\"}', "
      "max_attempts => 3)");
  sql.exec("select posthouse.enqueue_bytes('mail', '\\x00ff')");
  sql.exec("select posthouse.enqueue('mail', delay => '1 hour')");
  sql.exec("select posthouse.enqueue('other')");
  auto const jobs = testing::enqueued(transaction(), "mail");
  ASSERT_EQ(jobs.size(), 3U);
  EXPECT_EQ(jobs[0].kind, "mail");
  EXPECT_EQ(jobs[0].queue, "q");
  EXPECT_EQ(jobs[0].priority, 7);
  EXPECT_EQ(jobs[0].state, "available");
  EXPECT_EQ(jobs[0].max_attempts, 3);
  EXPECT_EQ(jobs[0].payload.data(), "{\"to\": 1}");
  EXPECT_EQ(jobs[0].headers.at("a"), "b");
  EXPECT_FALSE(jobs[0].run_at);
  EXPECT_EQ(jobs[1].payload.data(), std::string("\0\xff", 2));
  EXPECT_EQ(jobs[2].state, "scheduled");
  ASSERT_TRUE(jobs[2].run_at);
  EXPECT_GT(*jobs[2].run_at, std::chrono::system_clock::now() + 50min);
  EXPECT_TRUE(testing::enqueued(Transaction(Sql(database.url()).connection()), "mail").empty()) << "not committed yet";
  sql.exec("rollback");
  EXPECT_TRUE(testing::enqueued(transaction(), "mail").empty());
}

TEST_F(TestingTest, RunDueRunsWhatTheTransactionEnqueuedAndRollsBackWithIt) {
  sql.exec("create table effect (x text)");
  sql.exec("begin");
  sql.exec("select posthouse.enqueue('low', '{\"n\": 1}')");
  sql.exec(
      "savepoint s; select posthouse.enqueue('high', '{\"n\": 2}', priority => 5, headers => '{\"h\": \"v\"}'); "
      "release s");
  sql.exec("select posthouse.enqueue('nobodys')");
  auto const handler = [&](Job const& job) {
    sql.exec("insert into effect values ('" + job.kind() + " " + std::string(job.payload().data()) + "')");
    if (job.kind() == "high") {
      EXPECT_EQ(job.headers().at("h"), "v");
      sql.exec("select posthouse.enqueue('low', '{\"n\": 3}')");
    }
  };
  auto const results = testing::run_due(transaction(), {{"low", handler}, {"high", handler}});
  ASSERT_EQ(results.size(), 3U);
  EXPECT_EQ(results[0].kind, "high");
  EXPECT_EQ(results[0].attempt, 1);
  EXPECT_TRUE(std::holds_alternative<Success>(results[2].outcome));
  EXPECT_EQ(sql.column("select x from effect"),
            (std::vector<std::string>{"high {\"n\": 2}", "low {\"n\": 1}", "low {\"n\": 3}"}));
  EXPECT_TRUE(testing::enqueued(transaction(), "low").empty());
  EXPECT_EQ(testing::enqueued(transaction(), "nobodys").size(), 1U);
  EXPECT_TRUE(testing::run_due(transaction(), {{"low", handler}}).empty());
  sql.exec("rollback");
  EXPECT_EQ(sql.one("select count(*) from effect"), "0");
  EXPECT_EQ(sql.one("select count(*) from posthouse.jobs"), "0");
}

TEST_F(TestingTest, RunDueRecordsEveryOtherOutcome) {
  sql.exec("begin");
  for (std::string const name : {"throws", "discards", "snoozes", "later"})
    sql.exec("select posthouse.enqueue('" + name + "')");
  sql.exec("select posthouse.enqueue('throws', max_attempts => 1)");
  auto const results =
      testing::run_due(transaction(), {{"throws", [](Job const&) { throw std::runtime_error("broken"); }},
                                       {"discards", [](Job const&) { return Discard{"useless"}; }},
                                       {"snoozes", [](Job const&) { return Snooze{1h}; }},
                                       {"later", [](Job const&) {
                                          return RetryAfter{2h, "busy"};
                                        }}});
  EXPECT_EQ(results.size(), 5U);
  auto const rows =
      sql.rows("select kind, state, attempt, last_error, max_attempts from posthouse.jobs order by kind, id");
  ASSERT_EQ(rows.size(), 5U);
  using Row = Sql::Row;
  EXPECT_EQ(rows[0], (Row{"discards", "failed", "1", "useless", "25"}));
  EXPECT_EQ(rows[1], (Row{"later", "retryable", "1", "busy", "25"}));
  EXPECT_EQ(rows[2], (Row{"snoozes", "scheduled", "0", std::nullopt, "25"}));
  EXPECT_EQ(rows[3], (Row{"throws", "retryable", "1", "broken", "25"}));
  EXPECT_EQ(rows[4], (Row{"throws", "failed", "1", "broken", "1"}));
  EXPECT_EQ(sql.one("select type from posthouse.attempt_error where message = 'broken' limit 1"), "std::runtime_error");
  sql.exec("commit");
  EXPECT_EQ(sql.one("select count(*) from posthouse.jobs"), "5") << "what was moved stays moved";
}

TEST_F(TestingTest, AFailureUndoesWhatTheHandlerDidAndTheTransactionGoesOn) {
  sql.exec("create table effect (x int)");
  sql.exec("begin");
  sql.exec("select posthouse.enqueue('bad')");
  sql.exec("select posthouse.enqueue('good')");
  testing::run_due(transaction(), {{"bad",
                                    [&](Job const&) {
                                      sql.exec("insert into effect values (1)");
                                      sql.exec("select 1/0");
                                    }},
                                   {"good", [&](Job const&) { sql.exec("insert into effect values (2)"); }}});
  EXPECT_EQ(sql.column("select x from effect"), std::vector<std::string>{"2"});
  EXPECT_EQ(testing::enqueued(transaction(), "bad").at(0).state, "retryable");
  sql.exec("commit");
}

TEST_F(TestingTest, TheClockCanBeSetAhead) {
  sql.exec("begin");
  sql.exec("select posthouse.enqueue('k', delay => '1 hour')");
  std::vector<std::int64_t> attempts;
  std::vector<testing::InlineHandler> const handlers{{"k", [&](Job const& job) {
                                                        attempts.push_back(job.attempt());
                                                        if (job.attempt() == 1) throw RetryAfter{1h};
                                                      }}};
  EXPECT_TRUE(testing::run_due(transaction(), handlers).empty());
  EXPECT_TRUE(testing::run_due(transaction(), handlers, {.ahead = 59min}).empty());
  EXPECT_EQ(testing::run_due(transaction(), handlers, {.ahead = 61min}).size(), 1U);
  EXPECT_TRUE(testing::run_due(transaction(), handlers, {.ahead = 119min}).empty()) << "the retry is due at 2:01";
  EXPECT_EQ(testing::run_due(transaction(), handlers, {.ahead = 122min}).size(), 1U);
  EXPECT_EQ(attempts, (std::vector<std::int64_t>{1, 2}));
  EXPECT_TRUE(testing::enqueued(transaction(), "k").empty());
}

// As the engine would.
TEST_F(TestingTest, RunDueEndsWhatHasExpired) {
  sql.exec("begin");
  sql.exec("select posthouse.enqueue('k', '1', expires_in => '10 min'), posthouse.enqueue('k', '2')");
  sql.exec("select posthouse.enqueue('k', '3', delay => '1 hour', expires_in => '90 min')");
  int ran = 0;
  std::vector<testing::InlineHandler> const handlers{{"k", [&](Job const&) { ++ran; }}};
  EXPECT_EQ(testing::run_due(transaction(), handlers, {.ahead = 11min}).size(), 1U);
  EXPECT_TRUE(testing::run_due(transaction(), handlers, {.ahead = 91min}).empty());
  EXPECT_EQ(ran, 1);
  EXPECT_EQ(
      sql.column(
          "select payload::text || ' ' || state || ' ' || attempt || ' ' || reason from posthouse.dead order by id"),
      (std::vector<std::string>{"1 expired 0 not started before expires_at",
                                "3 expired 0 not started before expires_at"}));
  EXPECT_EQ(sql.one("select count(*) from posthouse.attempt_error"), "0");
}

TEST_F(TestingTest, RunDueLeavesWhatIsPausedOrHeld) {
  sql.exec("begin");
  sql.exec(
      "select posthouse.pause_kind('kind'), posthouse.pause_queue('q'), posthouse.pause_key('k', 'paused'), "
      "posthouse.hold_kind('held', '10 min'), posthouse.hold_key('k', 'held', '10 min')");
  sql.exec(
      "select posthouse.enqueue('kind'), posthouse.enqueue('k', queue => 'q'), posthouse.enqueue('k', key => "
      "'paused'), "
      "posthouse.enqueue('held'), posthouse.enqueue('k', key => 'held'), posthouse.enqueue('k', key => 'free')");
  std::vector<std::string> ran;
  auto const handler = [&](Job const& job) { ran.push_back(job.kind()); };
  std::vector<testing::InlineHandler> const handlers{{"k", handler}, {"kind", handler}, {"held", handler}};
  EXPECT_EQ(testing::run_due(transaction(), handlers).size(), 1U);
  EXPECT_EQ(testing::run_due(transaction(), handlers, {.ahead = 11min}).size(), 2U) << "the holds are over";
  sql.exec("select posthouse.resume_kind('kind'), posthouse.resume_queue('q'), posthouse.resume_key('k', 'paused')");
  EXPECT_EQ(testing::run_due(transaction(), handlers).size(), 3U);
  EXPECT_EQ(sql.one("select count(*) from posthouse.dead"), "0");
}

TEST_F(TestingTest, RetryAfterHoldsTheKeyElseTheKind) {
  sql.exec("begin");
  sql.exec(
      "select posthouse.enqueue('k', key => 'a'), posthouse.enqueue('k', key => 'a'), posthouse.enqueue('k', key => "
      "'b'), "
      "posthouse.enqueue('k'), posthouse.enqueue('k')");
  std::vector<std::int64_t> ran;
  std::vector<testing::InlineHandler> const handlers{{"k", [&](Job const& job) {
                                                        ran.push_back(job.id());
                                                        if (job.attempt() == 1 && job.id() % 3 == 1)
                                                          throw RetryAfter{10min};
                                                      }}};
  EXPECT_EQ(testing::run_due(transaction(), handlers).size(), 3U);
  EXPECT_EQ(ran, (std::vector<std::int64_t>{1, 3, 4})) << "1 holds its key, 4 the kind";
  EXPECT_TRUE(testing::run_due(transaction(), handlers).empty());
  EXPECT_EQ(testing::run_due(transaction(), handlers, {.ahead = 11min}).size(), 4U);
}

TEST_F(TestingTest, RunDueLeavesOthersJobsAlone) {
  Sql(database.url()).exec("select posthouse.enqueue('k')");
  sql.exec("begin");
  EXPECT_TRUE(testing::run_due(transaction(), {{"k", [](Job const&) {}}}).empty());
}

TEST_F(TestingTest, WhatIsWrongIsSaid) {
  EXPECT_THROW(testing::run_due(transaction(), {{"k", [](Job const&) {}}}), InvalidArgument) << "no transaction";
  sql.exec("begin");
  EXPECT_THROW(testing::run_due(transaction(), {{"k", [](Job const&) {}}, {"k", [](Job const&) {}}}), InvalidArgument);
  EXPECT_THROW(testing::run_due(transaction(), {{"no kind", [](Job const&) {}}}), InvalidArgument);
  sql.exec("select posthouse.enqueue('k')");
  auto const endless = [&](Job const&) { sql.exec("select posthouse.enqueue('k')"); };
  EXPECT_THROW(testing::run_due(transaction(), {{"k", endless}}, {.limit = 20}), InvalidArgument);
}

TEST_F(TestingTest, AnotherSchemaName) {
  testing::Database const other("my jobs");
  Sql mine(other.url());
  mine.exec("begin");
  mine.exec("select \"my jobs\".enqueue('k')");
  Transaction const in(mine.connection());
  EXPECT_EQ(testing::enqueued(in, "k", "my jobs").size(), 1U);
  EXPECT_EQ(testing::run_due(in, {{"k", [](Job const&) {}}}, {.schema = "my jobs"}).size(), 1U);
}

}  // namespace
}  // namespace posthouse
