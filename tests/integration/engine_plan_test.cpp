// SPDX-License-Identifier: Apache-2.0
// The plans of the hot statements, whatever statistics the planner has: asserted by what auto_explain says of each
// statement inside the functions, never by time.
#include <gmock/gmock.h>

#include <map>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// Statistics: none; made while the tables were empty; made when they were full.
enum class Statistics { none, of_empty_tables, of_full_tables };

std::string name_of(::testing::TestParamInfo<Statistics> const& info) {
  switch (info.param) {
    case Statistics::none:
      return "NoStatistics";
    case Statistics::of_empty_tables:
      return "AnalysedEmpty";
    case Statistics::of_full_tables:
      return "AnalysedFull";
  }
  return "";
}

class EnginePlan : public EngineTest, public ::testing::WithParamInterface<Statistics> {
 protected:
  static constexpr int rows = 60'000;

  void SetUp() override {
    sql.exec(
        "do $$ declare t text; begin for t in select oid::regclass::text from pg_class where relnamespace = "
        "'posthouse'::regnamespace and relkind = 'r' loop execute format('alter table %s set (autovacuum_enabled = "
        "off)', t); end loop; end $$");
    if (GetParam() == Statistics::of_empty_tables) sql.exec("vacuum analyze");
    enqueue("k");
    enqueue("other");
    worker_ = std::make_unique<Hand>(sql, Hand::Options{.kinds = "{k,other}"});
    worker_->claim(10);
    for (int i = 0; i < 6; ++i) {
      sql.rows(
          "insert into job (lane, payload) select lane_of('default', case when i % 3 = 0 then 'other' else 'k' end, 0, "
          "false), '{\"n\": 1}' from generate_series(1, $1) i",
          rows / 6);
      if (i % 2 == 0) worker_->claim(2000, 10);
    }
    // A past of batches, deferred, dead and completed jobs.
    sql.rows(
        "insert into batch select l, s, 0, l * 1000 + s, '5:5:', '6:6:', '5', 1, now() - interval '1 day', now(), 500, "
        "500, 0, null, "
        "array(select generate_series(1, 50)) from generate_series(1, 20) l, generate_series(1, 200) s");
    sql.rows(
        "insert into deferred select nextval('job_id'), lane_of('default', 'k', 0, false), 'scheduled', now() + i * "
        "interval "
        "'1 second', now(), 0 from generate_series(1, $1) i",
        rows / 3);
    sql.rows(
        "insert into dead select nextval('job_id'), lane_of('default', 'k', 0, false), 'failed', now(), now(), 0 "
        "from generate_series(1, $1) i",
        rows / 3);
    sql.rows("insert into attempt_error (job, attempt, at) select i, 1, now() from generate_series(1, $1) i", rows / 3);
    sql.rows("insert into done (worker, token, pos, job) select 0, i, 0, i from generate_series(1, $1) i", rows / 3);
    sql.rows(
        "insert into heartbeat (worker, at, low_token, free, running) select $1, now() - i * interval '1 second', 0, "
        "1, 1 "
        "from generate_series(1, 5000) i",
        worker_->id());
    if (GetParam() == Statistics::of_full_tables) sql.exec("vacuum analyze");
    // A new session: the plans that this one keeps were made for tables that were nearly empty.
    sql = open();
    worker_->use(sql);
    sql.exec(
        "load 'auto_explain'; set auto_explain.log_min_duration = 0; set auto_explain.log_nested_statements = on; "
        "set auto_explain.log_level = notice; set client_min_messages = notice");
    PQsetNoticeProcessor(
        sql.connection(),
        [](void* plans, char const* text) { static_cast<EnginePlan*>(plans)->plans_.emplace_back(text); }, this);
  }

