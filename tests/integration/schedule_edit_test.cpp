// SPDX-License-Identifier: Apache-2.0
// Editing: what a definition may say, changes, pause and resume, declarations of applications, in SQL and the library.
#include <gmock/gmock.h>

#include <posthouse/schedules.hpp>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class ScheduleEdit : public EngineTest {
 protected:
  ScheduleEdit() { sql.exec("set timezone = 'UTC'"); }
  std::string of(std::string const& column, std::string const& name = "s") {
    return sql.one("select coalesce(" + column + "::text, 'null') from schedule where name = $1", name);
  }
  std::string sync(std::string const& owner, std::string const& list) {
    return sql.one("select string_agg(value, ' ' order by key) from jsonb_each_text(sync_schedules($1, $2))", owner,
                   list);
  }
  /// A moment at which nothing in a table tells one call from the next.
  std::string rows() {
    return sql.one("select coalesce(string_agg(s::text || xmin::text, ';' order by name), '') from schedule s");
  }

  Schedules schedules{ClientOptions{.database = options()}};
};

TEST_F(ScheduleEdit, ADefinitionIsCheckedWhole) {
  auto const add = [&](std::string const& arguments) { return refusal_of("select add_schedule(" + arguments + ")"); };
  EXPECT_THAT(add("'a b', 'k', cron => '@daily'"), HasSubstr("22023 ERROR:  posthouse: schedule 'a b': name is 'a b'"));
  EXPECT_THAT(add("null, 'k', cron => '@daily'"), HasSubstr("name is null"));
  EXPECT_THAT(add("'s', 'not a kind', cron => '@daily'"), HasSubstr("kind is 'not a kind'"));
  EXPECT_THAT(add("'s', null, cron => '@daily'"), HasSubstr("kind is null"));
  EXPECT_THAT(add("'s', 'k', cron => '@daily', queue => ''"), HasSubstr("queue is ''"));
  EXPECT_THAT(add("'s', 'k'"), HasSubstr("0 of cron, every and at are given"));
  EXPECT_THAT(add("'s', 'k', cron => '@daily', every => '1 hour'"), HasSubstr("2 of cron, every and at are given"));
  EXPECT_THAT(add("'s', 'k', cron => '61 * * * *'"), HasSubstr("minute is '61'"));
  EXPECT_THAT(add("'s', 'k', cron => '@daily', time_zone => 'Mars/Olympus'"), HasSubstr("time_zone is 'Mars/Olympus'"));
  for (auto const* every : {"0", "-1 s", "0.5 s", "1.5 s", "367 days", "1 month", "1 year"}) {
    EXPECT_THAT(add(std::string("'s', 'k', every => '") + every + "'"), HasSubstr("every is 1 second to 366 days"))
        << every;
  }
  EXPECT_THAT(add("'s', 'k', at => 'infinity'"), HasSubstr("at is a finite time within 100 years"));
  EXPECT_THAT(add("'s', 'k', at => '2200-01-01'"), HasSubstr("at is a finite time within 100 years"));
  EXPECT_THAT(add("'s', 'k', every => '1 h', jitter => '-1 s'"), HasSubstr("jitter is 0 to 1 day"));
  EXPECT_THAT(add("'s', 'k', every => '1 h', jitter => '25 h'"), HasSubstr("jitter is 0 to 1 day"));
  EXPECT_THAT(add("'s', 'k', every => '1 h', misfire => 'never'"), HasSubstr("misfire is skip, latest or all"));
  EXPECT_THAT(add("'s', 'k', every => '1 h', misfire_limit => 1001"), HasSubstr("misfire_limit is 1 to 1000"));
  EXPECT_THAT(add("'s', 'k', every => '1 h', overlap => 'queue'"), HasSubstr("overlap is allow, skip or replace"));
  EXPECT_THAT(add("'s', 'k', every => '1 h', headers => '[]'"), HasSubstr("headers"));
  EXPECT_THAT(add("'s', 'k', every => '1 h', max_attempts => 0"), HasSubstr("max_attempts is 0"));
  EXPECT_THAT(add("'s', 'k', every => '1 h', payload => '1', payload_bytes => 'x'"),
              HasSubstr("both payload and payload_bytes"));
  EXPECT_THAT(refusal_of("select add_schedule_json('s', '{\"kind\": \"k\", \"cron\": \"@daily\", \"croon\": 1}')"),
              HasSubstr("the key is 'croon'"));
  EXPECT_THAT(refusal_of("select add_schedule_json('s', '{\"kind\": \"k\", \"every\": \"soon\"}')"),
              HasSubstr("every is 'soon'"));
  EXPECT_THAT(
      refusal_of("select add_schedule_json('s', '{\"kind\": \"k\", \"cron\": \"@daily\", \"priority\": \"high\"}')"),
      HasSubstr("priority is 'high'"));
  EXPECT_THAT(refusal_of("select add_schedule_json('s', '[]')"), HasSubstr("22023"));
  EXPECT_EQ(sql.number("select count(*) from schedule"), 0);
  EXPECT_EQ(add("'s', 'k', cron => '@daily'"), "accepted");
  EXPECT_THAT(add("'s', 'k', cron => '@daily'"), HasSubstr("schedule 's' exists already"));
}

