// SPDX-License-Identifier: Apache-2.0
// Completion inside the handler's own transaction: effects and completion commit together.
#include "integration/worker_fixture.hpp"

namespace posthouse::test {
namespace {

class WorkerComplete : public WorkerTest {
 protected:
  WorkerComplete() { sql.exec("create table public.effect (job bigint primary key)"); }

  WorkerOptions once() {
    auto options = quick();
    options.once = true;
    return options;
  }
  std::int64_t effects() { return sql.number("select count(*) from public.effect"); }
};

TEST_F(WorkerComplete, CommitsWithTheEffects) {
  auto const ids = enqueue_some(20);
  Worker worker(once());
  worker.on("k", [&](Job const& job) {
    Sql own(url());
    own.exec("begin");
    own.rows("insert into public.effect values ($1)", job.id());
    job.complete(own.connection());
    own.exec("commit");
  });
  auto const stats = work_once(worker);
  EXPECT_EQ(stats.succeeded, 20);
  EXPECT_EQ(effects(), 20);
  EXPECT_EQ(jobs_in("succeeded"), 20);
  sql.rows("select prune()");
  EXPECT_EQ(sql.number("select count(*) from done"), 0) << "upkeep takes those of closed batches";
}

TEST_F(WorkerComplete, RollbackLeavesTheJobUnfinished) {
  auto const id = enqueue();
  Worker worker(once());
  int runs = 0;
  worker.on("k", policy(5), [&](Job const& job) {
    Sql own(url());
    own.exec("begin");
    own.rows("insert into public.effect values ($1)", job.id());
    job.complete(own.connection());
    if (++runs == 1) {
      own.exec("rollback");
      throw std::runtime_error("rolled back");
    }
    own.exec("commit");
  });
  work_once(worker);
  EXPECT_EQ(runs, 2);
  EXPECT_EQ(effects(), 1);
  EXPECT_EQ(state(id), "succeeded");
  EXPECT_EQ(errors_of(id), 1);
}

TEST_F(WorkerComplete, FailureAfterTheCommitDoesNotRepeatTheJob) {
  auto const id = enqueue();
  Worker worker(once());
  int runs = 0;
  worker.on("k", policy(5), [&](Job const& job) {
    ++runs;
    Sql own(url());
    own.exec("begin");
    own.rows("insert into public.effect values ($1)", job.id());
    job.complete(own.connection());
    own.exec("commit");
    throw std::runtime_error("too late to matter");
  });
  work_once(worker);
  EXPECT_EQ(runs, 1);
  EXPECT_EQ(state(id), "succeeded");
}

TEST_F(WorkerComplete, LostLeaseIsToldAndNothingIsWritten) {
  auto const id = enqueue();
  auto options = quick();
  options.duties = false;
  Worker worker(options);
  std::atomic<bool> refused{false};
  std::atomic<int> runs{0};
  worker.on("k", [&](Job const& job) {
    Sql own(url());
    if (++runs == 1) {
      own.rows("update posthouse.worker set ended_at = now(), end_reason = 'lease lapsed' where id = $1",
               job.facts().worker);
      // It leaves a worker alone that claims just then, and nobody here leads.
      EXPECT_TRUE(eventually([&] {
        own.rows("select posthouse.reap()");
        return own.truth("select reaped_at is not null from posthouse.worker where id = $1", job.facts().worker);
      }));
    }
    own.exec("begin");
    own.rows("insert into public.effect values ($1)", job.id());
    try {
      job.complete(own.connection());
    } catch (LeaseLost const&) {
      refused = true;
      own.exec("rollback");
      throw;
    }
    own.exec("commit");
  });
  worker.start();
  // The new incarnation takes the job again.
  EXPECT_TRUE(eventually([&] { return state(id) == "succeeded"; }));
  worker.stop();
  EXPECT_TRUE(refused);
  EXPECT_EQ(runs, 2);
  EXPECT_EQ(effects(), 1);
  EXPECT_GE(worker.stats().lease_lost, 1);
}

}  // namespace
}  // namespace posthouse::test
