// SPDX-License-Identifier: Apache-2.0
// Firing and editing at once, in sessions of their own.
#include <gmock/gmock.h>

#include <thread>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;

class ScheduleRace : public EngineTest {
 protected:
  ScheduleRace() {
    sql.exec(
        "set timezone = 'UTC'; select add_schedule('s', 'k', every => '1 minute'); update schedule set anchor = "
        "'2030-01-01 00:00:00+00', "
        "next_at = '2030-01-01 00:01:00+00', due_at = '2030-01-01 00:01:00+00'");
  }
  static std::int64_t fire(Sql& session, std::string const& now = "2030-01-01 00:01:00+00") {
    return session.number("select fire_schedules($1)", now);
  }
  std::int64_t jobs() { return sql.number("select count(*) from job"); }
  Sql other = open();
};

TEST_F(ScheduleRace, OfTwoThatFireAtOnceOneDoes) {
  other.exec("begin");
  EXPECT_EQ(fire(other), 1);
  EXPECT_EQ(fire(sql), 0) << "it does not wait either";
  other.exec("commit");
  EXPECT_EQ(fire(sql), 0);
  EXPECT_EQ(jobs(), 1);
}

TEST_F(ScheduleRace, TheOtherFiresWhatWasRolledBack) {
  other.exec("begin");
  EXPECT_EQ(fire(other), 1);
  EXPECT_EQ(fire(sql), 0);
  other.exec("rollback");
  EXPECT_EQ(fire(sql), 1);
  EXPECT_EQ(jobs(), 1);
}

// Without the row's lock the unique (schedule, tick) alone has to hold: a copy of the row is fired beside.
TEST_F(ScheduleRace, TheUniqueTickHoldsWithoutTheRowsLock) {
  other.exec("begin");
  EXPECT_EQ(other.number("select fire_schedule(s, '2030-01-01 00:01:00+00') from (select * from schedule) s"), 1);
  auto const pid = sql.backend_pid();
  auto second = beside(sql, "select fire_schedule(s, '2030-01-01 00:01:00+00') from (select * from schedule) s");
  auto observer = open();
  ASSERT_TRUE(waits_for_lock(observer, pid));
  other.exec("commit");
  EXPECT_EQ(second.get(), "0");
  EXPECT_EQ(jobs(), 1);
  EXPECT_EQ(sql.number("select count(*) from schedule_fire"), 1);
  EXPECT_EQ(fire(sql), 0);
}