TEST_F(ScheduleEdit, SetChangesWhatIsNamed) {
  sql.exec(
      "select add_schedule('s', 'k', cron => '0 3 * * *', payload => '{\"a\": null}', headers => '{\"h\": \"1\"}', "
      "max_attempts => 3, jitter => '1 min')");
  auto const next = of("next_at");
  EXPECT_EQ(sql.one("select set_schedule('s', '{\"kind\": \"other\", \"max_attempts\": null}')"), "changed");
  EXPECT_EQ(of("kind"), "other");
  EXPECT_EQ(of("max_attempts"), "null");
  EXPECT_EQ(of("payload"), "{\"a\": null}");
  EXPECT_EQ(of("next_at"), next) << "the times stay";
  EXPECT_EQ(sql.one("select set_schedule('s', '{\"kind\": \"other\"}')"), "unchanged");
  EXPECT_EQ(sql.one("select set_schedule('s', '{\"payload\": null}')"), "changed");
  EXPECT_EQ(of("payload"), "null");
  EXPECT_EQ(sql.one("select set_schedule('s', '{\"every\": \"1 hour\"}')"), "changed");
  EXPECT_EQ(of("cron"), "null") << "one of three";
  EXPECT_TRUE(sql.truth("select next_at = anchor + interval '1 hour' from schedule"));
  EXPECT_EQ(sql.one("select set_schedule('s', '{\"enabled\": false}')"), "changed");
  EXPECT_EQ(of("next_at"), "null");
  EXPECT_THAT(refusal_of("select set_schedule('s', '{\"cron\": null}')"), HasSubstr("0 of cron"));
  EXPECT_THAT(refusal_of("select set_schedule('none', '{}')"), HasSubstr("there is no schedule 'none'"));
  EXPECT_THAT(refusal_of("select set_schedule('s', null)"), HasSubstr("changes is null"));
}

TEST_F(ScheduleEdit, APauseLeavesTicksOut) {
  sql.exec("select add_schedule('s', 'k', every => '1 second'); select pause_schedule('s')");
  EXPECT_EQ(of("next_at"), "null");
  EXPECT_EQ(sql.number("select fire_schedules(clock_timestamp() + interval '1 hour')"), 0);
  EXPECT_EQ(sql.number("select count(*) from preview_schedule('s', 3)"), 3) << "what it would do";
  EXPECT_EQ(sql.one("select set_schedule('s', '{\"priority\": 1}')"), "changed");
  EXPECT_EQ(of("next_at"), "null") << "still paused";
  sql.exec("update schedule set anchor = anchor - interval '1 hour'");
  sql.exec("select resume_schedule('s'); select resume_schedule('s')");
  EXPECT_TRUE(sql.truth("select next_at > edited_at from schedule"));
  EXPECT_EQ(sql.number("select fire_schedules(next_at) from schedule"), 1);
  EXPECT_EQ(sql.number("select count(*) from schedule_fire"), 1) << "nothing of the hour in between";
  EXPECT_THAT(refusal_of("select pause_schedule('none')"), HasSubstr("there is no schedule"));
  EXPECT_THAT(refusal_of("select resume_schedule('none')"), HasSubstr("there is no schedule"));
  EXPECT_THAT(refusal_of("select run_schedule('none')"), HasSubstr("there is no schedule"));
  EXPECT_FALSE(sql.truth("select remove_schedule('none')"));
}

