// SPDX-License-Identifier: Apache-2.0
// queues, kinds, workers, dead, status and stats as operators call them.
#include <boost/json.hpp>

#include "integration/cli_fixture.hpp"

namespace posthouse::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class CliOperate : public CliDatabaseTest {
 protected:
  boost::json::array listing(std::vector<std::string> arguments) {
    arguments.emplace_back("--json");
    auto const ran = run(std::move(arguments));
    EXPECT_EQ(ran.status, 0) << ran.err;
    return boost::json::parse(ran.out).as_array();
  }
  std::string works(std::string const& kind) {
    return folder.write(kind + ".yaml", "kinds: {" + kind + ": {exec: [/bin/true]}}\n");
  }
  std::string fails(std::string const& kind) {
    return folder.write(kind + ".yaml",
                        "kinds: {" + kind + ": {exec: [/bin/sh, -c, 'echo boom >&2; exit 1'], max_attempts: 1}}\n");
  }
};

TEST_F(CliOperate, APausedKindIsNotWorked) {
  auto const id = chomp(run({"enqueue", "k"}).out);
  EXPECT_EQ(run({"kinds", "pause", "k", "later"}).out, "kind k: paused\nkind later: paused\n");
  EXPECT_EQ(run({"work", "--config", works("k"), "--once"}).status, 0);
  EXPECT_EQ(state(id), "available");
  EXPECT_THAT(run({"jobs", "show", id}).out,
              AllOf(HasSubstr("The kind k is paused since 2"), HasSubstr("; `posthouse kinds resume k`")));
  auto const kinds = listing({"kinds", "list"});
  ASSERT_EQ(kinds.size(), 2U);
  EXPECT_EQ(kinds.at(0).at("kind").as_string(), "k");
  EXPECT_TRUE(kinds.at(0).at("paused").as_bool());
  auto const since = std::string(kinds.at(0).at("paused_at").as_string());
  EXPECT_EQ(run({"kinds", "pause", "k"}).status, 0);
  EXPECT_EQ(listing({"kinds", "list"}).at(0).at("paused_at").as_string(), since) << "paused already";
  EXPECT_THAT(run({"kinds", "list"}).out, HasSubstr("paused for "));
  EXPECT_EQ(kinds.at(0).at("available").as_int64(), 1);
  EXPECT_EQ(run({"kinds", "resume", "k"}).status, 0);
  EXPECT_EQ(run({"work", "--config", works("k"), "--once"}).status, 0);
  EXPECT_EQ(state(id), "succeeded");
  EXPECT_EQ(run({"kinds", "pause", "a b"}).status, 2);
}

// The running worker is not told: its next claim leaves the kind alone, and resuming wakes it.
TEST_F(CliOperate, ARunningWorkerFollows) {
  auto worker = start({"work", "--config", works("k"), "--log-level", "info"});
  ASSERT_TRUE(worker.said("worker started")) << worker.errors();
  EXPECT_EQ(run({"kinds", "pause", "k"}).status, 0);
  auto const id = chomp(run({"enqueue", "k"}).out);
  auto const other = chomp(run({"enqueue", "k"}).out);
  EXPECT_EQ(state(id), "available");
  EXPECT_EQ(run({"kinds", "resume", "k"}).status, 0);
  EXPECT_TRUE(eventually([&] { return state(id) == "succeeded" && state(other) == "succeeded"; }));
  worker.terminate();
  EXPECT_EQ(worker.wait(), 0);
}

TEST_F(CliOperate, Queues) {
  EXPECT_THAT(run({"queues", "list"}).out, HasSubstr("no queues yet"));
  sql.exec("select posthouse.enqueue('k'), posthouse.enqueue('k', queue => 'mail'), posthouse.enqueue('k')");
  EXPECT_EQ(run({"queues", "set", "mail", "--priority", "-3"}).out, "queue mail has priority -3\n");
  EXPECT_EQ(run({"queues", "pause", "default"}).status, 0);
  auto const queues = listing({"queues", "list"});
  ASSERT_EQ(queues.size(), 2U);
  EXPECT_EQ(queues.at(0).at("queue").as_string(), "default");
  EXPECT_TRUE(queues.at(0).at("paused").as_bool());
  EXPECT_EQ(queues.at(0).at("available").as_int64(), 2);
  EXPECT_EQ(queues.at(1).at("priority").as_int64(), -3);
  EXPECT_FALSE(queues.at(1).at("paused").as_bool());
  EXPECT_TRUE(queues.at(0).at("paused_at").is_string());
  EXPECT_TRUE(queues.at(1).at("paused_at").is_null());
  EXPECT_EQ(run({"queues", "resume", "default"}).status, 0);
  EXPECT_THAT(run({"queues", "list"}).out, Not(HasSubstr("paused")));
  EXPECT_EQ(run({"queues", "set", "mail"}).status, 2);
  EXPECT_THAT(run({"queues", "set", "mail", "--priority", "high"}).err, HasSubstr("--priority is \"high\""));
  EXPECT_EQ(run({"queues", "pause", "a b"}).status, 2);
}

