// SPDX-License-Identifier: Apache-2.0
// Roles whose default isolation level is not READ COMMITTED: a clear refusal where it would be wrong, and the library
// sets its own.
#include <gmock/gmock.h>

#include "pg/connection.hpp"
#include "store/work.hpp"
#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class EngineIsolation : public EngineTest, public ::testing::WithParamInterface<char const*> {
 protected:
  EngineIsolation() {
    sql.exec("do $$ begin execute format('alter role %I in database %I set default_transaction_isolation = ''" +
             std::string(GetParam()) + "''', current_user, current_database()); end $$");
  }
  std::string refusal(Sql& session, std::string const& statement) {
    try {
      session.exec(statement);
    } catch (SqlError const& error) {
      return error.sqlstate() + " " + error.what();
    }
    return "accepted";
  }
};

TEST_P(EngineIsolation, RawCallsThatNeedFreshReadsAreRefused) {
  auto session = open();
  ASSERT_EQ(session.one("show transaction_isolation"), GetParam());
  auto const job = session.number("select enqueue('k')");
  Hand worker(session);
  for (std::string const& call :
       {"claim(" + std::to_string(worker.id()) + ", 16, null, 1, 1)", "cancel(" + std::to_string(job) + ")",
        "delete_job(" + std::to_string(job) + ")", std::string("adopt()")}) {
    EXPECT_THAT(refusal(session, "select " + call),
                AllOf(HasSubstr("25001"), HasSubstr(std::string("isolation level ") + GetParam()), HasSubstr("HINT")))
        << call;
  }
  EXPECT_EQ(state(job), "available");
}

TEST_P(EngineIsolation, ProducersWork) {
  auto session = open();
  session.exec("begin");
  auto const first = session.number("select enqueue('k')");
  session.exec("select enqueue_many('[{\"kind\":\"new\"}]'); commit");
  Hand worker(sql, {.kinds = "{k,new}"});
  EXPECT_EQ(worker.claim(10).size(), 2U);
  EXPECT_EQ(state(first), "running");
}

TEST_P(EngineIsolation, AcksWork) {
  enqueue_some(2);
  Hand worker(sql);
  auto const got = worker.claim(2);
  auto session = open();
  worker.use(session);
  EXPECT_THAT(worker.finish(got.at(0).token, "10", 2), IsEmpty());
  EXPECT_THAT(worker.finish(got.at(0).token, "11", 2, "[" + move_of(got.at(1), "retry", 60000) + "]"), IsEmpty());
  EXPECT_EQ(state(got.at(1).id), "retryable");
}

TEST_P(EngineIsolation, TheLibraryWorks) {
  auto const job = enqueue();
  auto const connection = pg::Connection::open(options());
  store::Work work(*connection);
  store::Registration registration;
  registration.name = "library";
  registration.kinds = {"k"};
  auto const worker = work.register_worker(registration);
  auto const claim = work.claim(worker, {.token = 16, .jobs = 5, .start = 5});
  ASSERT_EQ(claim.jobs.size(), 1U);
  EXPECT_EQ(claim.jobs.at(0).id, job);
  std::vector<store::BatchAck> const acks{{.token = 16}};
  EXPECT_THAT(work.finish(worker, acks, {}), IsEmpty());
  EXPECT_EQ(state(job), "succeeded");
}

INSTANTIATE_TEST_SUITE_P(Levels, EngineIsolation, ::testing::Values("repeatable read", "serializable"));

}  // namespace
}  // namespace posthouse::test
