// SPDX-License-Identifier: Apache-2.0
// A schema that came by pg_dump into another database: its transaction ids mean nothing there. Nothing is claimed before
// adopt; then every unfinished job exactly once, finished ones never.
#include <gmock/gmock.h>

#include <cstdio>
#include <filesystem>

#include "dev/programs.hpp"
#include "support/child_process.hpp"
#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class EngineAdopt : public EngineTest {
 protected:
  EngineAdopt() : other_(TestDatabase::empty) {}

  /// Everything of the first database in the second one.
  Sql restore() {
    auto const folder = dev::find_programs().folder;
    std::string const file = ::testing::TempDir() + "/" + database.name() + ".sql";
    ChildProcess dump({(folder / "pg_dump").string(), "--no-owner", "-f", file, "-d", url()});
    EXPECT_EQ(dump.wait(), 0) << dump.errors();
    ChildProcess load(
        {(folder / "psql").string(), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", file, "-d", other_.url()});
    EXPECT_EQ(load.wait(), 0) << load.errors();
    std::filesystem::remove(file);
    auto there = engine_session(other_.url());
    come_from_a_busier_cluster(there);
    return there;
  }
  /// Both databases are in one cluster: the stored ids become such as this one has not reached yet.
  static void come_from_a_busier_cluster(Sql& there) {
    there.exec(R"(
      create function pg_temp.later(x xid8) returns xid8 language sql as $$ select (x::text::bigint + 1000000000)::text::xid8 $$;
      create function pg_temp.later(s pg_snapshot) returns pg_snapshot language sql as $$
        select (pg_temp.later(pg_snapshot_xmin(s))::text || ':' || pg_temp.later(pg_snapshot_xmax(s))::text || ':' ||
          coalesce((select string_agg(pg_temp.later(x)::text, ',' order by x) from pg_snapshot_xip(s) x), ''))::pg_snapshot $$;
      update job set txid = pg_temp.later(txid);
      update batch set lo = pg_temp.later(lo), hi = pg_temp.later(hi),
        pos_txid = case when pos_txid = '0' then pos_txid else pg_temp.later(pos_txid) end)");
  }
  static std::string state_in(Sql& session, std::int64_t id) {
    return session.one("select state from jobs where id = $1", id);
  }

  TestDatabase other_;
};

TEST_F(EngineAdopt, UnfinishedJobsRunOnceAndFinishedOnesNever) {
  Hand worker(sql, {.kinds = "{k,other}"});
  auto const done = enqueue_some(3);
  worker.finish(worker.claim(10).at(0).token);
  auto const completed = enqueue();
  worker.complete(sql, worker.claim(10).at(0));
  auto const partly = enqueue_some(3);
  auto const got = worker.claim(10, 2);
  worker.finish(got.at(0).token, "100", 2);
  auto const released = enqueue();
  auto const to_release = worker.claim(10);
  worker.finish(to_release.at(0).token, std::nullopt, 1, "[" + move_of(to_release.at(0), "release") + "]");
  auto late = open();
  late.exec("begin");
  auto const after_hi = late.number("select enqueue('other')");
  enqueue("other");
  auto const second = worker.claim(10, 10, array({lane("other")}));
  for (auto const& job : second) worker.finish(job.token);
  late.exec("commit");
  auto const waiting = enqueue_some(2);
  auto const unfolded = enqueue("unfolded");
  auto const scheduled = sql.number("select enqueue('k', delay => '1 hour')");
  auto const dead = enqueue("doomed");
  ASSERT_EQ(sql.one("select cancel($1)", dead), "cancelled");

  auto const unfinished = sorted(numbers(sql.column("select id from jobs where state in ('available', 'running')")));
  auto const succeeded = sorted(numbers(sql.column("select id from jobs where state = 'succeeded'")));
  ASSERT_THAT(unfinished, ::testing::IsSupersetOf({partly[1], partly[2], released, waiting[0], waiting[1], unfolded}));

  auto there = restore();
  EXPECT_EQ(there.sqlstate_of("select register_worker('w', 'h', 1, '0', null, '{k}', 30000, 1)"), "55000");
  EXPECT_EQ(there.one("select beat($1, 0, 1, 1) ->> 'alive'", worker.id()), "false") << "an incarnation of the dump";
  EXPECT_EQ(there.number("select lead($1::bigint)", worker.id()), 0);

  EXPECT_EQ(there.number("select adopt()"), static_cast<std::int64_t>(unfinished.size()));
  Hand next(there, {.kinds = "{k,other,unfolded,doomed}"});
  there.exec("select promote()");
  Ids claimed;
  for (;;) {
    auto const some = next.claim(100);
    if (some.empty()) break;
    for (auto const& job : some) {
      claimed.push_back(job.id);
      next.finish(job.token);
    }
  }
  EXPECT_EQ(sorted(claimed), unfinished);
  for (auto const id : succeeded) EXPECT_EQ(state_in(there, id), "succeeded");
  EXPECT_EQ(state_in(there, completed), "succeeded");
  EXPECT_EQ(state_in(there, done[0]), "succeeded");
  EXPECT_EQ(state_in(there, scheduled), "scheduled");
  EXPECT_EQ(state_in(there, dead), "cancelled");
  EXPECT_GT(after_hi, 0);
  EXPECT_EQ(
      there.column("select concat_ws(' ', queue, kind, state, jobs) from counts() order by 1"),
      there.column(
          "select concat_ws(' ', queue, kind, state, count(*)) from jobs group by queue, kind, state order by 1"));
  // And life goes on.
  auto const fresh = there.number("select enqueue('k')");
  EXPECT_THAT(ids(next.claim(10)), ElementsAre(fresh));
  EXPECT_GT(fresh, unfinished.back());
}

TEST_F(EngineAdopt, AttemptsSurvive) {
  Hand worker(sql);
  auto const job = enqueue();
  auto const got = worker.claim(1);
  worker.finish(got.at(0).token, std::nullopt, 1, "[" + move_of(got.at(0), "retry", 0) + "]");
  sql.exec("select promote()");
  auto there = restore();
  EXPECT_EQ(there.number("select adopt()"), 1);
  there.exec("select promote()");
  Hand next(there);
  auto const again = next.claim(10);
  ASSERT_THAT(ids(again), ElementsAre(job));
  EXPECT_EQ(again.at(0).attempt, 1);
  EXPECT_EQ(there.number("select count(*) from attempt_error"), 1);
}

// On a system that runs: nothing is lost, nothing runs without its worker being told.
TEST_F(EngineAdopt, InPlaceEndsWhoeverRuns) {
  Hand worker(sql);
  auto const jobs = enqueue_some(2);
  auto const got = worker.claim(1);
  EXPECT_EQ(sql.number("select adopt()"), 2);
  EXPECT_THAT(worker.finish(got.at(0).token), ElementsAre(got.at(0).token));
  EXPECT_THAT(worker.claim(10), IsEmpty());
  sql.exec("select promote()");
  Hand next(sql);
  EXPECT_EQ(sorted(ids(next.claim(10))), jobs);
  EXPECT_EQ(sql.number("select adopt()"), 2) << "again";
}

// A template that never ran a worker may be cloned by tests: install does not write the identity.
TEST_F(EngineAdopt, ASchemaThatNeverRanIsAtHomeAnywhere) {
  EXPECT_EQ(sql.number("select count(*) from meta where key = 'identity'"), 0);
  auto there = restore();
  Hand worker(there);
  EXPECT_EQ(there.number("select count(*) from meta where key = 'identity'"), 1);
}

// Its jobs would wait until this cluster has begun as many transactions as the other one had.
TEST_F(EngineAdopt, JobsOfAnotherClusterThatNeverRanAreFound) {
  auto const job = enqueue();
  auto there = restore();
  EXPECT_EQ(there.sqlstate_of("select register_worker('w', 'h', 1, '0', null, '{k}', 30000, 1)"), "55000");
  EXPECT_EQ(there.number("select count(*) from meta where key = 'identity'"), 0);
  EXPECT_EQ(there.number("select adopt()"), 1);
  there.exec("select promote()");
  Hand next(there);
  EXPECT_THAT(ids(next.claim(10)), ElementsAre(job));
}

// The application is up before somebody calls adopt: to the other cluster's windows its jobs look as if they were old.
TEST_F(EngineAdopt, JobsEnqueuedSinceTheRestoreAreNotLost) {
  Hand worker(sql);
  auto const done = enqueue_some(3);
  worker.finish(worker.claim(10).at(0).token);
  auto const waiting = enqueue();
  auto there = restore();
  auto const fresh = there.number("select enqueue('k')");
  there.exec("begin");
  there.exec("savepoint one");
  auto const nested = there.number("select enqueue('k')");
  there.exec("release savepoint one");
  there.exec("commit");
  there.exec("vacuum (freeze) job");
  EXPECT_EQ(there.number("select adopt()"), 3);
  there.exec("select promote()");
  Hand next(there);
  auto const got = next.claim(10);
  EXPECT_THAT(sorted(ids(got)), ElementsAre(waiting, fresh, nested));
  next.finish(got.at(0).token);
  for (auto const id : done) EXPECT_EQ(state_in(there, id), "succeeded");
  EXPECT_EQ(there.number("select adopt()"), 0) << "nothing was restored since";
}

}  // namespace
}  // namespace posthouse::test
