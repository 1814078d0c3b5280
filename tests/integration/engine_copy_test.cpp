// SPDX-License-Identifier: Apache-2.0
// Claims beside a COPY of 300,000 rows into their lane, while it is open and when it has just been committed. They read
// none of its rows. Where a gap between open transactions ends at it, PostgreSQL 15 reads on through its entries in the
// index (a row comparison ends a scan only by its first column), 200 a page, and to no row. Counted in buffers, never in
// time.
#include <gmock/gmock.h>

#include "support/buffers.hpp"
#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAreArray;

constexpr int copied = 300'000;

class EngineCopy : public EngineTest {
 protected:
  EngineCopy() : producer_(open()), worker_(sql) {
    sql.exec(
        "do $$ declare t text; begin for t in select oid::regclass::text from pg_class where relnamespace = "
        "'posthouse'::regnamespace and relkind = 'r' loop execute format('alter table %s set (autovacuum_enabled = "
        "off)', t); end loop; end $$");
    enqueue();
    worker_.finish(worker_.claim(10).at(0).token);
  }

  void copy() {
    producer_.exec("set statement_timeout = 0; begin");
    PQclear(PQexec(producer_.connection(), "copy job (lane, payload) from stdin"));
    std::string rows;
    for (int i = 0; i < 1000; ++i) rows += std::to_string(lane()) + "\t{\"n\": 1}\n";
    for (int i = 0; i < copied / 1000; ++i)
      PQputCopyData(producer_.connection(), rows.data(), static_cast<int>(rows.size()));
    PQputCopyEnd(producer_.connection(), nullptr);
    while (PGresult* const result = PQgetResult(producer_.connection())) {
      EXPECT_EQ(PQresultStatus(result), PGRES_COMMAND_OK) << PQresultErrorMessage(result);
      PQclear(result);
    }
  }

  std::int64_t buffers(std::string const& statement) { return buffers_of(sql, statement); }
  std::int64_t claim_cost(int n) {
    return buffers("select * from claim(" + std::to_string(worker_.id()) + ", " + std::to_string(worker_.take_token()) +
                   ", array[" + std::to_string(lane()) + "], " + std::to_string(n) + ", 10)");
  }
  std::int64_t one_cost() {
    return buffers("select * from finish_and_claim_one(" + std::to_string(worker_.id()) + ", null, " +
                   std::to_string(worker_.take_token()) + ", " + std::to_string(lane()) + ")");
  }
  std::int64_t pages(std::string const& name_ends_in) {
    return sql.number(
        "select max(pg_relation_size(oid)) / current_setting('block_size')::bigint from pg_class where relname ~ "
        "('^job_2.*' || "
        "$1 || '$')",
        name_ends_in);
  }
  std::int64_t look_cost() { return buffers("select look(" + std::to_string(worker_.id()) + ")"); }

  Sql producer_;
  Hand worker_;
};

TEST_F(EngineCopy, ClaimsBesideItTouchNoMorePages) {
  enqueue_some(200);
  auto const many = claim_cost(100);
  auto const one = one_cost();
  auto const look = look_cost();
  // Twice of what it was, since the jobs lie on other pages. `passes`: over the index entries of the COPY.
  std::int64_t leaves = 0;
  std::int64_t heap = 0;
  auto const expect_cheap = [&](char const* when, int passes) {
    EXPECT_LE(claim_cost(100), 2 * many + 50 + passes * leaves) << when;
    EXPECT_LE(one_cost(), 2 * one + 50 + 2 * passes * leaves) << when;  // its own try, and that of finish_and_claim
    EXPECT_LE(look_cost(), 2 * look + 50 + passes * (leaves + heap)) << when;
  };
  copy();
  leaves = pages("lane_txid_id_idx");
  heap = pages("[0-9]");
  ASSERT_GT(heap, 2 * leaves) << "who reads the rows is seen";
  expect_cheap("open, with a backlog before it", 0);
  // Behind it: all that is there to claim has higher transaction ids than the 300,000 rows.
  for (;;) {
    auto const got = worker_.claim(1000);
    if (got.empty()) break;
    worker_.finish(got.at(0).token);
  }
  auto const behind = enqueue_some(200);
  expect_cheap("open, with a backlog behind it", 1);
  EXPECT_EQ(worker_.claim(50).size(), 50U);
  expect_cheap("open, in the middle of a window", 1);
  producer_.exec("commit");
  expect_cheap("just committed, in the middle of the window", 1);
  auto got = ids(worker_.claim(150));
  EXPECT_THAT(got, ElementsAreArray(Ids(behind.begin() + 50, behind.end())));
  expect_cheap("just committed, in the window of its own", 1);
  EXPECT_EQ(worker_.claim(1000).size(), 1000U) << "and it is found";
}

TEST_F(EngineCopy, OneThatWasRolledBackCostsNothingEither) {
  enqueue_some(200);
  auto const many = claim_cost(100);
  auto const look = look_cost();
  copy();
  producer_.exec("rollback");
  worker_.finish(worker_.claim(200).at(0).token);
  auto const behind = enqueue_some(200);
  auto const first = claim_cost(100);  // may mark dead index entries as such
  auto const leaves = pages("lane_txid_id_idx");
  EXPECT_LE(std::min(first, claim_cost(100)), 2 * many + 50 + leaves);
  EXPECT_LE(look_cost(), 2 * look + 50 + leaves);
  EXPECT_THAT(ids(worker_.claim(200)), ElementsAreArray(behind));
}

}  // namespace
}  // namespace posthouse::test