TEST_F(ScheduleEdit, AOneShotThatPassedInAPauseFiresAtItsEnd) {
  sql.exec(
      "select add_schedule('s', 'k', at => clock_timestamp() + interval '1 hour'); select pause_schedule('s'); "
      "update schedule set at = at - interval '2 hours'; select resume_schedule('s')");
  EXPECT_EQ(sql.number("select fire_schedules()"), 1);
}

TEST_F(ScheduleEdit, RunNowLeavesTheTicksAlone) {
  sql.exec("select add_schedule('s', 'k', cron => '@daily', payload => '7'); select pause_schedule('s')");
  auto const job = sql.number("select run_schedule('s')");
  EXPECT_EQ(state(job), "available");
  EXPECT_EQ(sql.one("select payload::text from jobs"), "7");
  EXPECT_EQ(sql.one("select outcome || job from schedule_fire"), "manual" + std::to_string(job));
  EXPECT_EQ(of("last_tick"), "null");
  EXPECT_EQ(of("last_job"), std::to_string(job));
}

TEST_F(ScheduleEdit, ADeclarationIsMadeSo) {
  EXPECT_EQ(sync("app",
                 R"([{"name": "a", "kind": "k", "cron": "@daily"}, {"name": "b", "kind": "k", "every": "5 minutes"}])"),
            "2 0 0 0");
  auto const before = rows();
  EXPECT_EQ(
      sync(
          "app",
          R"([{"name": "b", "kind": "k", "every": "300 s"}, {"name": "a", "kind": "k", "cron": "@daily", "time_zone": "UTC"}])"),
      "0 0 0 2");
  EXPECT_EQ(rows(), before) << "a restart of the application touches nothing";
  EXPECT_EQ(
      sync("app", R"([{"name": "a", "kind": "k2", "cron": "@daily"}, {"name": "c", "kind": "k", "every": "1 hour"}])"),
      "1 1 1 0");
  EXPECT_THAT(sql.column("select name || ' ' || kind || ' ' || owner from schedules order by name"),
              ElementsAre("a k2 app", "c k app"));
  EXPECT_EQ(sync("app", "[]"), "0 0 2 0");
}

TEST_F(ScheduleEdit, ADeclarationNeverTouchesWhatIsNotItsOwn) {
  sync("one", R"([{"name": "a", "kind": "k", "cron": "@daily"}])");
  sync("two", R"([{"name": "b", "kind": "k", "cron": "@daily"}])");
  sql.exec("select add_schedule('hand', 'k', cron => '@daily')");
  auto const before = rows();
  EXPECT_THAT(
      refusal_of(
          R"(select sync_schedules('two', '[{"name": "c", "kind": "k", "cron": "@daily"}, {"name": "a", "kind": "k", "cron": "@daily"}]'))"),
      HasSubstr("element 1: schedule 'a' belongs to 'one'"));
  EXPECT_THAT(refusal_of(R"(select sync_schedules('two', '[{"name": "hand", "kind": "k", "cron": "@daily"}]'))"),
              HasSubstr("element 0: schedule 'hand' was made by hand"));
  EXPECT_THAT(
      refusal_of(
          R"(select sync_schedules('one', '[{"name": "x", "kind": "k", "cron": "@daily"}, {"name": "x", "kind": "k", "cron": "@daily"}]'))"),
      HasSubstr("schedule 'x' is declared twice"));
  EXPECT_THAT(refusal_of(R"(select sync_schedules('one', '[{"kind": "k", "cron": "@daily"}]'))"),
              HasSubstr("element 0: schedule null: name is null"));
  EXPECT_THAT(refusal_of(R"(select sync_schedules('one', '[{"name": "y", "kind": "k", "cron": "0 25 * * *"}]'))"),
              HasSubstr("element 0: cron '0 25 * * *': hour is '25'"));
  for (auto const* list : {"null", "{}", "[1]", "[[]]"})
    EXPECT_THAT(refusal_of(std::string("select sync_schedules('one', '") + list + "')"), HasSubstr("22023")) << list;
  EXPECT_THAT(refusal_of("select sync_schedules('', '[]')"), HasSubstr("is not a name"));
  EXPECT_EQ(rows(), before) << "all or nothing";
  EXPECT_EQ(sync("two", "[]"), "0 0 1 0");
  EXPECT_THAT(sql.column("select name from schedules order by name"), ElementsAre("a", "hand"));
}