  /// The plans of the statements that `call` runs.
  template <class Call>
  std::string plans(Call call) {
    plans_.clear();
    call();
    std::string all;
    for (auto const& plan : plans_) {
      if (plan.find("plan:") != std::string::npos) all += plan + "\n";
    }
    EXPECT_FALSE(all.empty());
    return all;
  }
  /// The one plan of those statements whose text holds `part`.
  std::string plan_with(std::string const& part) const {
    for (auto const& plan : plans_) {
      if (plan.find("plan:") != std::string::npos && plan.find(part) != std::string::npos) return tree(plan);
    }
    ADD_FAILURE() << "no statement with: " << part;
    return "";
  }
  /// Without the statement's text, in which words like "order by" mean nothing.
  static std::string tree(std::string const& plan) {
    auto const cost = plan.find("(cost=");
    auto const line = plan.rfind('\n', cost);
    return plan.substr(line == std::string::npos ? 0 : line);
  }
  /// Of the tables that are large here; a partition of tomorrow, say, is empty and read whole.
  void expect_indexes_only(std::string const& plans) {
    for (auto const& table : {partition_, std::string("batch"), std::string("deferred"), std::string("dead"),
                              std::string("attempt_error"), std::string("done"), std::string("heartbeat")}) {
      EXPECT_THAT(plans, Not(HasSubstr("Seq Scan on " + table + " ")));
    }
    EXPECT_THAT(plans, Not(HasSubstr("JIT:")));
  }

  std::string const partition_ = sql.one("select relname from partition order by lower limit 1");
  std::unique_ptr<Hand> worker_;
  std::vector<std::string> plans_;
};

TEST_P(EnginePlan, ClaimWalksTheLaneIndexInOrder) {
  auto late = open();
  late.exec("begin; select enqueue('k')");
  auto other = open();
  other.rows("select enqueue('k')");
  for (int round = 0; round < 3; ++round) {  // the simple window, one with holes, one with a late transaction
    if (round == 2) late.exec("commit");
    std::vector<Claimed> got;
    auto const all = plans([&] { got = worker_->claim(500, 500, array({lane()})); });
    ASSERT_EQ(got.size(), 500U);
    expect_indexes_only(all);
    auto const claim = plan_with("insert into batch");
    // The order of the rows is that of the intervals, and within each that of the index.
    EXPECT_THAT(claim, HasSubstr("Function Scan on r"));
    EXPECT_THAT(claim, HasSubstr("Nested Loop"));
    EXPECT_THAT(claim, HasSubstr("_lane_txid_id_idx on " + partition_));
    EXPECT_THAT(claim, Not(HasSubstr("Sort  (")));
    EXPECT_THAT(claim, Not(HasSubstr("Bitmap")));
    EXPECT_THAT(claim, Not(HasSubstr("Hash Join")));
    EXPECT_LT(claim.find("Function Scan on r"), claim.find("_lane_txid_id_idx")) << "unnest is the outer side";
    EXPECT_THAT(plan_with("l.lane = v_lane"), HasSubstr("Index Scan Backward using batch_pkey"));
  }
}

TEST_P(EnginePlan, AClaimOfOneJobWalksTheSameIndex) {
  auto const all = plans([&] { ASSERT_EQ(worker_->claim(1, 1, array({lane()})).size(), 1U); });
  expect_indexes_only(all);
  auto const claim = plan_with("insert into batch");
  EXPECT_THAT(claim, HasSubstr("_lane_txid_id_idx on " + partition_));
  EXPECT_THAT(claim, Not(HasSubstr("Sort  (")));
  EXPECT_LT(claim.find("Function Scan on r"), claim.find("_lane_txid_id_idx")) << "unnest is the outer side";
  EXPECT_THAT(plan_with("l.lane = v_lane"), HasSubstr("Index Scan Backward using batch_pkey"));
}

TEST_P(EnginePlan, APlainClaimOfOneJobIsOneStatementByIndexes) {
  ASSERT_EQ(worker_->claim_one(lane()).size(), 1U);
  std::vector<Claimed> next;
  auto const all = plans([&] { next = worker_->claim_one(lane()); });
  ASSERT_EQ(next.size(), 1U);
  expect_indexes_only(all);
  auto const claim = plan_with("insert into batch");
  EXPECT_THAT(claim, HasSubstr("Index Scan Backward using batch_pkey"));
  EXPECT_THAT(claim, HasSubstr("_lane_txid_id_idx on " + partition_));
  EXPECT_THAT(claim, HasSubstr("Merge Append"));  // what is sorted is the list of open transactions
  EXPECT_THAT(claim, Not(HasSubstr("Bitmap")));
  EXPECT_THAT(all, Not(HasSubstr("v_lane"))) << "finish_and_claim was needed";
}

