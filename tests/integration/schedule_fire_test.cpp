// SPDX-License-Identifier: Apache-2.0
// Firing: a tick fires once whatever happens around it; late ticks, overlap, jitter, bad rows.
#include <gmock/gmock.h>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ScheduleFire : public EngineTest {
 protected:
  ScheduleFire() { sql.exec("set timezone = 'UTC'"); }

  /// A schedule whose next tick is the one after `from`, as if it had been made then.
  void add(std::string const& name, std::string const& arguments, std::string const& from = base) {
    sql.exec("select add_schedule('" + name + "', 'k', " + arguments + ")");
    sql.exec("update schedule set anchor = '" + from + "' where name = '" + name + "' and every is not null");
    sql.exec("update schedule s set next_at = schedule_next(s, '" + from +
             "'), due_at = schedule_due(s, schedule_next(s, '" + from + "')) where name = '" + name + "'");
  }
  std::int64_t fire(std::string const& now) { return sql.number("select fire_schedules($1)", now); }
  /// Outcomes and ticks of a schedule, oldest first.
  std::vector<std::string> history(std::string const& name = "s") {
    return sql.column(
        "select outcome || ' ' || to_char(tick, 'HH24:MI:SS') from schedule_fire where schedule = $1 order by tick",
        name);
  }
  std::int64_t jobs() { return sql.number("select count(*) from job"); }
  std::string of(std::string const& column, std::string const& name = "s") {
    return sql.one("select coalesce(" + column + "::text, 'null') from schedule where name = $1", name);
  }

  static constexpr char const* base = "2030-01-01 00:00:00+00";
};

TEST_F(ScheduleFire, ATickEnqueuesItsJobAndMovesOn) {
  add("s",
      "every => '1 minute', payload => '{\"a\": null}', queue => 'q', priority => 3, headers => '{\"h\": \"1\"}', "
      "max_attempts => 2");
  EXPECT_EQ(fire("2030-01-01 00:00:59.999+00"), 0);
  EXPECT_EQ(fire("2030-01-01 00:01:00+00"), 1);
  EXPECT_EQ(fire("2030-01-01 00:01:00+00"), 0);
  auto const row = sql.rows(
                          "select kind, queue, priority, payload::text, max_attempts, headers ->> 'h', headers ->> "
                          "'posthouse.schedule', "
                          "headers ->> 'posthouse.tick', state, id::text from jobs")
                       .at(0);
  EXPECT_THAT(row, ElementsAre("k", "q", "3", "{\"a\": null}", "2", "1", "s", "2030-01-01T00:01:00.000000Z",
                               "available", of("last_job")));
  EXPECT_THAT(history(), ElementsAre("fired 00:01:00"));
  EXPECT_EQ(of("next_at"), "2030-01-01 00:02:00+00");
  EXPECT_EQ(of("last_tick"), "2030-01-01 00:01:00+00");
}

TEST_F(ScheduleFire, AOneShotFiresOnceAndRests) {
  sql.exec("select add_schedule('s', 'k', at => '2030-01-01 00:00:00.5+00', payload_bytes => '\\x00ff')");
  EXPECT_EQ(fire("2030-01-01 00:00:00.4+00"), 0);
  EXPECT_EQ(fire("2030-01-01 00:00:00.5+00"), 1);
  EXPECT_EQ(of("due_at"), "null");
  EXPECT_EQ(fire("2031-01-01 00:00:00+00"), 0);
  EXPECT_TRUE(sql.truth("select payload_bytes = '\\x00ff' from jobs"));
  // Removed and made again it is still the same tick.
  sql.exec("select remove_schedule('s'); select add_schedule('s', 'k', at => '2030-01-01 00:00:00.5+00')");
  EXPECT_EQ(fire("2031-01-01 00:00:00+00"), 0);
  EXPECT_EQ(jobs(), 1);
  sql.exec("select set_schedule('s', '{\"at\": \"2030-06-01 00:00:00+00\"}')");
  EXPECT_EQ(fire("2031-01-01 00:00:00+00"), 1) << "another time is another tick";
}

TEST_F(ScheduleFire, AOneShotOfThePastIsDueNow) {
  sql.exec("select add_schedule('s', 'k', at => clock_timestamp() - interval '1 day')");
  EXPECT_EQ(sql.number("select fire_schedules()"), 1);
}

