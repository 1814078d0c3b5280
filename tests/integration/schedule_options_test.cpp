// SPDX-License-Identifier: Apache-2.0
// Every option of a job on schedules, in SQL, the library and the command line; schedules of the configuration.
#include <gmock/gmock.h>

#include <boost/json.hpp>
#include <posthouse/schedules.hpp>

#include "core/cron_text.hpp"
#include "integration/cli_fixture.hpp"
#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ScheduleOptions : public EngineTest {
 protected:
  std::int64_t fire(std::string const& after) {
    return sql.number("select fire_schedules(clock_timestamp() + $1::interval)", after);
  }
  std::vector<std::string> history() {
    return sql.column("select concat_ws(' ', outcome, note) from schedule_fire order by tick");
  }

  Schedules schedules{ClientOptions{.database = options()}};
};

TEST_F(ScheduleOptions, TheJobHasThem) {
  sql.exec(
      "select add_schedule('s', 'k', every => '1 minute', dedupe_key => 'd', dedupe_scope => 'until_claimed', "
      "dedupe_window => '1 hour', expires_in => '10 minutes', timeout => '5 s')");
  EXPECT_EQ(fire("61 s"), 1);
  EXPECT_EQ(sql.one("select options ->> 'timeout_ms' from job"), "5000");
  EXPECT_EQ(sql.one("select options ->> 'dedupe_scope' from job"), "until_claimed");
  EXPECT_TRUE(sql.truth("select expires_at - enqueued_at between '9 min' and '10 min 1 s' from jobs"))
      << "from the firing on, not from the tick";
  EXPECT_TRUE(sql.truth("select until > clock_timestamp() + interval '59 min' from unique_key"));
}

TEST_F(ScheduleOptions, ATickWhoseKeyIsHeldEnqueuesNothing) {
  sql.exec("select add_schedule('s', 'k', every => '1 minute', dedupe_key => 'd')");
  auto const job = sql.number("select enqueue('k', dedupe_key => 'd')");
  EXPECT_EQ(fire("61 s"), 0);
  EXPECT_EQ(sql.number("select run_schedule('s')"), job) << "by hand as well";
  EXPECT_EQ(sql.number("select count(*) from job"), 1);
  EXPECT_THAT(history(), ElementsAre("skipped by hand: job " + std::to_string(job) + " has the dedupe_key",
                                     "skipped job " + std::to_string(job) + " has the dedupe_key"));
  sql.rows("select cancel($1)", job);
  EXPECT_EQ(fire("122 s"), 1);
  sql.exec("select set_schedule('s', '{\"on_duplicate\": \"error\"}')");
  EXPECT_EQ(fire("183 s"), 0);
  EXPECT_THAT(sql.one("select last_error from schedules"), HasSubstr("has the dedupe_key"));
  EXPECT_TRUE(sql.truth("select next_at > clock_timestamp() + interval '183 s' from schedules")) << "it goes on";
}

// The leader has more to do than to wait for somebody's open transaction.
TEST_F(ScheduleOptions, AKeyThatAnOpenTransactionTakesHoldsUpNoOtherSchedule) {
  sql.exec(
      "select add_schedule('a', 'k', every => '1 minute', dedupe_key => 'd');"
      "select add_schedule('b', 'k', every => '1 minute')");
  auto other = open();
  other.exec("begin; select enqueue('k', dedupe_key => 'd')");
  EXPECT_EQ(fire("61 s"), 1) << "b";
  EXPECT_EQ(sql.number("select count(*) from schedule_fire where schedule = 'a'"), 0) << "not decided";
  EXPECT_TRUE(sql.truth("select due_at > next_at from schedule where name = 'a'"));
  other.exec("rollback");
  EXPECT_EQ(fire("63 s"), 1);
  EXPECT_EQ(sql.one("select outcome from schedule_fire where schedule = 'a'"), "fired");
}

TEST_F(ScheduleOptions, ReplaceAsksARunningJobToStop) {
  sql.exec("select add_schedule('s', 'k', every => '1 minute', overlap => 'replace')");
  EXPECT_EQ(fire("61 s"), 1);
  Hand worker(sql);
  auto const jobs = worker.claim(1);
  ASSERT_EQ(jobs.size(), 1U);
  EXPECT_EQ(fire("122 s"), 1);
  EXPECT_EQ(sql.number("select unnest(cancels_of($1))", worker.id()), jobs[0].id) << "its worker is to stop it";
  EXPECT_EQ(sql.number("select count(*) from jobs where state = 'available'"), 1) << "and it was not waited for";
  worker.finish(jobs[0].token, "1", 1,
                "[{\"token\": " + std::to_string(jobs[0].token) +
                    ", \"pos\": 0, \"id\": " + std::to_string(jobs[0].id) +
                    ", \"outcome\": \"retry\", \"delay_ms\": 0, \"type\": \"t\", \"message\": \"m\"}]");
  EXPECT_EQ(sql.one("select state from jobs where id = $1", jobs[0].id), "cancelled") << "whatever the handler does";
}

