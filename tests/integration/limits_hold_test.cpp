// SPDX-License-Identifier: Apache-2.0
// Holds of a kind by a handler's RetryAfter; who has said a limit; changes of one value; what jobs show says of limits.
#include <gmock/gmock.h>

#include <boost/json.hpp>

#include "integration/cli_fixture.hpp"
#include "integration/worker_fixture.hpp"
#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class Holds : public EngineTest {
 protected:
  static std::string later(Claimed const& job, std::int64_t hold_ms, std::string const& outcome = "retry") {
    return "[{\"token\": " + std::to_string(job.token) + ", \"pos\": " + std::to_string(job.position) +
           ", \"id\": " + std::to_string(job.id) + ", \"outcome\": \"" + outcome +
           "\", \"delay_ms\": 0, \"type\": \"t\", \"message\": \"m\", \"hold_ms\": " + std::to_string(hold_ms) + "}]";
  }
  /// The hold is over, as if its time had come.
  void pass() {
    sql.exec("update limit_rule set held_until = clock_timestamp() - interval '1 s' where origin = 'held'");
  }
};

TEST_F(Holds, AHoldStopsTheKindForEveryWorkerAndNoOther) {
  sql.exec("select enqueue('k') from generate_series(1, 5); select enqueue('m') from generate_series(1, 5)");
  Hand first(sql, {.kinds = "{k,m}"});
  Hand second(sql, {.kinds = "{k,m}"});
  auto const lane_k = sql.one("select lane from lane where kind = 'k'");
  auto const got = first.claim(1, 1, "{" + lane_k + "}");
  ASSERT_THAT(got, SizeIs(1));
  first.finish(got[0].token, "1", 1, later(got[0], 60'000));
  EXPECT_THAT(first.claim(9, 9, "{" + lane_k + "}"), IsEmpty());
  EXPECT_THAT(second.claim(9, 9, "{" + lane_k + "}"), IsEmpty());
  EXPECT_EQ(sql.number("select count(*) from claim($1, $2, $3::bigint[], 1, 1)", second.id(), second.take_token(),
                       "{" + lane_k + "}"),
            0)
      << "nor does the lane stay hot";
  EXPECT_EQ(sql.number("select count(*) from unnest(look($1)) l where l = $2::bigint", second.id(), lane_k), 0);
  EXPECT_THAT(second.claim(9), SizeIs(5)) << "m goes on";
  pass();
  EXPECT_EQ(sql.number("select count(*) from unnest(look($1)) l where l = $2::bigint", second.id(), lane_k), 1);
  sql.rows("select promote()");
  EXPECT_THAT(second.claim(9), SizeIs(5)) << "what waited and what came back";
}

TEST_F(Holds, AHoldIsFencedAndNeverShortenedAndBounded) {
  sql.exec("select enqueue('k') from generate_series(1, 3)");
  Hand worker(sql);
  auto const got = worker.claim(3);
  ASSERT_THAT(got, SizeIs(3));
  auto const until = [&] { return sql.one("select coalesce(max(held_until)::text, 'none') from limit_rule"); };
  auto wrong = got[0];
  wrong.id += 100;
  worker.finish(got[0].token, "000", 3, later(wrong, 60'000));
  EXPECT_EQ(until(), "none") << "not its job";
  worker.finish(got[0].token, "100", 3, later(got[0], 7'200'000));
  auto const first = until();
  EXPECT_TRUE(
      sql.truth("select held_until between clock_timestamp() + interval '59 min' and clock_timestamp() + "
                "interval '1 h' from limit_rule"))
      << "at most an hour";
  worker.finish(got[0].token, "100", 3, later(got[0], 3'600'000));
  EXPECT_EQ(until(), first) << "sent again, it changes nothing";
  worker.finish(got[0].token, "110", 3, later(got[1], 1'000));
  EXPECT_EQ(until(), first) << "a shorter one";
  EXPECT_EQ(sql.one("select said_by from limits"), "worker " + std::to_string(worker.id()));
  EXPECT_EQ(sql.one("select origin from limits"), "held");
  EXPECT_TRUE(sql.truth("select reset_limit('kind', 'k')"));
  EXPECT_EQ(until(), "none");
  worker.finish(got[0].token, "111", 3, later(got[2], 60'000, "fail"));
  EXPECT_NE(until(), "none") << "its last attempt as well";
  for (auto const* hold : {"'0'", "'-1 s'", "'61 min'", "null"}) {
    EXPECT_THAT(refusal_of("select hold_kind('k', " + std::string(hold) + "::interval)"), HasSubstr("22023")) << hold;
  }
  EXPECT_THAT(refusal_of("select hold_kind('a b', '1 s')"), HasSubstr("22023"));
}

TEST_F(Holds, AHoldLeavesLimitsAsTheyAre) {
  sql.exec(
      "select enqueue('k') from generate_series(1, 9); select set_limit('kind', 'k', 2); select hold_kind('k', '1 "
      "min')");
  Hand worker(sql);
  EXPECT_THAT(worker.claim(9), IsEmpty());
  EXPECT_EQ(sql.one("select origin || ' ' || concurrency || ' ' || (held_until is not null) from limits"),
            "set 2 true");
  pass();
  EXPECT_THAT(worker.claim(9), SizeIs(2));
  EXPECT_EQ(sql.one("select origin || ' ' || (held_until is not null) from limits"), "set false");
  sql.rows("select prune_limits()");
  EXPECT_EQ(sql.number("select count(*) from limit_rule where origin = 'held'"), 0);
  sql.exec("select hold_kind('k', '1 min'); select reset_limit('kind', 'k')");
  EXPECT_EQ(sql.number("select count(*) from limit_rule"), 0) << "both";
}

TEST_F(Holds, ChangesNameWhatTheyChange) {
  sql.exec(
      "select declare_limits('[{\"scope\": \"kind\", \"name\": \"k\", \"concurrency\": 5, \"per_second\": 10, "
      "\"burst\": 20}]', 'host:1')");
  auto const now = [&] {
    return sql.one("select concat_ws(' ', origin, concurrency, per_second, burst, said_by) from limits");
  };
  EXPECT_EQ(now(), "declared 5 10 20 host:1");
  auto const me = sql.one("select session_user");
  sql.exec("select change_limit('kind', 'k', '{\"concurrency\": 3}')");
  EXPECT_EQ(now(), "set 3 10 20 " + me) << "the rest as declared";
  sql.exec("select change_limit('kind', 'k', '{\"per_second\": null}')");
  EXPECT_EQ(now(), "set 3 " + me) << "a burst goes with its rate";
  sql.exec("select change_limit('kind', 'k', '{\"per_second\": 2, \"burst\": 7}')");
  EXPECT_EQ(now(), "set 3 2 7 " + me);
  sql.exec("select change_limit('kind', 'k', '{\"concurrency\": null, \"per_second\": null}')");
  EXPECT_EQ(now(), "set " + me) << "no limit, whatever workers declare";
  EXPECT_THAT(refusal_of("select change_limit('kind', 'k', '{\"concurrency\": 0}')"), HasSubstr("concurrency is 0"));
  EXPECT_THAT(refusal_of("select change_limit('kind', 'k', '{\"rate\": 1}')"), HasSubstr("rate is 1"));
  EXPECT_THAT(refusal_of("select change_limit('kind', 'k', '{\"burst\": \"many\"}')"), HasSubstr("burst is"));
  EXPECT_THAT(refusal_of("select change_limit('kind', 'k', null)"), HasSubstr("changes is null"));
  EXPECT_THAT(refusal_of("select change_limit('job', 'k', '{\"concurrency\": 1}')"), HasSubstr("scope is 'job'"));
  sql.rows("select reset_limit('kind', 'k')");
  EXPECT_EQ(now(), "declared 5 10 20 host:1");
}

class WorkerHolds : public WorkerTest {};

// Two workers; what one of them is told holds the other.
TEST_F(WorkerHolds, RetryAfterHoldsTheKindForTheWholeFleet) {
  sql.exec("select enqueue('k') from generate_series(1, 1)");
  std::atomic<int> runs{0};
  std::vector<std::unique_ptr<Worker>> workers;
  for (int i = 0; i < 2; ++i) {
    workers.push_back(std::make_unique<Worker>(quick()));
    workers.back()->on("k", [&](Job const&) -> Outcome {
      ++runs;
      return RetryAfter{.delay = 50min, .reason = "429"};
    });
    workers.back()->on("m", [](Job const&) {});
    workers.back()->start();
  }
  ASSERT_TRUE(eventually([&] { return sql.number("select count(*) from limits where held_until is not null") == 1; }));
  sql.exec("select enqueue('k') from generate_series(1, 20); select enqueue('m') from generate_series(1, 20)");
  ASSERT_TRUE(eventually([&] { return jobs_in("succeeded") == 20; })) << "the other kind goes on";
  EXPECT_EQ(runs, 1);
  EXPECT_EQ(jobs_in("available"), 20);
  sql.rows("select reset_limit('kind', 'k')");
  EXPECT_TRUE(eventually([&] { return runs >= 2; })) << "the hold is over";
}

// What is held does not keep it, as what is deferred does not.
TEST_F(WorkerHolds, AWorkerThatDrainsLeaves) {
  enqueue_some(1);
  sql.exec("select hold_kind('k', '50 min'); select enqueue('m')");
  auto options = quick();
  options.once = true;
  Worker worker(options);
  worker.on("k", [](Job const&) -> Outcome { return RetryAfter{.delay = 50min, .reason = "429"}; });
  worker.on("m", [](Job const&) -> Outcome { return RetryAfter{.delay = 50min, .reason = "429"}; });
  EXPECT_EQ(work_once(worker).failed, 1);
  EXPECT_EQ(jobs_in("available"), 1);
}

TEST_F(WorkerHolds, RetryAfterOfOneJobAloneHoldsNothing) {
  enqueue_some(3);
  std::atomic<int> runs{0};
  Worker worker(quick());
  worker.on("k", [&](Job const&) -> Outcome {
    ++runs;
    return RetryAfter{.delay = 1h, .reason = "not yet", .hold_kind = false};
  });
  worker.start();
  EXPECT_TRUE(eventually([&] { return runs == 3; }));
  EXPECT_TRUE(eventually([&] { return jobs_in("retryable") == 3; }));
  EXPECT_EQ(sql.number("select count(*) from limit_rule where origin = 'held'"), 0);
}

class CliSettings : public CliDatabaseTest {
 protected:
  CliSettings() { prepare_session(sql); }
  boost::json::object show(std::string const& what, std::string const& name) {
    return boost::json::parse(run({what, "show", name, "--json"}).out).at(0).as_object();
  }
  std::string explained(std::int64_t id) { return run({"jobs", "show", std::to_string(id)}).out; }
};

TEST_F(CliSettings, SetShowReset) {
  auto one = show("queues", "q");
  EXPECT_EQ(one.at("limit_origin"), "default");
  EXPECT_EQ(one.at("priority_origin"), "default");
  EXPECT_TRUE(one.at("max_concurrency").is_null());
  EXPECT_THAT(run({"queues", "show", "q"}).out, HasSubstr("max_concurrency         none      default"));
  sql.exec("select declare_limits('[{\"scope\": \"queue\", \"name\": \"q\", \"concurrency\": 5}]', 'host:1')");
  EXPECT_THAT(run({"queues", "show", "q"}).out,
              HasSubstr("max_concurrency         5         declared by worker host:1"));
  EXPECT_EQ(
      run({"queues", "set", "q", "--priority", "7", "--max-concurrency", "3", "--rps", "10", "--burst", "20"}).status,
      0);
  one = show("queues", "q");
  EXPECT_EQ(one.at("priority"), 7);
  EXPECT_EQ(one.at("max_concurrency"), 3);
  EXPECT_EQ(one.at("requests_per_second"), 10);
  EXPECT_EQ(one.at("burst"), 20);
  EXPECT_EQ(one.at("limit_origin"), "set");
  EXPECT_EQ(one.at("limit_by").as_string(), sql.one("select session_user"));
  EXPECT_EQ(one.at("limit_declared"), "5 at once");
  EXPECT_EQ(run({"queues", "set", "q", "--rps", "none"}).status, 0);
  one = show("queues", "q");
  EXPECT_EQ(one.at("max_concurrency"), 3) << "what is not named stays";
  EXPECT_TRUE(one.at("requests_per_second").is_null());
  EXPECT_EQ(run({"queues", "set", "q", "--reset"}).status, 0);
  EXPECT_EQ(show("queues", "q").at("limit_origin"), "declared");
  EXPECT_EQ(show("queues", "q").at("priority"), 7) << "a priority is no limit";
  EXPECT_EQ(run({"kinds", "set", "k", "--concurrency-limit", "2", "--requests-per-second", "0.5"}).status, 0);
  one = show("kinds", "k");
  EXPECT_EQ(one.at("concurrency_limit"), 2);
  EXPECT_EQ(one.at("requests_per_second"), 0.5);
  EXPECT_EQ(run({"kinds", "set", "k", "--reset"}).status, 0);
  EXPECT_EQ(run({"kinds", "set", "k", "--reset"}).status, 1) << "there was nothing";
}

TEST_F(CliSettings, BadArguments) {
  for (auto const& arguments :
       std::vector<std::vector<std::string>>{{"queues", "set", "q"},
                                             {"queues", "set", "a b", "--rps", "1"},
                                             {"queues", "set", "q", "--max-concurrency", "many"},
                                             {"queues", "set", "q", "--max-concurrency", "0"},
                                             {"queues", "set", "q", "--priority", "high"},
                                             {"queues", "set", "q", "--reset", "--rps", "1"},
                                             {"kinds", "set", "k", "--burst", "3"},
                                             {"kinds", "set", "k", "--priority", "3"},
                                             {"kinds", "show"}}) {
    EXPECT_EQ(run(arguments).status, 2) << arguments.back();
  }
  EXPECT_EQ(sql.number("select count(*) from limit_rule"), 0);
}

TEST_F(CliSettings, JobsShowNamesTheLimitItsHoldersAndTheTime) {
  sql.exec("select set_limit('kind', 'k', 1)");
  auto const first = sql.number("select enqueue('k')");
  auto const second = sql.number("select enqueue('k')");
  Hand worker(sql);
  ASSERT_THAT(worker.claim(1), SizeIs(1));
  EXPECT_THAT(explained(second),
              HasSubstr("The limit of the kind k is full: 1 of 1 run, held by job " + std::to_string(first) +
                        " on worker " + std::to_string(worker.id()) + " (hand) for"));
  EXPECT_THAT(explained(second), HasSubstr("It has been waiting for"));
  sql.exec("select set_limit('kind', 'k', null, 0.001)");
  EXPECT_THAT(explained(second), Not(HasSubstr("is used up"))) << "its burst is there";
  sql.exec("select limit_take('kind', 'k', 0.001, null, 1, clock_timestamp())");
  EXPECT_THAT(explained(second),
              HasSubstr("The rate of the kind k, 0.001 a second, is used up: the next job may start at 2"));
  sql.exec("select reset_limit('kind', 'k'); select hold_kind('k', '1 min')");
  EXPECT_THAT(explained(second), HasSubstr("A handler was told to come back later: no job of the kind k is started"));
  EXPECT_THAT(explained(second), HasSubstr("`posthouse limits reset kind k`"));
  sql.exec("select reset_limit('kind', 'k'); select set_limit('all', '', 1)");
  EXPECT_THAT(explained(second), HasSubstr("The limit of all jobs is full: 1 of 1 run"));
  auto const other = sql.number("select enqueue('nobody')");
  EXPECT_THAT(explained(other), HasSubstr("None of the 1 live workers has a handler for the kind nobody"));
}

}  // namespace
}  // namespace posthouse::test