TEST_F(CliOperate, Workers) {
  EXPECT_THAT(run({"workers", "list"}).out, HasSubstr("There are no workers"));
  EXPECT_EQ(run({"workers", "ping"}).status, 1);
  auto const config = folder.write(
      "w.yaml", "kinds: {k: {exec: [/bin/true]}}\nclaim_lease_ms: 600000\nheartbeat_interval_ms: 200000\n");
  auto worker = start({"work", "--config", config, "--queue", "mail", "--concurrency", "3", "--log-level", "info"});
  ASSERT_TRUE(worker.said("worker started")) << worker.errors();
  // It beats once when it starts and then only because it is asked.
  for (int i = 0; i < 3; ++i) EXPECT_EQ(run({"workers", "ping", "--timeout", "60s"}).status, 0);
  auto const workers = listing({"workers", "list"});
  ASSERT_EQ(workers.size(), 1U);
  auto const& first = workers.at(0);
  EXPECT_EQ(first.at("state").as_string(), "alive");
  EXPECT_EQ(first.at("slots").as_int64(), 3);
  EXPECT_EQ(first.at("pid").as_int64(), worker.pid());
  EXPECT_EQ(first.at("queues").as_array().at(0).as_string(), "mail");
  EXPECT_EQ(first.at("kinds").as_array().at(0).as_string(), "k");
  auto const id = std::string(first.at("id").as_string());
  EXPECT_GT(first.at("rss_bytes").as_int64(), 1 << 20);
  EXPECT_GE(first.at("cpu_ms").as_int64(), 0);
  EXPECT_EQ(first.at("children").as_int64(), 0);
  auto const ping = run({"workers", "ping", id});
  EXPECT_EQ(ping.status, 0) << ping.err;
  EXPECT_THAT(ping.out, HasSubstr("worker " + id + ": answered after"));
  EXPECT_EQ(run({"workers", "ping"}).status, 0);
  auto const unknown = run({"workers", "ping", "999"});
  EXPECT_EQ(unknown.status, 1);
  EXPECT_THAT(unknown.err, HasSubstr("worker 999"));
  EXPECT_EQ(run({"workers", "ping", "x"}).status, 2);
  EXPECT_EQ(listing({"queues", "list"}).at(0).at("workers").as_int64(), 1);
  worker.terminate();
  EXPECT_EQ(worker.wait(), 0);
  EXPECT_EQ(listing({"workers", "list"}).size(), 0U);
  EXPECT_EQ(listing({"workers", "list", "--all"}).at(0).at("state").as_string(), "ended");
}

TEST_F(CliOperate, AWorkerThatSaysNothingDoesNotAnswer) {
  auto const id = sql.one("select posthouse.register_worker('w', 'h', 1, '0', null, '{k}', 600000, 1)");
  auto const ping = run({"workers", "ping", "--timeout", "100ms"});
  EXPECT_EQ(ping.status, 1);
  EXPECT_THAT(ping.err, HasSubstr("worker " + id + ": no answer within 100ms"));
}

TEST_F(CliOperate, DeadLetters) {
  EXPECT_THAT(run({"dead", "list"}).out, HasSubstr("No such jobs"));
  for (int i = 0; i < 3; ++i) run({"enqueue", "k"});
  auto const other = chomp(run({"enqueue", "other", "--queue", "mail"}).out);
  EXPECT_EQ(run({"work", "--config", fails("k"), "--once"}).status, 0);
  EXPECT_EQ(run({"work", "--config", fails("other"), "--once"}).status, 0);
  auto const cancelled = chomp(run({"enqueue", "k"}).out);
  run({"jobs", "cancel", cancelled});
  auto const waiting = chomp(run({"enqueue", "k"}).out);

  EXPECT_EQ(listing({"dead", "list"}).size(), 5U);
  EXPECT_EQ(listing({"dead", "list", "--state", "failed"}).size(), 4U);
  EXPECT_EQ(listing({"dead", "list", "--queue", "mail"}).size(), 1U);
  EXPECT_EQ(listing({"dead", "list", "--kind", "k", "--limit", "2"}).size(), 2U);
  EXPECT_EQ(listing({"dead", "list", "--before", other}).size(), 3U);
  EXPECT_EQ(run({"dead", "list", "--state", "available"}).status, 2);

  EXPECT_EQ(run({"dead", "retry"}).status, 2);
  EXPECT_EQ(run({"dead", "retry", "--all", other}).status, 2);
  EXPECT_EQ(run({"dead", "retry", other, "--kind", "k"}).status, 2);
  EXPECT_EQ(run({"dead", "retry", other}).status, 0);
  EXPECT_EQ(state(other), "available");
  auto const wrong = run({"dead", "retry", waiting, "999"});
  EXPECT_EQ(wrong.status, 1);
  EXPECT_THAT(wrong.err, AllOf(HasSubstr("is available, no dead letter"), HasSubstr("there is no such job")));
  EXPECT_EQ(run({"dead", "retry", "--all", "--limit", "1"}).out, "1 job available now\n");
  EXPECT_EQ(listing({"dead", "retry", "--all", "--kind", "k"}).at(0).at("retried").as_int64(), 2);
  EXPECT_EQ(state(cancelled), "cancelled");

  EXPECT_EQ(run({"dead", "purge"}).status, 2);
  EXPECT_EQ(run({"dead", "purge", "--older-than", "1h", "--yes"}).out, "0 jobs deleted\n");
  EXPECT_EQ(run({"dead", "purge", "--older-than", "never", "--yes"}).status, 2);
  EXPECT_EQ(run({"dead", "purge", "--kind", "k", "--yes"}).out, "1 job deleted\n");
  EXPECT_EQ(run({"jobs", "show", cancelled}).status, 1);
  EXPECT_EQ(state(waiting), "available");
}