TEST_F(ScheduleFire, OfLateTicksTheNewestFires) {
  add("s", "cron => '*/5 * * * *'");
  EXPECT_EQ(fire("2030-01-01 03:17:00+00"), 1);
  EXPECT_THAT(history(), ElementsAre("missed 00:05:00", "fired 03:15:00"));
  EXPECT_THAT(sql.one("select note from schedule_fire where outcome = 'missed'"),
              HasSubstr("until before 2030-01-01 03:15:00"));
  EXPECT_EQ(of("next_at"), "2030-01-01 03:20:00+00");
}

TEST_F(ScheduleFire, AYearOfLateSecondsCostsNoYear) {
  add("s", "cron => '* * * * * *'");
  EXPECT_EQ(fire("2031-01-01 00:00:30.5+00"), 1);
  EXPECT_EQ(of("last_tick"), "2031-01-01 00:00:30+00");
  add("t", "cron => '* * * 1 2 *', time_zone => 'Europe/Berlin'");
  EXPECT_EQ(fire("2031-01-01 00:00:30.5+00"), 1);
  EXPECT_EQ(of("last_tick", "t"), "2030-02-01 22:59:59+00") << "the last second of the first of February in Berlin";
}

TEST_F(ScheduleFire, SkipLeavesOutWhatIsMoreThanAMinuteLate) {
  add("s", "every => '1 hour', misfire => 'skip'");
  EXPECT_EQ(fire("2030-01-01 01:01:00+00"), 1) << "a minute is in time";
  EXPECT_EQ(fire("2030-01-01 02:01:00.001+00"), 0);
  EXPECT_EQ(fire("2030-01-01 05:30:00+00"), 0);
  EXPECT_EQ(fire("2030-01-01 07:00:05+00"), 1) << "the late one is left out, the one in time is not";
  EXPECT_THAT(history(),
              ElementsAre("fired 01:00:00", "missed 02:00:00", "missed 03:00:00", "missed 06:00:00", "fired 07:00:00"));
}

TEST_F(ScheduleFire, AllFiresLateTicksOldestFirstUpToTheLimit) {
  add("s", "cron => '*/10 * * * *', misfire => 'all', misfire_limit => 3");
  EXPECT_EQ(fire("2030-01-01 00:25:00+00"), 2);
  EXPECT_THAT(history(), ElementsAre("fired 00:10:00", "fired 00:20:00"));
  EXPECT_EQ(fire("2030-01-01 00:50:00+00"), 3);
  EXPECT_EQ(fire("2030-01-01 02:00:00+00"), 3);
  EXPECT_THAT(history(),
              ElementsAre("fired 00:10:00", "fired 00:20:00", "fired 00:30:00", "fired 00:40:00", "fired 00:50:00",
                          "missed 01:00:00", "fired 01:40:00", "fired 01:50:00", "fired 02:00:00"));
  EXPECT_THAT(sql.column("select tick::text from schedule_fire f where job is not null order by job"),
              ::testing::BeginEndDistanceIs(8))
      << "one job a tick";
  EXPECT_TRUE(sql.truth(
      "select array_agg(tick order by job) = array_agg(tick order by tick) from schedule_fire where job is not null"));
}

// -- the clock -------------------------------------------------------------------------------------------------------

TEST_F(ScheduleFire, AClockThatIsSetBackFiresNothingTwice) {
  add("s", "cron => '*/20 * * * *'");
  EXPECT_EQ(fire("2030-01-01 00:20:01+00"), 1);
  EXPECT_EQ(fire("2030-01-01 00:40:01+00"), 1);
  for (auto const* now :
       {"2029-12-31 23:40:01+00", "2030-01-01 00:00:01+00", "2030-01-01 00:20:01+00", "2030-01-01 00:40:01+00"})
    EXPECT_EQ(fire(now), 0) << now;
  EXPECT_EQ(fire("2030-01-01 01:00:01+00"), 1);
  EXPECT_THAT(history(), ElementsAre("fired 00:20:00", "fired 00:40:00", "fired 01:00:00"));
}

