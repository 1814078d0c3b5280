// SPDX-License-Identifier: Apache-2.0
// posthouse schedules: what it prints, its exit status, its JSON.
#include <boost/json.hpp>

#include "integration/cli_fixture.hpp"

namespace posthouse::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class CliSchedules : public CliDatabaseTest {
 protected:
  boost::json::array listing(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "schedules");
    arguments.emplace_back("--json");
    auto const ran = run(arguments);
    EXPECT_EQ(ran.status, 0) << ran.err;
    return boost::json::parse(ran.out).as_array();
  }
  Ran command(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "schedules");
    return run(std::move(arguments));
  }
};

TEST_F(CliSchedules, AddTakesEveryOption) {
  EXPECT_THAT(command({"list"}).out, HasSubstr("There are no schedules"));
  auto const ran = command({"add",
                            "nightly",
                            "backup",
                            R"({"full": true})",
                            "--cron",
                            "30 3 * * mon-fri",
                            "--time-zone",
                            "Europe/Berlin",
                            "--queue",
                            "q",
                            "--priority",
                            "-2",
                            "--header",
                            "a=b=c",
                            "--max-attempts",
                            "3",
                            "--jitter",
                            "90s",
                            "--misfire",
                            "all",
                            "--misfire-limit",
                            "5",
                            "--overlap",
                            "skip"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("schedule nightly: next at "));
  auto const one = listing({"list"}).at(0).as_object();
  EXPECT_EQ(one.at("name").as_string(), "nightly");
  EXPECT_EQ(one.at("state").as_string(), "active");
  EXPECT_EQ(one.at("kind").as_string(), "backup");
  EXPECT_EQ(one.at("payload").at("full").as_bool(), true);
  EXPECT_EQ(one.at("cron").as_string(), "30 3 * * mon-fri");
  EXPECT_EQ(one.at("time_zone").as_string(), "Europe/Berlin");
  EXPECT_EQ(one.at("queue").as_string(), "q");
  EXPECT_EQ(one.at("priority").as_int64(), -2);
  EXPECT_EQ(one.at("headers").at("a").as_string(), "b=c");
  EXPECT_EQ(one.at("max_attempts").as_int64(), 3);
  EXPECT_EQ(one.at("jitter_ms").as_int64(), 90000);
  EXPECT_EQ(one.at("misfire").as_string(), "all");
  EXPECT_EQ(one.at("misfire_limit").as_int64(), 5);
  EXPECT_EQ(one.at("overlap").as_string(), "skip");
  EXPECT_TRUE(one.at("owner").is_null());
  EXPECT_EQ(listing({"add", "ping", "k", "--every", "5m"}).at(0).at("every_ms").as_int64(), 300000);
  EXPECT_EQ(
      listing({"add", "once", "k", "--at", "2030-01-31T12:00:00+01:00", "--disabled"}).at(0).at("state").as_string(),
      "disabled");
  EXPECT_EQ(listing({"add", "raw", "k", "text", "--raw", "--every", "1h"}).at(0).at("payload_bytes").as_string(),
            "\\x74657874");
  auto const people = command({"list"}).out;
  EXPECT_THAT(people, HasSubstr("30 3 * * mon-fri Europe/Berlin"));
  EXPECT_THAT(people, HasSubstr("every 5m"));
  EXPECT_THAT(people, HasSubstr("at 2030-01-31T11:00:00"));
}

TEST_F(CliSchedules, SetPauseRunRemove) {
  ASSERT_EQ(command({"add", "s", "k", "--cron", "@daily"}).status, 0);
  EXPECT_THAT(command({"set", "s", "--cron", "0 4 * * *", "--payload", "[1]"}).out,
              HasSubstr("schedule s: changed, next at "));
  EXPECT_THAT(command({"set", "s", "--cron", "0 4 * * *"}).out, HasSubstr("unchanged"));
  EXPECT_EQ(listing({"set", "s", "--disabled"}).at(0).at("enabled").as_bool(), false);
  EXPECT_EQ(listing({"set", "s", "--enabled"}).at(0).at("enabled").as_bool(), true);
  EXPECT_EQ(command({"pause", "s"}).status, 0);
  EXPECT_EQ(listing({"list"}).at(0).at("state").as_string(), "paused");
  auto const job = std::string(listing({"run", "s"}).at(0).at("job").as_string());
  EXPECT_EQ(state(job), "available");
  EXPECT_EQ(command({"resume", "s"}).status, 0);
  EXPECT_EQ(listing({"history", "s"}).at(0).at("job").as_string(), job);
  EXPECT_THAT(command({"history", "s"}).out, HasSubstr("manual"));
  EXPECT_EQ(listing({"next", "s", "-n", "3"}).size(), 3U);
  EXPECT_EQ(command({"remove", "s", "none"}).status, 1);
  EXPECT_EQ(listing({"list"}).size(), 0U);
}

TEST_F(CliSchedules, NextPreviewsACronText) {
  EXPECT_EQ(command({"next", "--cron", "30 2 * * *", "--time-zone", "Europe/Berlin", "--from", "2026-03-28T12:00:00Z",
                     "-n", "2"})
                .out,
            "2026-03-29T01:00:00.000000Z  2026-03-29 03:00:00\n2026-03-30T00:30:00.000000Z  2026-03-30 02:30:00\n");
  EXPECT_EQ(command({"next"}).status, 2);
  EXPECT_EQ(command({"next", "s", "--cron", "@daily"}).status, 2);
  EXPECT_EQ(command({"next", "--cron", "@daily", "-n", "0"}).status, 2);
}

TEST_F(CliSchedules, ErrorsSayWhatIsAllowed) {
  auto const bad = command({"add", "s", "k", "--cron", "0 24 * * *"});
  EXPECT_EQ(bad.status, 2);
  EXPECT_THAT(bad.err, HasSubstr("posthouse: cron '0 24 * * *': hour is '24'\n  hour is * or numbers 0 to 23"));
  EXPECT_THAT(bad.err, Not(HasSubstr("posthouse: posthouse:")));
  EXPECT_EQ(command({"add", "s", "k"}).status, 2);
  EXPECT_EQ(command({"add", "s", "k", "--every", "often"}).status, 2);
  EXPECT_EQ(command({"add", "s", "k", "{", "--every", "1h"}).status, 2);
  EXPECT_EQ(command({"set", "s"}).status, 2);
  EXPECT_EQ(command({"set", "none", "--queue", "q"}).status, 2);
  EXPECT_EQ(command({"pause", "none"}).status, 2);
}

// A failing schedule shows its error, and what hostile text there is stays text.
TEST_F(CliSchedules, ListShowsTheLastError) {
  ASSERT_EQ(command({"add", "s", "k", "--every", "1s"}).status, 0);
  sql.exec(
      "update posthouse.schedule set kind = E'\\x1b[31m'; select posthouse.fire_schedules(clock_timestamp() + interval "
      "'1 minute')");
  auto const ran = command({"list"});
  EXPECT_THAT(ran.out, HasSubstr("is not a name"));
  EXPECT_THAT(ran.out, Not(HasSubstr("\x1b[31m")));
}

// A worker fires what is due: the whole way from the program to the handler.
TEST_F(CliSchedules, AWorkerFiresAndRuns) {
  sql.exec("create table public.seen (tick text)");
  ASSERT_EQ(command({"add", "s", "mark", "--every", "1s"}).status, 0);
  auto const config = folder.write("work.yaml",
                                   "kinds: {mark: {sql: \"insert into public.seen select "
                                   "current_setting('posthouse.headers')::jsonb ->> 'posthouse.tick'\"}}\n");
  auto worker = start({"work", "--config", config});
  EXPECT_TRUE(eventually([&] { return sql.number("select count(*) from public.seen") >= 2; })) << worker.errors();
  worker.terminate();
  EXPECT_EQ(worker.wait(std::chrono::seconds(60)), 0);
  EXPECT_EQ(sql.number("select count(*) - count(distinct tick) from public.seen"), 0);
}

TEST_F(CliSchedules, WorkOnceFiresWhatIsDue) {
  sql.exec("create table public.seen (tick text)");
  ASSERT_EQ(command({"add", "s", "mark", "--at", "2020-01-01T00:00:00Z"}).status, 0);
  auto const config = folder.write("work.yaml", "kinds: {mark: {sql: \"insert into public.seen values ('x')\"}}\n");
  EXPECT_EQ(run({"work", "--once", "--config", config}).status, 0);
  EXPECT_EQ(sql.number("select count(*) from public.seen"), 1);
}

// Leaders are killed in the middle of their work; another takes over. No tick is lost or doubled.
TEST_F(CliSchedules, KilledLeadersLoseAndDoubleNoTick) {
  ASSERT_EQ(
      command({"add", "s", "mark", "--cron", "* * * * * *", "--misfire", "all", "--misfire-limit", "1000"}).status, 0);
  auto const config = folder.write(
      "work.yaml", "kinds: {mark: {sql: \"select 1\"}}\nclaim_lease_ms: 2000\nheartbeat_interval_ms: 300\n");
  auto const fired = [&] { return sql.number("select count(*) from posthouse.schedule_fire"); };
  std::vector<ChildProcess> workers;
  workers.push_back(start({"work", "--config", config}));
  for (int round = 0; round < 2; ++round) {
    auto const before = fired();
    EXPECT_TRUE(eventually([&] { return fired() >= before + 3; }, std::chrono::seconds(60))) << workers.back().errors();
    workers.push_back(start({"work", "--config", config}));
    auto& leader = workers[workers.size() - 2];
    // At the moment of a commit, as near as can be seen from here.
    auto const seen = fired();
    EXPECT_TRUE(eventually([&] { return fired() > seen; }, std::chrono::seconds(60)));
    leader.kill();
    leader.wait();
  }
  auto const before = fired();
  EXPECT_TRUE(eventually([&] { return fired() >= before + 3; }, std::chrono::seconds(60))) << workers.back().errors();
  workers.back().terminate();
  EXPECT_EQ(workers.back().wait(std::chrono::seconds(60)), 0);
  EXPECT_TRUE(sql.truth("select count(*) = 1 + extract(epoch from max(tick) - min(tick)) from posthouse.schedule_fire"))
      << "every second from the first to the last";
  EXPECT_EQ(sql.number("select count(*) from posthouse.schedule_fire where outcome <> 'fired'"), 0);
  EXPECT_TRUE(
      sql.truth("select count(*) = count(distinct headers ->> 'posthouse.tick') and count(*) = (select count(*) "
                "from posthouse.schedule_fire) from posthouse.jobs"));
}

}  // namespace
}  // namespace posthouse::test
