// SPDX-License-Identifier: Apache-2.0
// Cron texts: what is accepted, what an error says, and every tick against a walker that goes minute by minute through
// the local time that the C library tells, as Debian's cron does.
#include <gmock/gmock.h>

#include <cstdlib>
#include <ctime>
#include <set>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ScheduleCron : public EngineTest {
 protected:
  ScheduleCron() { sql.exec("set timezone = 'UTC'"); }
  /// The masks as text.
  std::string masks(std::string const& cron) { return sql.one("select cron_masks($1)::text", cron); }
  /// Message and hint of the refusal.
  std::string refusal(std::string const& cron) {
    try {
      sql.rows("select cron_masks($1)", cron);
    } catch (SqlError const& error) {
      EXPECT_EQ(error.sqlstate(), "22023");
      return error.what();
    }
    return "accepted";
  }
  /// Local times of the next n ticks.
  std::vector<std::string> local(std::string const& cron, std::string const& zone, std::string const& from, int n) {
    return sql.column("select local_time from preview_cron($1, $2, $3, $4)", cron, zone, n, from);
  }
  std::vector<std::string> ticks(std::string const& cron, std::string const& zone, std::string const& from, int n) {
    return sql.column("select to_char(tick, 'MM-DD HH24:MI:SS') from preview_cron($1, $2, $3, $4)", cron, zone, n,
                      from);
  }
};

TEST_F(ScheduleCron, FieldsAreNumbersNamesRangesStepsAndLists) {
  EXPECT_EQ(masks("0 0 1 1 0"), masks("00 00 01 jan sun"));
  EXPECT_EQ(masks("0 0 * * 7"), masks("0 0 * * sun"));
  EXPECT_EQ(masks("0 0 * * mon-fri"), masks("0 0 * * 1,2,3,4,5"));
  EXPECT_EQ(masks("0 0 * * fri-sun"), masks("0 0 * * 5-7"));
  EXPECT_EQ(masks("0 0 * JAN-Mar,dec *"), masks("0 0 * 1,2,3,12 *"));
  EXPECT_EQ(masks("1-10/3 0 * * *"), masks("1,4,7,10 0 * * *"));
  EXPECT_EQ(masks(" \t0  0 * * * "), masks("0 0 * * *"));
  EXPECT_EQ(masks("0 5 4 * * *"), masks("5 4 * * *")) << "seconds stand first";
  EXPECT_NE(masks("*/20 0 * * *"), masks("0,20,40 0 * * *")) << "the same times, but the first goes by real time";
  EXPECT_EQ(masks("@hourly"), masks("0 * * * *"));
  EXPECT_EQ(masks("@daily"), masks("0 0 * * *"));
  EXPECT_EQ(masks("@Midnight"), masks("0 0 * * *"));
  EXPECT_EQ(masks("@weekly"), masks("0 0 * * 0"));
  EXPECT_EQ(masks("@monthly"), masks("0 0 1 * *"));
  EXPECT_EQ(masks("@yearly"), masks("0 0 1 1 *"));
  EXPECT_EQ(masks("@annually"), masks("0 0 1 1 *"));
}

TEST_F(ScheduleCron, AnErrorNamesTheFieldTheValueAndWhatIsAllowed) {
  EXPECT_THAT(refusal("61 * * * *"), HasSubstr("cron '61 * * * *': minute is '61'"));
  EXPECT_THAT(refusal("61 * * * *"), HasSubstr("minute is * or numbers 0 to 59"));
  EXPECT_THAT(refusal("0 24 * * *"), HasSubstr("hour is '24'"));
  EXPECT_THAT(refusal("0 0 0 * *"), HasSubstr("day of month is '0'"));
  EXPECT_THAT(refusal("0 0 32 * *"), HasSubstr("day of month is '32'"));
  EXPECT_THAT(refusal("0 0 * 13 *"), HasSubstr("month is '13'"));
  EXPECT_THAT(refusal("0 0 * foo *"), HasSubstr("numbers 1 to 12 or jan to dec"));
  EXPECT_THAT(refusal("0 0 * * 8"), HasSubstr("day of week is '8'"));
  EXPECT_THAT(refusal("0 0 * * jan"), HasSubstr("day of week is 'jan'"));
  EXPECT_THAT(refusal("60 0 0 * * *"), HasSubstr("second is '60'"));
  EXPECT_THAT(refusal("0 0 * * fri-mon"), HasSubstr("day of week ends before it begins: 'fri-mon'"));
  EXPECT_THAT(refusal("*/0 * * * *"), HasSubstr("minute has a step out of range: '*/0'"));
  EXPECT_THAT(refusal("*/60 * * * *"), HasSubstr("a step of 1 to 59"));
  EXPECT_THAT(refusal("5/10 * * * *"), HasSubstr("minute has a step but no range: '5/10'"));
  EXPECT_THAT(refusal("0 0 30 2 *"), HasSubstr("day of month '30' is in none of the months '2'"));
  EXPECT_THAT(refusal("0 0 31 4,6,9,11 *"), HasSubstr("in none of the months"));
  for (auto const* text : {"", " ", "*", "* * * *", "* * * * * * *", "@reboot", "@every 5m", "1;2 * * * *"}) {
    EXPECT_THAT(refusal(text), HasSubstr("posthouse: cron")) << text;
  }
  for (auto const* item :
       {"1,,2", ",1", "1,", "1-", "-1", "1--2", "1-2-3", "*/", "/2", "**", "*,a", "0x1", "1.5", "9999", "l", "?"}) {
    EXPECT_THAT(refusal(std::string(item) + " * * * *"), HasSubstr("minute ")) << item;
  }
  EXPECT_THAT(refusal(std::string(2000, '1')), HasSubstr("cron is"));
  EXPECT_EQ(sql.sqlstate_of("select cron_masks(null)"), "22023");
}