TEST_P(EnginePlan, ALimitCountsByIndex) {
  sql.rows("select set_limit('kind', 'k', 50000, 50000, 50000), set_limit('all', '', 60000)");
  sql.rows(
      "insert into limit_bucket select 'kind', 'k', i, now() - interval '1 hour', 1 from generate_series(1, 5000) i");
  std::vector<Claimed> got;
  auto const all = plans([&] { got = worker_->claim(10, 10, array({lane()})); });
  ASSERT_EQ(got.size(), 10U);
  expect_indexes_only(all);
  EXPECT_THAT(all, Not(HasSubstr("Seq Scan on limit_bucket")));
  auto const count = plan_with("bit_count");
  EXPECT_THAT(count, HasSubstr("using batch_token"));
  EXPECT_THAT(count, HasSubstr("heartbeat_worker"));
  EXPECT_THAT(count, HasSubstr("done_pkey"));
  EXPECT_THAT(count, HasSubstr("lane_pkey"));
}

TEST_P(EnginePlan, FinishAndItsMoves) {
  auto const jobs = worker_->claim(5, 5, array({lane()}));
  std::string const moves = "[" + move_of(jobs.at(0), "retry") + "," + move_of(jobs.at(1), "fail") + "," +
                            move_of(jobs.at(2), "snooze") + "," + move_of(jobs.at(3), "release") + "]";
  auto const all = plans([&] { EXPECT_THAT(worker_->finish(jobs.at(0).token, "11110", 5, moves), IsEmpty()); });
  expect_indexes_only(all);
  EXPECT_THAT(plan_with("delete from job"), HasSubstr("_id_idx on " + partition_));
  EXPECT_THAT(plan_with("delete from job"), Not(HasSubstr("_lane_txid_id_idx")))
      << "which would be read whole for each";
  // By worker and token: the batches of one worker are many.
  auto const by_token = HasSubstr("Index Cond: ((worker = $1) AND (token = ");
  EXPECT_THAT(plan_with("update batch b set\n    acked"), by_token);
  auto const closing = plans([&] { EXPECT_THAT(worker_->finish(jobs.at(0).token, "11111"), IsEmpty()); });
  expect_indexes_only(closing);
  EXPECT_THAT(plan_with("update batch b set\n    acked"), by_token);
}

TEST_P(EnginePlan, LookProbesIndexes) {
  auto const all = plans([&] { EXPECT_EQ(sql.rows("select unnest(look($1))", worker_->id()).size(), 2U); });
  expect_indexes_only(all);
  auto const look = plan_with("from served(");
  EXPECT_THAT(look, HasSubstr("batch_pkey"));
  EXPECT_THAT(look, HasSubstr("_lane_txid_id_idx on " + partition_));
  EXPECT_THAT(look, Not(HasSubstr("Bitmap")));
}

TEST_P(EnginePlan, PromoteReadsWhatIsDueByIndex) {
  sql.rows(
      "update deferred set due_at = now() - interval '1 hour' where id in (select id from deferred order by id limit "
      "10)");
  auto const all = plans([&] { EXPECT_EQ(sql.number("select promote('-infinity', 5000)"), 10); });
  expect_indexes_only(all);
  EXPECT_THAT(plan_with("for update skip locked"), HasSubstr("using deferred_due"));
  EXPECT_THAT(plan_with("for update skip locked"), Not(HasSubstr("Sort  (")));
  EXPECT_THAT(plan_with("delete from deferred"), HasSubstr("using deferred_pkey"));
}

TEST_P(EnginePlan, RescueFindsBatchesAndJobsByIndex) {
  worker_->claim(50, 20, array({lane()}));
  auto const given = plans([&] { EXPECT_GE(worker_->give_back({worker_->next_token() - 16}), 1); });
  expect_indexes_only(given);
  worker_->claim(50, 20, array({lane()}));
  expire(sql, worker_->id());
  auto const all = plans([&] { EXPECT_GT(sql.number("select reap()"), 0); });
  expect_indexes_only(all);
  EXPECT_THAT(plan_with("from batch q where q.worker"), HasSubstr("batch_token"));
  EXPECT_THAT(plan_with("delete from job"), HasSubstr("_id_idx on " + partition_));
  EXPECT_THAT(plan_with("delete from job"), Not(HasSubstr("_lane_txid_id_idx")))
      << "which would be read whole for each";
  EXPECT_THAT(plan_with("delete from job"), HasSubstr("done_pkey"));
}