TEST_F(ScheduleOptions, JobsHaveTheKeyAndRunInTurn) {
  sql.exec("select add_schedule('s', 'k', every => '1 minute', key => 'account:7')");
  EXPECT_EQ(fire("61 s"), 1);
  auto const other = sql.number("select enqueue('k', key => 'account:7')");
  Hand worker(sql);
  auto const jobs = worker.claim(10);
  ASSERT_EQ(jobs.size(), 1U);
  EXPECT_EQ(sql.one("select key from jobs where id = $1", jobs[0].id), "account:7");
  worker.finish(jobs[0].token);
  EXPECT_THAT(ids(worker.claim(10)), ElementsAre(other));
  EXPECT_EQ(sql.one("select key from schedules"), "account:7");
  EXPECT_EQ(sql.one("select set_schedule('s', '{\"key\": \"account:8\"}')"), "changed");
  EXPECT_EQ(sql.one("select set_schedule('s', '{\"key\": \"account:8\"}')"), "unchanged");
  EXPECT_EQ(sql.one("select set_schedule('s', '{\"key\": null}')"), "changed");
  EXPECT_EQ(sql.number("select count(*) from schedule where key is not null"), 0);
}

TEST_F(ScheduleOptions, ReplaceGivesTheWaitingJobThePayloadOfTheTick) {
  sql.exec(
      "select add_schedule('s', 'k', every => '1 minute', payload => '{\"n\": 2}', dedupe_key => 'd', on_duplicate => "
      "'replace')");
  auto const job = sql.number("select enqueue('k', '{\"n\": 1}', dedupe_key => 'd')");
  EXPECT_EQ(fire("61 s"), 0);
  EXPECT_EQ(sql.one("select payload from jobs"), R"({"n": 2})");
  auto const got = ": job " + std::to_string(job) + " has the dedupe_key; it got the payload and headers of this tick";
  EXPECT_THAT(history(), ElementsAre("skipped" + got.substr(1)));
  EXPECT_EQ(sql.number("select run_schedule('s')"), job);
  Hand worker(sql);
  ASSERT_EQ(worker.claim(1).size(), 1U);
  EXPECT_EQ(fire("122 s"), 0);
  EXPECT_THAT(history().back(), HasSubstr("skipped job " + std::to_string(job) + " has the dedupe_key"));
  EXPECT_EQ(sql.number("select count(*) from jobs"), 1);
}

TEST_F(ScheduleOptions, BadValues) {
  auto const add = [&](std::string const& more) {
    return refusal_of("select add_schedule('s', 'k', every => '1 minute', " + more + ")");
  };
  EXPECT_THAT(add("timeout => '0'"), HasSubstr("timeout is"));
  EXPECT_THAT(add("expires_in => '-1 s'"), HasSubstr("expires_in is"));
  EXPECT_THAT(add("dedupe_key => ''"), HasSubstr("dedupe_key has 0 bytes"));
  EXPECT_THAT(add("dedupe_scope => 'until_claimed'"), HasSubstr("without dedupe_key"));
  EXPECT_THAT(add("dedupe_key => 'd', on_duplicate => 'loop'"), HasSubstr("on_duplicate is 'loop'"));
  EXPECT_THAT(add("dedupe_key => 'd', dedupe_window => '0'"), HasSubstr("dedupe_window is"));
  EXPECT_THAT(add("dedupe_key => 'd', on_duplicate => 'reschedule'"), HasSubstr("on_duplicate is 'reschedule'"));
  EXPECT_THAT(add("key => ''"), HasSubstr("key has 0 bytes"));
  EXPECT_THAT(
      refusal_of("select add_schedule_json('s', '{\"kind\": \"k\", \"every\": \"1 h\", \"timeout\": \"soon\"}')"),
      HasSubstr("timeout is 'soon'"));
  EXPECT_EQ(sql.number("select count(*) from schedule"), 0);
}