TEST_F(ScheduleFire, AClockThatIsSetForwardAndBackFiresEachTickAtMostOnce) {
  add("s", "every => '20 minutes'");
  EXPECT_EQ(fire("2030-01-01 00:20:01+00"), 1);
  EXPECT_EQ(fire("2030-01-01 01:20:01+00"), 1) << "an hour forward: late ticks";
  for (auto const* now :
       {"2030-01-01 00:20:02+00", "2030-01-01 00:40:00+00", "2030-01-01 01:00:00+00", "2030-01-01 01:20:00+00"})
    EXPECT_EQ(fire(now), 0) << now;
  EXPECT_EQ(fire("2030-01-01 01:40:00+00"), 1);
  EXPECT_THAT(history(), ElementsAre("fired 00:20:00", "missed 00:40:00", "fired 01:20:00", "fired 01:40:00"));
}

TEST_F(ScheduleFire, AScheduleMadeAgainDoesNotRepeatATick) {
  add("s", "cron => '0 * * * *'");
  EXPECT_EQ(fire("2030-01-01 01:00:00+00"), 1);
  sql.exec("select remove_schedule('s')");
  add("s", "cron => '0 * * * *'");
  EXPECT_EQ(fire("2030-01-01 01:00:01+00"), 0) << "the clock is back at the tick";
  EXPECT_EQ(fire("2030-01-01 02:00:01+00"), 1);
  EXPECT_EQ(jobs(), 2);
}

// -- overlap ---------------------------------------------------------------------------------------------------------

TEST_F(ScheduleFire, OverlapSkipWaitsForTheEarlierJob) {
  add("s", "every => '1 minute', overlap => 'skip'");
  EXPECT_EQ(fire("2030-01-01 00:01:00+00"), 1);
  EXPECT_EQ(fire("2030-01-01 00:02:00+00"), 0) << "waits";
  Hand worker(sql);
  auto const job = worker.claim(1);
  ASSERT_EQ(job.size(), 1U);
  EXPECT_EQ(fire("2030-01-01 00:03:00+00"), 0) << "runs";
  worker.finish(job[0].token, "1", 0, "[" + move_of(job[0], "retry", 3600000) + "]");
  EXPECT_EQ(fire("2030-01-01 00:04:00+00"), 0) << "waits for its next attempt";
  sql.exec("select retry(id) from deferred");
  auto const again = worker.claim(1);
  ASSERT_EQ(again.size(), 1U);
  worker.finish(again[0].token);
  EXPECT_EQ(fire("2030-01-01 00:05:00+00"), 1);
  EXPECT_THAT(history(), ElementsAre("fired 00:01:00", "skipped 00:02:00", "skipped 00:03:00", "skipped 00:04:00",
                                     "fired 00:05:00"));
  EXPECT_THAT(sql.one("select note from schedule_fire where outcome = 'skipped' limit 1"),
              HasSubstr("is not finished"));
  sql.exec("select cancel(id) from job");
  EXPECT_EQ(fire("2030-01-01 00:06:00+00"), 1) << "a cancelled job is finished";
}

TEST_F(ScheduleFire, OverlapSkipMindsJobsThatWereRunByHand) {
  add("s", "every => '1 minute', overlap => 'skip'");
  sql.exec("select run_schedule('s'); select run_schedule('s')");
  EXPECT_EQ(jobs(), 2) << "by hand always";
  sql.exec("select cancel(max(id)) from job");
  EXPECT_EQ(fire("2030-01-01 00:01:00+00"), 0) << "the older one is not finished";
  sql.exec("select cancel(max(id)) from job");
  EXPECT_EQ(fire("2030-01-01 00:02:00+00"), 1);
}

TEST_F(ScheduleFire, OverlapReplaceCancelsWhatWaitsAndAsksWhatRuns) {
  add("s", "every => '1 minute', overlap => 'replace'");
  EXPECT_EQ(fire("2030-01-01 00:01:00+00"), 1);
  auto const first = sql.number("select last_job from schedule");
  EXPECT_EQ(fire("2030-01-01 00:02:00+00"), 1);
  EXPECT_EQ(state(first), "cancelled");
  Hand worker(sql);
  auto const job = worker.claim(1);
  ASSERT_EQ(job.size(), 1U);
  EXPECT_EQ(fire("2030-01-01 00:03:00+00"), 1);
  EXPECT_EQ(state(job[0].id), "running");
  auto const third = sql.number("select last_job from schedule");
  EXPECT_EQ(fire("2030-01-01 00:04:00+00"), 1);
  EXPECT_EQ(state(third), "cancelled");
  EXPECT_EQ(sql.number("select count(*) from jobs where state = 'available'"), 1);
}