TEST_F(ScheduleEdit, APauseOutlivesADeclarationAndAHandsChangeDoesNot) {
  auto const list = R"([{"name": "a", "kind": "k", "cron": "@daily"}])";
  sync("app", list);
  sql.exec("select pause_schedule('a'); select set_schedule('a', '{\"cron\": \"@hourly\"}')");
  EXPECT_EQ(of("owner", "a"), "app");
  EXPECT_EQ(sync("app", list), "0 1 0 0");
  EXPECT_EQ(of("cron", "a"), "@daily");
  EXPECT_EQ(of("paused", "a"), "true");
  EXPECT_EQ(of("next_at", "a"), "null");
}

TEST_F(ScheduleEdit, OldHistoryIsPruned) {
  sql.exec(
      "select add_schedule('s', 'k', every => '1 hour'); select run_schedule('s'); select run_schedule('s'); "
      "update schedule_fire set at = at - interval '31 days' where tick = (select min(tick) from schedule_fire); "
      "select prune()");
  EXPECT_EQ(sql.number("select count(*) from schedule_fire"), 1);
}

// -- the library -----------------------------------------------------------------------------------------------------

TEST_F(ScheduleEdit, TheLibraryBringsBackWhatItSends) {
  Schedule const full{.name = "full",
                      .kind = "k",
                      .payload = json{R"({"a": null})"},
                      .cron = "30 4 * * mon-fri",
                      .time_zone = "America/St_Johns",
                      .options = {.queue = "q", .priority = -3, .headers = {{"h", "\"1\""}}, .max_attempts = 7},
                      .jitter = 90s,
                      .misfire = Misfire::all,
                      .misfire_limit = 9,
                      .overlap = Overlap::replace};
  std::string const raw("\0\xff\"", 3);
  Schedule const binary{.name = "binary",
                        .kind = "k",
                        .payload = bytes{raw},
                        .every = 90min,
                        .misfire = Misfire::skip,
                        .overlap = Overlap::skip,
                        .enabled = false};
  auto const moment = std::chrono::system_clock::time_point(std::chrono::seconds(1893456000));
  schedules.add(full);
  schedules.add(binary);
  schedules.add({.name = "once", .kind = "k", .at = moment});
  auto const list = schedules.list();
  ASSERT_THAT(list, SizeIs(3));
  auto const& got = list[1].schedule;
  EXPECT_EQ(got.name, "full");
  EXPECT_EQ(got.payload.data(), full.payload.data());
  EXPECT_EQ(got.cron, full.cron);
  EXPECT_EQ(got.time_zone, full.time_zone);
  EXPECT_EQ(got.options.queue, "q");
  EXPECT_EQ(got.options.priority, -3);
  EXPECT_EQ(got.options.headers, full.options.headers);
  EXPECT_EQ(got.options.max_attempts, 7);
  EXPECT_EQ(got.jitter, 90s);
  EXPECT_EQ(got.misfire, Misfire::all);
  EXPECT_EQ(got.misfire_limit, 9);
  EXPECT_EQ(got.overlap, Overlap::replace);
  EXPECT_EQ(list[0].schedule.payload.data(), raw);
  EXPECT_EQ(list[0].schedule.every, 90min);
  EXPECT_EQ(list[0].schedule.misfire, Misfire::skip);
  EXPECT_EQ(list[0].schedule.overlap, Overlap::skip);
  EXPECT_FALSE(list[0].schedule.enabled);
  EXPECT_FALSE(list[0].next_at);
  EXPECT_EQ(list[2].schedule.at, moment);
  EXPECT_EQ(list[2].next_at, "2030-01-01T00:00:00.000000Z");
  // What came back says the same as what was sent.
  EXPECT_EQ(schedules.remove("full"), true);
  schedules.add(got);
  EXPECT_EQ(schedules.find("full")->next_at, list[1].next_at);
  EXPECT_FALSE(schedules.find("none"));
}