TEST_F(ScheduleCron, ZonesAreIanaNamesAlone) {
  for (auto const* zone : {"UTC", "Europe/Berlin", "Etc/GMT+5", "America/Argentina/Buenos_Aires"}) {
    EXPECT_EQ(sql.sqlstate_of(std::string("select check_time_zone('") + zone + "')"), "") << zone;
  }
  // Abbreviations have no summer time, POSIX rules their sign turned round.
  for (auto const* zone :
       {"CET", "EST", "Europe/Foo", "Europe/Foo3", "FOO+3", "europe/berlin", "+01:00", "", "posix/UTC"}) {
    EXPECT_EQ(sql.sqlstate_of(std::string("select check_time_zone('") + zone + "')"), "22023") << zone;
  }
}

TEST_F(ScheduleCron, DayAndWeekdayAreEitherUnlessOneBeginsWithAStar) {
  EXPECT_THAT(local("0 0 13 * fri", "UTC", "2026-02-01T00:00Z", 4),
              ElementsAre("2026-02-06 00:00:00", "2026-02-13 00:00:00", "2026-02-20 00:00:00", "2026-02-27 00:00:00"));
  EXPECT_THAT(local("0 0 */2 * fri", "UTC", "2026-02-01T00:00Z", 3),
              ElementsAre("2026-02-13 00:00:00", "2026-02-27 00:00:00", "2026-03-13 00:00:00"));
  EXPECT_THAT(local("0 12 29 2 *", "UTC", "2096-03-01T00:00Z", 2),
              ElementsAre("2104-02-29 12:00:00", "2108-02-29 12:00:00"));
  EXPECT_THAT(local("0 0 29 2 */7", "Europe/Berlin", "2072-03-01T00:00Z", 2),
              ElementsAre("2088-02-29 00:00:00", "2128-02-29 00:00:00"));
  EXPECT_THAT(local("30 59 23 31 12 *", "UTC", "2026-01-01T00:00Z", 1), ElementsAre("2026-12-31 23:59:30"));
  EXPECT_THAT(local("*/20 * * * * *", "UTC", "2026-01-01 00:00:19.999Z", 3),
              ElementsAre("2026-01-01 00:00:20", "2026-01-01 00:00:40", "2026-01-01 00:01:00"));
}

TEST_F(ScheduleCron, FixedTimesRunOnceWhenClocksChange) {
  // Skipped: right after the change, once for several. Repeated: the first time.
  EXPECT_THAT(ticks("0,30 2 * * *", "Europe/Berlin", "2026-03-28T02:00Z", 3),
              ElementsAre("03-29 01:00:00", "03-30 00:00:00", "03-30 00:30:00"));
  EXPECT_THAT(ticks("30 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00Z", 2),
              ElementsAre("03-29 01:00:00", "03-29 01:30:00"));
  EXPECT_THAT(ticks("0 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00Z", 2),
              ElementsAre("03-29 01:00:00", "03-30 00:00:00"));
  EXPECT_THAT(ticks("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00Z", 2),
              ElementsAre("10-25 00:30:00", "10-26 01:30:00"));
  EXPECT_THAT(ticks("30 2 * * *", "Europe/Berlin", "2026-10-25T01:05Z", 1), ElementsAre("10-26 01:30:00"))
      << "asked in the repeated hour";
  EXPECT_THAT(ticks("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00Z", 1), ElementsAre("10-03 15:30:00"))
      << "half an hour is skipped";
  EXPECT_THAT(ticks("0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00Z", 1), ElementsAre("12-29 22:00:00"))
      << "that day did not exist in 2011";
  EXPECT_THAT(local("0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00Z", 1), ElementsAre("2012-12-30 12:00:00"));
}