// -- jitter ----------------------------------------------------------------------------------------------------------

TEST_F(ScheduleFire, JitterDelaysEachTickByItsOwnShare) {
  add("s", "every => '1 minute', jitter => '30 seconds'");
  auto const due = of("due_at");
  EXPECT_TRUE(sql.truth("select due_at > next_at and due_at < next_at + interval '30 s' from schedule"));
  EXPECT_EQ(fire("2030-01-01 00:01:00+00"), 0);
  EXPECT_EQ(sql.number("select fire_schedules($1::timestamptz)", due), 1);
  EXPECT_THAT(history(), ElementsAre("fired 00:01:00")) << "the tick itself has no jitter";
  EXPECT_GT(sql.number("select count(distinct schedule_due(s, t) - t) from schedule s, "
                       "generate_series('2030-01-01'::timestamptz, '2030-01-02', '1 minute') t"),
            1000);
  EXPECT_TRUE(
      sql.truth("select bool_and(schedule_due(s, t) - t between '0 s' and '30 s') from schedule s, "
                "generate_series('2030-01-01'::timestamptz, '2030-01-02', '1 minute') t"));
}

TEST_F(ScheduleFire, JitterThatIsLongerThanTheIntervalLosesNoTick) {
  add("s", "every => '1 minute', jitter => '5 minutes'");
  std::int64_t fired = 0;
  for (auto const& now :
       sql.column("select t from generate_series('2030-01-01'::timestamptz, '2030-01-01 01:00:00', '5 s') t"))
    fired += fire(now);
  EXPECT_GE(fired, 50);
  EXPECT_EQ(sql.number("select count(*) from schedule_fire where outcome = 'missed'") + fired,
            sql.number("select count(*) from schedule_fire"));
}

// -- trouble ---------------------------------------------------------------------------------------------------------

TEST_F(ScheduleFire, ABadRowBlocksNoOther) {
  add("bad_kind", "every => '1 minute'");
  add("large", "every => '1 minute'");
  add("s", "every => '1 minute'");
  add("zone", "cron => '* * * * *'");
  sql.exec(
      "update schedule set kind = 'not a name' where name = 'bad_kind'; update schedule set time_zone = 'No/Where' "
      "where name = 'zone'; "
      "update schedule set payload = (select to_jsonb(string_agg(md5(i::text), '')) from generate_series(1, 100000) i) "
      "where name = 'large'; insert into "
      "meta values ('max_payload_bytes', '1000000')");
  EXPECT_EQ(fire("2030-01-01 00:01:00+00"), 1);
  EXPECT_THAT(history(), ElementsAre("fired 00:01:00"));
  EXPECT_THAT(history("bad_kind"), ElementsAre("failed 00:01:00"));
  EXPECT_THAT(history("large"), ElementsAre("failed 00:01:00"));
  EXPECT_THAT(of("last_error", "bad_kind"), HasSubstr("is not a name"));
  EXPECT_THAT(of("last_error", "large"), HasSubstr("payload has"));
  EXPECT_THAT(of("last_error", "zone"), HasSubstr("No/Where"));
  EXPECT_EQ(of("next_at", "bad_kind"), "2030-01-01 00:02:00+00");
  EXPECT_EQ(fire("2030-01-01 00:01:01+00"), 0);
  sql.exec(
      "update schedule set kind = 'k' where name = 'bad_kind'; update schedule set time_zone = 'UTC' where name = "
      "'zone'");
  EXPECT_EQ(fire("2030-01-01 00:06:01+00"), 3);
  EXPECT_EQ(of("last_error", "bad_kind"), "null") << "mended";
  EXPECT_EQ(of("last_error", "zone"), "null");
}

TEST_F(ScheduleFire, WhatTheTransactionOfAFireDoesIsAllOrNothing) {
  add("s", "every => '1 minute'");
  sql.exec("begin");
  EXPECT_EQ(fire("2030-01-01 00:01:00+00"), 1);
  sql.exec("rollback");
  EXPECT_EQ(jobs(), 0);
  EXPECT_THAT(history(), IsEmpty());
  EXPECT_EQ(fire("2030-01-01 00:01:00+00"), 1);
}