TEST_P(EnginePlan, BeatCompleteCancelAndTheViewById) {
  auto const job = worker_->claim(1, 1, array({lane()})).at(0);
  expect_indexes_only(plans([&] { worker_->beat(); }));
  expect_indexes_only(plans([&] { EXPECT_TRUE(worker_->complete(sql, job)); }));
  auto const waiting = enqueue();
  expect_indexes_only(plans([&] { EXPECT_EQ(sql.one("select cancel($1)", waiting), "cancelled"); }));
  expect_indexes_only(plans([&] { EXPECT_EQ(sql.one("select cancel($1)", job.id), "finished"); }));
  expect_indexes_only(plans([&] { EXPECT_TRUE(sql.truth("select retry($1)", waiting)); }));
  expect_indexes_only(plans([&] { EXPECT_EQ(state(job.id), "succeeded"); }));
}

INSTANTIATE_TEST_SUITE_P(Statistics, EnginePlan,
                         ::testing::Values(Statistics::none, Statistics::of_empty_tables, Statistics::of_full_tables),
                         name_of);

class EngineSettings : public EngineTest {
 protected:
  std::vector<std::string> settings(std::string const& function) {
    return sql.column(
        "select unnest(proconfig) from pg_proc where pronamespace = 'posthouse'::regnamespace and proname = $1 "
        "order by 1",
        function);
  }
};

// Planner hints inflate costs past jit_above_cost, and a plan for each call costs more than the claim.
TEST_F(EngineSettings, HotFunctionsNeverCompileAndNeverPlanTwice) {
  for (std::string const function :
       {"finish_and_claim", "finish_and_claim_one", "finish", "apply_moves", "fenced_moves", "look", "limit_running",
        "limits_of", "claim_keyed", "take_turns", "take_paced_turns", "free_keys", "hand_on_keys"}) {
    EXPECT_THAT(settings(function), ::testing::IsSupersetOf({"jit=off", "plan_cache_mode=force_generic_plan"}))
        << function;
  }
  for (std::string const function : {"finish_and_claim", "finish_and_claim_one", "claim_keyed", "look"}) {
    EXPECT_THAT(settings(function), ::testing::IsSupersetOf({"enable_seqscan=off", "enable_bitmapscan=off",
                                                             "enable_hashjoin=off", "enable_mergejoin=off"}))
        << function;
  }
  EXPECT_THAT(settings("take_back"),
              ::testing::IsSupersetOf({"enable_seqscan=off", "enable_hashjoin=off", "enable_mergejoin=off"}));
  for (auto const& function :
       sql.column("select distinct proname from pg_proc, unnest(proconfig) c where pronamespace = "
                  "'posthouse'::regnamespace and c like 'enable\\_%=off'")) {
    EXPECT_THAT(settings(function), ::testing::Contains("jit=off")) << function;
  }
}

// Each pins its search path with pg_temp last, except those whose bodies were resolved when they were made.
TEST_F(EngineSettings, EveryFunctionPinsItsSearchPath) {
  EXPECT_THAT(
      sql.column("select p.oid::regprocedure::text from pg_proc p where pronamespace = 'posthouse'::regnamespace and "
                 "prosqlbody is null and not coalesce('search_path=posthouse, pg_temp' = any(proconfig), false)"),
      ElementsAre("broker_execute(text,text,jsonb,text)"))
      << "which runs what its caller has written, on the caller's path";
  EXPECT_THAT(
      sql.column("select p.oid::regprocedure::text from pg_proc p where pronamespace = 'posthouse'::regnamespace and "
                 "proconfig::text like '%synchronous_commit%'"),
      IsEmpty())
      << "a setting of the function ends with the function, before the commit";
}

TEST_F(EngineSettings, AClaimAloneNeedsNoFlushAndAnAckDoes) {
  enqueue_some(2);
  Hand worker(sql);
  sql.exec("set synchronous_commit = on; begin");
  auto const job = worker.claim(1).at(0);
  EXPECT_EQ(sql.one("show synchronous_commit"), "off");
  sql.exec("commit");
  EXPECT_EQ(sql.one("show synchronous_commit"), "on");
  sql.exec("begin");
  sql.rows("select * from finish_and_claim($1, $2, '{null}', '{0}', null, $3, null, 1, 1)", worker.id(),
           array({job.token}), worker.take_token());
  EXPECT_EQ(sql.one("show synchronous_commit"), "on");
  sql.exec("commit");
}

}  // namespace
}  // namespace posthouse::test