TEST_F(ScheduleCron, StarsGoByRealTime) {
  EXPECT_THAT(ticks("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:10Z", 3),
              ElementsAre("03-29 00:30:00", "03-29 01:00:00", "03-29 01:30:00"));
  EXPECT_THAT(ticks("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:10Z", 4),
              ElementsAre("10-25 00:30:00", "10-25 01:00:00", "10-25 01:30:00", "10-25 02:00:00"));
  EXPECT_THAT(ticks("*/30 2 * * *", "Europe/Berlin", "2026-03-28T02:00Z", 1), ElementsAre("03-30 00:00:00"))
      << "the hour did not exist";
}

// -- the walker ------------------------------------------------------------------------------------------------------

/// Goes through the minutes like Debian's cron: real time, and a virtual time that fixed jobs wait for.
class Walker {
 public:
  explicit Walker(std::string const& zone) {
    if (char const* old = std::getenv("TZ")) old_ = old;
    ::setenv("TZ", zone.c_str(), 1);
    ::tzset();
  }
  Walker(Walker const&) = delete;
  Walker& operator=(Walker const&) = delete;
  ~Walker() {
    if (old_) {
      ::setenv("TZ", old_->c_str(), 1);
    } else {
      ::unsetenv("TZ");
    }
    ::tzset();
  }

  struct Job {
    std::set<int> minutes, hours, days, months, weekdays;
    bool wild = false;  ///< minute or hour is a star
    bool both = true;   ///< day and weekday must match
    std::vector<std::int64_t> ticks{};

    [[nodiscard]] bool matches(std::tm const& t) const {
      if (!minutes.contains(t.tm_min) || !hours.contains(t.tm_hour) || !months.contains(t.tm_mon + 1)) return false;
      bool const day = days.contains(t.tm_mday), weekday = weekdays.contains(t.tm_wday);
      return both ? day && weekday : day || weekday;
    }
  };

  /// Minutes since 1970 of the local clock.
  static std::int64_t clock(std::tm const& t) {
    std::tm copy = t;
    return ::timegm(&copy) / 60;
  }

  /// Ticks in [from, to), which are whole minutes. Begins four hours early, so that it knows of a change just before.
  static void walk(std::int64_t from, std::int64_t to, std::vector<Job>& jobs) {
    auto const at = [](std::int64_t time) {
      std::tm t{};
      ::localtime_r(&time, &t);
      return t;
    };
    auto const begin = from - 4 * 3600;
    auto virtual_time = clock(at(begin - 60));
    for (auto now = begin; now < to; now += 60) {
      auto const t = at(now);
      auto const real = clock(t);
      auto const ahead = real - virtual_time;
      auto const fire = [&](Job& job, std::tm const& shown) {
        if (now >= from && job.matches(shown) && (job.ticks.empty() || job.ticks.back() != now))
          job.ticks.push_back(now);
      };
      if (ahead == 1 || ahead > 180 || ahead <= -180) {  // as ever, or too large a change to be summer time
        for (auto& job : jobs) fire(job, t);
        virtual_time = real;
      } else if (ahead > 1) {  // skipped: what is fixed runs now
        for (auto& job : jobs) {
          if (job.wild) fire(job, t);
        }
        while (virtual_time < real) {
          std::time_t const shown = ++virtual_time * 60;
          std::tm missed{};
          ::gmtime_r(&shown, &missed);
          for (auto& job : jobs) {
            if (!job.wild) fire(job, missed);
          }
        }
      } else {  // repeated: what is fixed has run
        for (auto& job : jobs) {
          if (job.wild) fire(job, t);
        }
      }
    }
  }

 private:
  std::optional<std::string> old_{};
};

std::set<int> range(int from, int to, int step = 1) {
  std::set<int> values;
  for (int i = from; i <= to; i += step) values.insert(i);
  return values;
}

struct Text {
  std::string cron;
  Walker::Job job;
};