TEST_F(ScheduleOptions, TheLibraryTakesAndShowsThem) {
  Schedule one{.name = "s", .kind = "k", .every = 1min};
  one.options = {.headers = {{"h", "1"}},
                 .max_attempts = 3,
                 .dedupe_key = "d",
                 .on_duplicate = OnDuplicate::error,
                 .dedupe_scope = DedupeScope::until_claimed,
                 .dedupe_window = 2h,
                 .expires_in = 10min,
                 .timeout = 1500ms,
                 .key = "account:7"};
  schedules.add(one);
  auto const shown = schedules.find("s").value().schedule.options;
  EXPECT_EQ(shown.dedupe_key, "d");
  EXPECT_EQ(shown.on_duplicate, OnDuplicate::error);
  EXPECT_EQ(shown.dedupe_scope, DedupeScope::until_claimed);
  EXPECT_EQ(shown.dedupe_window, 2h);
  EXPECT_EQ(shown.expires_in, 10min);
  EXPECT_EQ(shown.timeout, 1500ms);
  EXPECT_EQ(shown.key, "account:7");
  EXPECT_EQ(schedules.declare("app", std::vector<Schedule>{}).removed, 0) << "made by hand";
  one.options.expires_at = std::chrono::system_clock::now();
  EXPECT_THROW(schedules.add(one), InvalidArgument);
  one.options.expires_at.reset();
  one.options.token = "0190b3a4-5c6d-4e7f-8a9b-0c1d2e3f4a5b";
  EXPECT_THROW(schedules.add(one), InvalidArgument);
  one.options.token.clear();
  one.options.on_duplicate = OnDuplicate::reschedule;
  EXPECT_THROW(schedules.add(one), InvalidArgument);
  one.name = "t";
  one.options.on_duplicate = OnDuplicate::replace;
  schedules.add(one);
  EXPECT_EQ(schedules.find("t").value().schedule.options.on_duplicate, OnDuplicate::replace);
}

TEST_F(ScheduleOptions, TheCheckOfCronTextsAgreesWithTheServer) {
  for (std::string const text : {"* * * * *",
                                 "0 0 1 1 *",
                                 "*/5 0-23/2 1,15 jan-DEC mon-fri",
                                 "59 59 23 31 12 7",
                                 "@daily",
                                 "@reboot",
                                 "",
                                 "61 * * * *",
                                 "* 24 * * *",
                                 "* * 0 * *",
                                 "* * * foo *",
                                 "* * * * 8",
                                 "* * * * fri-mon",
                                 "* * * * fri-sun",
                                 "* * * * sun-mon",
                                 "5/2 * * * *",
                                 "*/90 * * * *",
                                 "*/59 * * * *",
                                 "*/60 * * * *",
                                 "*/0 * * * *",
                                 "1,,2 * * * *",
                                 ",1 * * * *",
                                 "1, * * * *",
                                 "99999 * * * *",
                                 "0001 * * * *",
                                 "* * * *",
                                 "* * * * * * *",
                                 "0 0 30 2 *",
                                 "0 0 30 2 mon",
                                 "0 0 29 2 *",
                                 "0 0 31 4,6 *",
                                 "0 0 31 4-7 *",
                                 "0 0 */31 2 *",
                                 "0 0 */30 2 *",
                                 "-1 * * * *",
                                 "1-2-3 * * * *",
                                 "1/2/3 * * * *",
                                 "*-5 * * * *",
                                 "** * * * *",
                                 "jan * * * *",
                                 "* * mon * *",
                                 "0 0 1 1 1-7",
                                 "0 0 1 1 0-7/7",
                                 "0 0 1 1 0-7/8",
                                 "  @HOURLY  ",
                                 "@daily x",
                                 "0 0 1 13 *",
                                 "0 0 1 1-13 *"}) {
    bool here = true;
    try {
      core::check_cron("cron", text);
    } catch (InvalidArgument const&) {
      here = false;
    }
    EXPECT_EQ(here, refusal_of("select cron_masks('" + text + "')") == "accepted") << text;
  }
}

class CliSchedulesDeclared : public CliDatabaseTest {
 protected:
  CliSchedulesDeclared() { prepare_session(sql); }
  Ran work(std::string const& text) {
    return run({"work", "--once", "--config", folder.write("schedules.yaml", text)});
  }
  std::vector<std::string> names() {
    return sql.column("select concat_ws(' ', name, owner) from schedule order by name");
  }
};