TEST_F(ScheduleEdit, TheLibraryEditsRunsAndTells) {
  std::vector<Schedule> const declared{{.name = "a", .kind = "k", .cron = "@daily"},
                                       {.name = "b", .kind = "k", .every = 1h}};
  auto const first = schedules.declare("app", declared);
  EXPECT_EQ(first.added, 2);
  EXPECT_EQ(schedules.declare("app", declared).unchanged, 2);
  EXPECT_EQ(schedules.declare("app", std::span(declared).first(1)).removed, 1);
  EXPECT_TRUE(schedules.set("a", json{R"({"cron": "0 4 * * *"})"}));
  EXPECT_FALSE(schedules.set("a", json{R"({"cron": "0 4 * * *"})"}));
  EXPECT_THAT(schedules.next("a", 3), SizeIs(3));
  EXPECT_THAT(schedules.next("a", 1).at(0).local, HasSubstr(" 04:00:00"));
  auto const preview = schedules.preview("30 2 * * *", "Europe/Berlin", 2);
  EXPECT_THAT(preview, SizeIs(2));
  schedules.pause("a");
  EXPECT_TRUE(schedules.find("a")->paused);
  auto const job = schedules.run("a");
  schedules.resume("a");
  EXPECT_FALSE(schedules.find("a")->paused);
  auto const history = schedules.history("a");
  ASSERT_THAT(history, SizeIs(1));
  EXPECT_EQ(history[0].outcome, "manual");
  EXPECT_EQ(history[0].job, job);
  EXPECT_EQ(schedules.find("a")->owner, "app");
  EXPECT_EQ(schedules.find("a")->last_job, job);
  EXPECT_TRUE(schedules.remove("a"));
  EXPECT_FALSE(schedules.remove("a"));
}

TEST_F(ScheduleEdit, TheLibraryRefusesBadInput) {
  EXPECT_THROW(schedules.add({.name = "s", .kind = "k", .cron = "61 * * * *"}), InvalidArgument);
  EXPECT_THROW(schedules.add({.name = "s", .kind = "k", .payload = json{"{"}, .cron = "@daily"}), InvalidArgument);
  EXPECT_THROW(schedules.add({.name = "s", .kind = "k", .cron = "@daily", .options = {.delay = 1s}}), InvalidArgument);
  EXPECT_THROW(schedules.set("s", json{"{"}), InvalidArgument);
  EXPECT_THROW(schedules.pause("none"), InvalidArgument);
  EXPECT_THROW(static_cast<void>(schedules.next("none")), InvalidArgument);
  EXPECT_THROW(static_cast<void>(schedules.history("none", 0)), InvalidArgument);
  std::vector<Schedule> const bad{{.name = "a", .kind = "k", .cron = "@daily"},
                                  {.name = "b", .kind = "k", .cron = "x"}};
  try {
    schedules.declare("app", bad);
    ADD_FAILURE();
  } catch (InvalidArgument const& error) {
    EXPECT_THAT(error.what(), HasSubstr("element 1"));
  }
  EXPECT_THAT(schedules.list(), IsEmpty());
}

}  // namespace
}  // namespace posthouse::test