/// The fields of the walker are written by hand: it shares no parser either.
std::vector<Text> texts() {
  auto const all = [](std::set<int> minutes, std::set<int> hours, bool wild) {
    return Walker::Job{.minutes = std::move(minutes),
                       .hours = std::move(hours),
                       .days = range(1, 31),
                       .months = range(1, 12),
                       .weekdays = range(0, 6),
                       .wild = wild};
  };
  auto monthly = all({59}, {23}, false);
  monthly.days = {1, 31};
  auto either = all({30}, {1, 2}, false);
  either.days = {30};
  either.weekdays = {0};
  either.both = false;
  auto month = all({15}, {3}, false);
  month.months = {3, 4, 10, 11, 12};
  return {{"*/15 * * * *", all(range(0, 59, 15), range(0, 23), true)},
          {"7 * * * *", all({7}, range(0, 23), true)},
          {"*/20 2 * * *", all(range(0, 59, 20), {2}, true)},
          {"0 */2 * * *", all({0}, range(0, 22, 2), true)},
          {"0 0 * * *", all({0}, {0}, false)},
          {"30 2 * * *", all({30}, {2}, false)},
          {"0,10,45 1-3 * * *", all({0, 10, 45}, {1, 2, 3}, false)},
          {"59 23 1,31 * *", monthly},
          {"30 1,2 30 * sun", either},
          {"15 3 * 3,4,10-12 *", month}};
}

class ScheduleZones : public ScheduleCron, public ::testing::WithParamInterface<char const*> {
 protected:
  /// Compares every tick in [from, to); returns how many there were.
  std::size_t compare(std::int64_t from, std::int64_t to) {
    auto const cases = texts();
    std::vector<Walker::Job> jobs;
    for (auto const& one : cases) jobs.push_back(one.job);
    {
      Walker const walker(GetParam());
      Walker::walk(from, to, jobs);
    }
    std::size_t total = 0;
    for (std::size_t i = 0; i < cases.size(); ++i) {
      // One statement an interval: each tick from the one before it.
      auto const found = numbers(sql.column(
          "with recursive t(at) as (select cron_next(cron_masks($1), $2, to_timestamp($3::bigint) - interval '1 s') "
          "union all select cron_next(cron_masks($1), $2, at) from t where at < to_timestamp($4::bigint)) "
          "select extract(epoch from at)::bigint from t where at < to_timestamp($4::bigint)",
          cases[i].cron, GetParam(), from, to));
      total += found.size();
      if (found == jobs[i].ticks) continue;
      auto const [ours, walked] = std::mismatch(found.begin(), found.end(), jobs[i].ticks.begin(), jobs[i].ticks.end());
      ADD_FAILURE() << GetParam() << ", " << cases[i].cron << ": " << (ours == found.end() ? 0 : *ours)
                    << " differs from " << (walked == jobs[i].ticks.end() ? 0 : *walked) << ", the walker's";
    }
    return total;
  }
};

constexpr std::int64_t start_2010 = 1262304000;
constexpr std::int64_t end_2055 = 2713910400;
constexpr std::int64_t day = 86400;

TEST_P(ScheduleZones, EveryTickAroundAChangeIsTheWalkers) {
  // Every change in years before and after 2037, where tables of times end and rules take over.
  std::vector<std::int64_t> changes;
  {
    Walker const walker(GetParam());
    auto const offset = [](std::int64_t time) {
      std::tm t{};
      ::localtime_r(&time, &t);
      return t.tm_gmtoff;
    };
    for (auto time = start_2010; time < end_2055; time += day / 2) {
      auto const year = (time - start_2010) / (365 * day);
      if (year > 3 && year != 16 && year != 27 && year != 28 && year < 43) continue;
      if (offset(time) != offset(time + day / 2)) changes.push_back(time / day * day);
    }
  }
  std::size_t total = 0;
  for (auto const change : changes) total += compare(change - day, change + 2 * day);
  total += compare(start_2010 + 16 * 365 * day, start_2010 + 16 * 365 * day + 40 * day);
  EXPECT_GT(total, 5000U);
}

TEST_P(ScheduleZones, EveryTickFrom2010To2055IsTheWalkers) {
  if (std::getenv("POSTHOUSE_TEST_LONG") == nullptr) GTEST_SKIP() << "with scripts/test --long";
  std::size_t total = 0;
  sql.exec("set statement_timeout = 0");
  for (auto from = start_2010; from < end_2055; from += 1000 * day)
    total += compare(from, std::min(from + 1000 * day, end_2055));
  EXPECT_GT(total, 2'000'000U);
}

INSTANTIATE_TEST_SUITE_P(Zones, ScheduleZones,
                         ::testing::Values("Europe/Berlin", "America/New_York", "America/St_Johns",
                                           "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia",
                                           "Asia/Kathmandu"),
                         [](auto const& zone) {
                           std::string name = zone.param;
                           std::erase_if(name, [](char c) { return c == '/' || c == '_'; });
                           return name;
                         });

}  // namespace
}  // namespace posthouse::test