TEST_F(ScheduleFire, IsRefusedUnderASnapshotThatStays) {
  sql.exec("begin isolation level repeatable read");
  EXPECT_EQ(sql.sqlstate_of("select fire_schedules()"), "25001");
  sql.exec("rollback");
}

// -- duties ----------------------------------------------------------------------------------------------------------

TEST_F(ScheduleFire, ALeadersRoundFiresAndSaysWhenTheNextIsDue) {
  Hand leader(sql);
  ASSERT_EQ(sql.number("select lead($1::bigint)", leader.id()), 1);
  auto const round = [&](std::string const& key) {
    return sql.number("select (duties($1) ->> $2)::bigint", leader.id(), key);
  };
  EXPECT_EQ(round("next_due_ms"), -1);
  sql.exec("select add_schedule('s', 'k', every => '1 hour')");
  EXPECT_EQ(round("fired"), 0);
  auto const wait = round("next_due_ms");
  EXPECT_GT(wait, 3'000'000);
  EXPECT_LE(wait, 3'600'000);
  sql.exec("update schedule set next_at = next_at - interval '1 hour', due_at = clock_timestamp() - interval '1 s'");
  EXPECT_EQ(round("fired"), 1);
  EXPECT_EQ(jobs(), 1);
  EXPECT_EQ(round("fired"), 0);
}

TEST_F(ScheduleFire, ALeaderThatComesLaterFiresWhatTheDeadOneLeft) {
  Hand first(sql);
  Hand second(sql);
  ASSERT_EQ(sql.number("select lead($1::bigint)", first.id()), 1);
  add("s", "every => '1 second'", "2020-01-01 00:00:00+00");
  auto dead = open();
  auto const backend = dead.number("select pg_backend_pid()");
  dead.exec("begin");
  EXPECT_EQ(dead.number("select (duties($1) ->> 'fired')::bigint", first.id()), 1);
  dead.close();  // killed before its commit
  ASSERT_TRUE(
      eventually([&] { return sql.number("select count(*) from pg_stat_activity where pid = $1", backend) == 0; }));
  EXPECT_EQ(jobs(), 0);
  sql.exec("update leader set at = at - interval '11 s'");
  ASSERT_EQ(sql.number("select lead($1::bigint)", second.id()), 2);
  EXPECT_EQ(sql.number("select (duties($1) ->> 'fired')::bigint", second.id()), 1);
  EXPECT_EQ(jobs(), 1);
}

TEST_F(ScheduleFire, AClockThatIsSetBackKeepsNobodyFromLeadingOrFiring) {
  Hand first(sql);
  Hand second(sql);
  ASSERT_EQ(sql.number("select lead($1::bigint)", first.id()), 1);
  // As if the last renewal had been made an hour from now.
  sql.exec(
      "update leader set at = at + interval '1 hour', since = since + interval '1 hour', promoted_to = now() + "
      "interval '1 hour'");
  sql.exec("select add_schedule('s', 'k', at => clock_timestamp())");
  EXPECT_EQ(sql.number("select (duties($1) ->> 'fired')::bigint", first.id()), 1);
  EXPECT_TRUE(sql.truth("select at <= clock_timestamp() from leader order by id desc limit 1"))
      << "renewed by today's clock";
  sql.exec("update leader set at = at + interval '1 hour'");
  EXPECT_EQ(sql.number("select lead($1::bigint)", second.id()), 2) << "the first may be dead, nobody can tell";
}

TEST_F(ScheduleFire, TheProbeOfARoundUsesTheIndex) {
  sql.exec(
      "insert into schedule (name, kind, every, anchor, next_at, due_at) select 's' || i, 'k', '1 hour', now(), now() "
      "+ interval '1 day', now() + interval '1 day' from generate_series(1, 2000) i");
  auto const plan =
      sql.column("explain select q.due_at from schedule q where q.due_at >= '-infinity' order by q.due_at limit 1");
  EXPECT_THAT(plan, ::testing::Contains(HasSubstr("schedule_due")));
  sql.exec("set enable_seqscan = off");
  EXPECT_THAT(sql.column("explain select * from schedule q where q.due_at >= '-infinity' and q.due_at <= now() order "
                         "by q.due_at limit 1000 for update skip locked"),
              ::testing::Contains(HasSubstr("schedule_due")));
}

}  // namespace
}  // namespace posthouse::test