TEST_F(ScheduleRace, ManySessionsFireEachTickOnce) {
  sql.exec(
      "select add_schedule('t' || i, 'k', cron => '* * * * * *', misfire => 'all', misfire_limit => 1000) from "
      "generate_series(1, 5) i; "
      "update schedule set next_at = '2030-01-01 00:00:01+00', due_at = '2030-01-01 00:00:01+00' where cron is not "
      "null");
  std::vector<std::thread> threads;
  std::vector<std::string> failures(6);
  for (std::size_t i = 0; i < failures.size(); ++i) {
    threads.emplace_back([&, i] {
      try {
        auto session = open();
        // Clocks that differ by up to an hour.
        for (int second = 1; second <= 60; ++second) {
          session.rows(
              "select fire_schedules('2030-01-01 00:00:00+00'::timestamptz + $1 * interval '1 s' - $2 * interval '10 "
              "s')",
              second * 2, i);
        }
      } catch (std::exception const& error) {
        failures[i] = error.what();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(failures, ::testing::Each(""));
  sql.rows("select fire_schedules('2030-01-01 00:02:00+00')");
  EXPECT_EQ(sql.number("select count(*) from schedule_fire where schedule <> 's' and outcome = 'fired'"), 5 * 120)
      << "every tick";
  EXPECT_EQ(
      sql.number("select count(distinct (headers ->> 'posthouse.schedule', headers ->> 'posthouse.tick')) from job"),
      jobs())
      << "once";
  EXPECT_EQ(sql.number("select count(*) from schedule_fire where job is not null"), jobs());
}

TEST_F(ScheduleRace, AnEditWhileTheTickIsDueKeepsTheTicksOfTheNewText) {
  // The tick of the old text is fired if the new one has it…
  sql.exec(
      "update schedule set every = null, anchor = null, cron = '* * * * *', masks = cron_masks('* * * * *'), "
      "next_at = date_trunc('minute', clock_timestamp()), due_at = clock_timestamp() - interval '1 ms'");
  EXPECT_EQ(sql.one("select set_schedule('s', '{\"cron\": \"*/1 * * * *\"}')"), "changed");
  EXPECT_EQ(sql.number("select fire_schedules()"), 1);
  // … and not if it has not.
  sql.exec(
      "update schedule set next_at = date_trunc('minute', clock_timestamp()) + interval '1 us', due_at = "
      "clock_timestamp(), last_tick = null");
  EXPECT_EQ(sql.one("select set_schedule('s', jsonb_build_object('cron', '0 0 ' || extract(day from now() + interval "
                    "'3 days') || ' * *'))"),
            "changed");
  EXPECT_EQ(sql.number("select fire_schedules()"), 0);
  EXPECT_TRUE(sql.truth("select next_at > now() + interval '1 day' from schedule"));
}

TEST_F(ScheduleRace, AFireDoesNotWaitForAnEditAndAnEditWaitsForAFire) {
  other.exec("begin; select set_schedule('s', '{\"kind\": \"edited\"}')");
  EXPECT_EQ(fire(sql), 0) << "at the next round";
  other.exec("commit");
  sql.exec("begin");
  EXPECT_EQ(fire(sql), 1);
  auto const pid = other.backend_pid();
  auto edit = beside(other, "select set_schedule('s', '{\"priority\": 7}')");
  auto observer = open();
  ASSERT_TRUE(waits_for_lock(observer, pid));
  sql.exec("commit");
  EXPECT_EQ(edit.get(), "changed");
  EXPECT_EQ(fire(sql), 0) << "the edit has not turned time back";
  EXPECT_EQ(sql.one("select kind from jobs"), "edited");
  EXPECT_EQ(sql.number("select priority from schedule"), 7);
}

TEST_F(ScheduleRace, RemoveWaitsForAFireAndAFireSeesARemove) {
  sql.exec("begin");
  EXPECT_EQ(fire(sql), 1);
  auto const pid = other.backend_pid();
  auto removed = beside(other, "select remove_schedule('s')");
  auto observer = open();
  ASSERT_TRUE(waits_for_lock(observer, pid));
  sql.exec("commit");
  EXPECT_EQ(removed.get(), "t");
  EXPECT_EQ(jobs(), 1);
  EXPECT_EQ(sql.number("select count(*) from schedule_fire"), 1) << "the history stays";
  sql.exec("select add_schedule('s', 'k', at => '2029-01-01 00:00:00+00')");
  other.exec("begin; select remove_schedule('s')");
  EXPECT_EQ(fire(sql, "2031-01-01 00:00:00+00"), 0);
  other.exec("commit");
  EXPECT_EQ(fire(sql, "2031-01-01 00:00:00+00"), 0);
}

TEST_F(ScheduleRace, APauseWhileItFiresEndsIt) {
  sql.exec("begin");
  EXPECT_EQ(fire(sql), 1);
  auto const pid = other.backend_pid();
  auto paused = beside(other, "select pause_schedule('s')::text");
  auto observer = open();
  ASSERT_TRUE(waits_for_lock(observer, pid));
  sql.exec("commit");
  paused.get();
  EXPECT_EQ(fire(sql, "2031-01-01 00:00:00+00"), 0);
  EXPECT_EQ(jobs(), 1);
}

TEST_F(ScheduleRace, DrainingSeesWhatAnotherIsFiringOrPromoting) {
  EXPECT_EQ(sql.number("select drain_duties()"), 0);
  sql.exec("update schedule set due_at = clock_timestamp(), next_at = date_trunc('second', clock_timestamp())");
  other.exec("begin");
  EXPECT_EQ(other.number("select fire_schedules()"), 1);
  EXPECT_GT(sql.number("select drain_duties()"), 0) << "not drained yet";
  other.exec("commit");
  EXPECT_EQ(sql.number("select drain_duties()"), 0);
  sql.exec("select enqueue('k', delay => '1 hour'); update deferred set due_at = clock_timestamp()");
  other.exec("begin");
  EXPECT_EQ(other.number("select promote()"), 1);
  EXPECT_GT(sql.number("select drain_duties()"), 0);
  other.exec("commit");
  EXPECT_EQ(sql.number("select drain_duties()"), 0);
}

TEST_F(ScheduleRace, TwoApplicationsDeclareAtOnce) {
  other.exec("begin; select sync_schedules('b', '[{\"name\": \"b1\", \"kind\": \"k\", \"cron\": \"@daily\"}]')");
  auto const pid = sql.backend_pid();
  auto declared =
      beside(sql, "select sync_schedules('a', '[{\"name\": \"a1\", \"kind\": \"k\", \"cron\": \"@daily\"}]')");
  auto observer = open();
  ASSERT_TRUE(waits_for_lock(observer, pid));
  other.exec("commit");
  EXPECT_EQ(declared.get(), R"({"added": 1, "changed": 0, "removed": 0, "unchanged": 0})");
  EXPECT_THAT(sql.column("select name from schedules order by name"), ElementsAre("a1", "b1", "s"));
}

}  // namespace
}  // namespace posthouse::test