// More than one batch; what fails again while it goes on is not retried again.
TEST_F(CliOperate, RetryOfAllGoesOverManyBatches) {
  sql.exec(
      "set search_path = posthouse; select open_lane('k');"
      "insert into dead (id, lane, state, ended_at, queued_at, attempt) select nextval('job_id'), lane_of('default', "
      "'k', "
      "0, false), 'failed', now(), now(), 1 from generate_series(1, 1201)");
  EXPECT_EQ(run({"dead", "retry", "--all"}).out, "1,201 jobs available now\n");
  EXPECT_EQ(sql.number("select jobs from posthouse.counts() where state = 'available'"), 1201);
}

TEST_F(CliOperate, StatusIsOneScreen) {
  EXPECT_THAT(run({"status"}).out, AllOf(HasSubstr("none is alive"), HasSubstr("leader            none")));
  sql.exec(
      "select posthouse.enqueue('k'), posthouse.pause_queue('mail'), posthouse.pause_kind('slow'); "
      "select posthouse.enqueue('k', delay => '1 hour')");
  auto const text = run({"status"}).out;
  EXPECT_THAT(text, AllOf(HasSubstr("available         1 job, the oldest waits"), HasSubstr("queues paused     mail"),
                          HasSubstr("kinds paused      slow"), HasSubstr("next due          in 59m")));
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  auto const status = listing({"status"}).at(0);
  EXPECT_EQ(status.at("available").as_int64(), 1);
  EXPECT_EQ(status.at("kinds_paused").as_array().at(0).as_string(), "slow");
  EXPECT_TRUE(status.at("leader").is_null());
  auto worker = start({"work", "--config", works("other"), "--log-level", "info"});
  ASSERT_TRUE(worker.said("worker started")) << worker.errors();
  EXPECT_TRUE(eventually([&] { return !listing({"status"}).at(0).at("leader").is_null(); }));
  EXPECT_THAT(run({"status"}).out, HasSubstr("1 alive, 4 slots"));
  worker.terminate();
  EXPECT_EQ(worker.wait(), 0);
}

TEST_F(CliOperate, StatsHaveAgesAndRates) {
  sql.exec("select posthouse.enqueue('k') from generate_series(1, 3)");
  EXPECT_EQ(run({"work", "--config", works("k"), "--once"}).status, 0);
  run({"enqueue", "k"});
  auto const stats = listing({"stats"});
  ASSERT_EQ(stats.size(), 2U);
  EXPECT_EQ(stats.at(0).at("state").as_string(), "available");
  EXPECT_TRUE(stats.at(0).at("oldest_at").is_string());
  EXPECT_TRUE(stats.at(0).at("last_minute").is_null());
  EXPECT_EQ(stats.at(1).at("jobs").as_int64(), 3);
  EXPECT_EQ(stats.at(1).at("last_hour").as_int64(), 3);
  EXPECT_THAT(run({"stats"}).out, HasSubstr("LAST MINUTE"));
}

TEST_F(CliOperate, ShowSaysHowManyAreAheadAndWhyItFailed) {
  run({"enqueue", "k"});
  auto const second = chomp(run({"enqueue", "k"}).out);
  EXPECT_THAT(run({"jobs", "show", second}).out, AllOf(HasSubstr("It has been waiting for"),
                                                       HasSubstr("1 job of its queue, kind and priority goes before")));
  auto const config =
      folder.write("r.yaml", "kinds: {k: {exec: [/bin/sh, -c, 'echo no route >&2; exit 1'], max_attempts: 3}}\n");
  EXPECT_EQ(run({"work", "--config", config, "--once"}).status, 0);
  EXPECT_THAT(run({"jobs", "show", second}).out,
              AllOf(HasSubstr("Attempt 1 of 3 failed; the next one is in"), HasSubstr("no route")));
}

}  // namespace
}  // namespace posthouse::test
