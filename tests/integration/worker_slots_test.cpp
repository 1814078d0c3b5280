// SPDX-License-Identifier: Apache-2.0
// A worker that the server refuses further connections (53300) keeps its lease on those it has.
#include <gtest/gtest.h>

#include <latch>

#include "integration/worker_fixture.hpp"
#include "support/eventually.hpp"

namespace posthouse::test {
namespace {

class WorkerSlots : public WorkerTest {
 protected:
  WorkerSlots() {
    sql.exec("create role " + role + " login connection limit 3; grant usage on schema posthouse to " + role +
             "; grant all on all tables in schema posthouse to " + role +
             "; grant all on all sequences in schema posthouse to " + role +
             "; grant execute on all functions in schema posthouse to " + role);
  }
  ~WorkerSlots() override {
    sql.rows("select pg_terminate_backend(pid, 20000) from pg_stat_activity where usename = $1", role);
    sql.exec("drop owned by " + role + "; drop role " + role);
  }
  std::int64_t connections() { return sql.number("select count(*) from pg_stat_activity where usename = $1", role); }
  void end_listener() {
    sql.rows(
        "select pg_terminate_backend(pid, 20000) from pg_stat_activity where usename = $1 and query ~* "
        "'^listen|keep\\('",
        role);
  }

  std::string const role = "slots_" + database.name();
  std::string const as_role = url() + (url().find('?') == std::string::npos ? "?user=" : "&user=") + role;
};

TEST_F(WorkerSlots, TheLeaseOutlivesARefusedConnection) {
  auto options = quick();
  options.database_url = as_role;
  options.claim_lease = 2s;
  options.claim_lease_given = true;
  options.duties = false;
  std::latch go{1};
  Worker worker(std::move(options));
  worker.on("k", {}, [&](Job const&) {
    go.wait();
    return Success{};
  });
  worker.start();
  auto const id = Client({.database_url = url()}).enqueue("k").id;
  EXPECT_TRUE(eventually([&] { return jobs_in("running") == 1 && connections() == 3; }));

  // The connection for LISTEN ends, and its place is not to be had again.
  sql.exec("alter role " + role + " connection limit 2");
  EXPECT_TRUE(eventually([&] {
    end_listener();
    return logged("LISTEN connection lost");
  }));
  EXPECT_THROW(Sql{as_role}, SqlError) << "so it fares no better";
  auto const began = sql.one("select clock_timestamp()");
  EXPECT_TRUE(eventually([&] {
    return sql.truth("select exists (select from heartbeat where at > $1::timestamptz + interval '4500 ms')", began);
  })) << "more than two leases later";
  EXPECT_EQ(connections(), 2);
  EXPECT_EQ(jobs_in("running"), 1);
  go.count_down();
  EXPECT_TRUE(eventually([&] { return jobs_in("succeeded") == 1; }));
  EXPECT_EQ(Client({.database_url = url()}).find(id)->attempt, 1);

  sql.exec("alter role " + role + " connection limit 3");
  EXPECT_TRUE(eventually([&] { return connections() == 3; })) << "LISTEN is back";
  worker.stop();
  EXPECT_EQ(worker.stats().lease_lost, 0);
}

}  // namespace
}  // namespace posthouse::test