TEST_F(CliSchedulesDeclared, WorkMakesThemThoseOfTheConfiguration) {
  std::string const head = "application: shop\nkinds:\n  k: {exec: [/bin/true]}\n";
  sql.exec("select add_schedule('mine', 'k', every => '1 h')");
  auto ran = work(head +
                  "schedules:\n  a: {kind: k, every: 1h, timeout: 5s, dedupe_key: d, headers: {h: x}}\n"
                  "  b: {kind: k, cron: '@daily', payload: {n: 1}}\n");
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("schedules declared added=2"));
  EXPECT_THAT(names(), ElementsAre("a shop", "b shop", "mine"));
  EXPECT_EQ(sql.one("select concat_ws(' ', timeout, dedupe_key, headers ->> 'h') from schedule where name = 'a'"),
            "00:00:05 d x");
  auto const next = sql.one("select next_at from schedule where name = 'a'");
  ran = work(head + "schedules:\n  a: {kind: k, every: 1h, timeout: 5s, dedupe_key: d, headers: {h: x}}\n");
  EXPECT_THAT(ran.err, HasSubstr("removed=1"));
  EXPECT_EQ(sql.one("select next_at from schedule where name = 'a'"), next) << "it says the same";
  work("kinds:\n  k: {exec: [/bin/true]}\n");
  EXPECT_THAT(names(), ElementsAre("a shop", "mine")) << "without application nothing is declared";
  work(head);
  EXPECT_THAT(names(), ElementsAre("mine")) << "with it, none are left";
}

TEST_F(CliSchedulesDeclared, WhatTheServerRefusesIsToldAtOnceAndChangesNothing) {
  sql.exec("select add_schedule('mine', 'k', every => '1 h')");
  std::string const text =
      "application: shop\nkinds:\n  k: {exec: [/bin/true]}\nschedules:\n"
      "  a: {kind: k, cron: '@daily', time_zone: Mars/X}\n"
      "  b: {kind: k, cron: '@daily', time_zone: CET}\n"
      "  mine: {kind: k, every: 1h}\n"
      "  good: {kind: k, every: 1h}\n";
  auto const ran = work(text);
  EXPECT_EQ(ran.status, 2);
  EXPECT_THAT(ran.err, HasSubstr("schedules.yaml:5: schedules.a: time_zone is 'Mars/X'"));
  EXPECT_THAT(ran.err, HasSubstr("schedules.yaml:6: schedules.b: time_zone is 'CET'"));
  EXPECT_THAT(ran.err, HasSubstr("schedules.yaml:7: schedules.mine: schedule 'mine' was made by hand"));
  EXPECT_THAT(names(), ElementsAre("mine"));
  auto const check = run({"config", "check", "--connect", "--config", (folder.path() / "schedules.yaml").string()});
  EXPECT_EQ(check.status, 2);
  EXPECT_THAT(check.err, HasSubstr("schedules.b"));
}

TEST_F(CliSchedulesDeclared, AddAndSetTakeTheOptions) {
  auto const ran = run({"schedules",
                        "add",
                        "s",
                        "k",
                        "--every",
                        "5m",
                        "--dedupe-key",
                        "d",
                        "--dedupe-scope",
                        "until_claimed",
                        "--dedupe-window",
                        "1h",
                        "--on-duplicate",
                        "error",
                        "--expires-in",
                        "10m",
                        "--timeout",
                        "5s",
                        "--key",
                        "account:7",
                        "--json"});
  EXPECT_EQ(ran.status, 0) << ran.err;
  auto const one = boost::json::parse(ran.out).at(0);
  EXPECT_EQ(one.at("dedupe_key"), "d");
  EXPECT_EQ(one.at("dedupe_scope"), "until_claimed");
  EXPECT_EQ(one.at("dedupe_window_ms"), 3'600'000);
  EXPECT_EQ(one.at("on_duplicate"), "error");
  EXPECT_EQ(one.at("expires_in_ms"), 600'000);
  EXPECT_EQ(one.at("timeout_ms"), 5000);
  EXPECT_EQ(one.at("key"), "account:7");
  EXPECT_EQ(run({"schedules", "set", "s", "--timeout", "6s"}).status, 0);
  EXPECT_EQ(sql.one("select timeout from schedule"), "00:00:06");
  EXPECT_EQ(run({"schedules", "set", "s", "--timeout", "0"}).status, 2);
  EXPECT_EQ(run({"schedules", "set", "s", "--on-duplicate", "loop"}).status, 2);
  auto const refused = run({"schedules", "set", "s", "--on-duplicate", "reschedule"});
  EXPECT_EQ(refused.status, 2);
  EXPECT_THAT(refused.err, HasSubstr("skip, error or replace"));
  EXPECT_EQ(run({"schedules", "set", "s", "--on-duplicate", "replace"}).status, 0);
}

}  // namespace
}  // namespace posthouse::test
