// SPDX-License-Identifier: Apache-2.0
// The pace of keys: rates of each key, and holds by a handler's RetryAfter. Time passes by moving what is in the tables.
#include <gmock/gmock.h>

#include <random>
#include <thread>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

class EngineKeyPace : public EngineTest {
 protected:
  Ids keyed(int n, std::string const& key, std::string const& kind = "k") {
    return numbers(sql.column("select enqueue($1, key => $2) from generate_series(1, $3)", kind, key, n));
  }
  std::int64_t parked() { return sql.number("select count(*) from parked"); }
  Ids next(Hand& hand, int n = 10) { return ids(hand.claim(n)); }
  void close(Hand& hand, std::vector<Claimed> const& jobs) {
    for (auto const& job : jobs) hand.finish(job.token);
  }
  /// So much time passes for buckets and holds, and the leader looks at what is due then.
  std::int64_t pass(std::string const& time) {
    sql.rows("update limit_bucket set at = at - $1::interval where scope = 'key_rate'", time);
    sql.rows("update key_hold set until = until - $1::interval", time);
    sql.rows("update key_due set at = at - $1::interval", time);
    return lead();
  }
  std::int64_t lead() {
    sql.rows("select note_due_keys('-infinity')");
    return sql.number("select tend_keys()");
  }
  static std::string later(Claimed const& job, std::int64_t hold_ms, std::string const& outcome = "retry") {
    auto move = move_of(job, outcome);
    move.insert(move.size() - 1, R"(, "hold_ms": )" + std::to_string(hold_ms));
    return "[" + move + "]";
  }
};

TEST_F(EngineKeyPace, AKeyStartsAsOftenAsItsRateSaysAndOthersPass) {
  Hand hand(sql);
  sql.rows("select set_limit('key_rate', 'k', per_second => 1, burst => 2)");
  sql.rows("select set_limit('key', 'k', null)");
  auto const a = keyed(5, "a");
  auto const b = keyed(1, "b");
  auto const plain = enqueue();
  EXPECT_THAT(next(hand), UnorderedElementsAre(a[0], a[1], b[0], plain));
  EXPECT_EQ(parked(), 3);
  EXPECT_EQ(sql.number("select count(*) from key_due where kind = 'k' and key = 'a' and at > clock_timestamp()"), 1);
  EXPECT_EQ(lead(), 0) << "its time has not come";
  EXPECT_EQ(pass("0.9 s"), 0);
  EXPECT_EQ(pass("0.2 s"), 1);
  EXPECT_EQ(pass("0 s"), 0) << "the token is that of the job that is about to be claimed";
  EXPECT_THAT(next(hand), ElementsAre(a[2]));
  EXPECT_EQ(pass("10 s"), 2) << "as many as the burst";
  EXPECT_THAT(next(hand), ElementsAre(a[3], a[4]));
  auto const late = keyed(1, "a");
  EXPECT_THAT(next(hand), IsEmpty());
  EXPECT_EQ(pass("3 s"), 1);
  EXPECT_THAT(next(hand), ElementsAre(late[0]));
}

// With one job at once it is the end of a job that hands the key on, and the rate that says when.
TEST_F(EngineKeyPace, AFinishHandsOnWhenThereIsATokenElseTheLeaderDoes) {
  Hand hand(sql);
  sql.rows("select set_limit('key_rate', 'k', per_second => 1, burst => 1)");
  auto const a = keyed(3, "a");
  auto const first = hand.claim(10);
  ASSERT_THAT(ids(first), ElementsAre(a[0]));
  close(hand, first);
  EXPECT_THAT(next(hand), IsEmpty());
  EXPECT_EQ(pass("1.1 s"), 1);
  auto const second = hand.claim(10);
  ASSERT_THAT(ids(second), ElementsAre(a[1]));
  EXPECT_EQ(pass("1.1 s"), 0) << "it runs";
  close(hand, second);
  EXPECT_THAT(next(hand), ElementsAre(a[2])) << "a token was there";
}

TEST_F(EngineKeyPace, AnotherAttemptTakesATokenAndKeepsItsPlace) {
  Hand hand(sql);
  sql.rows("select set_limit('key_rate', 'k', per_second => 1, burst => 1)");
  auto const a = keyed(3, "a");
  auto const first = hand.claim(10);
  hand.finish(first.at(0).token, "1", 0, "[" + move_of(first[0], "retry") + "]");
  sql.rows("select promote()");
  EXPECT_THAT(next(hand), IsEmpty());
  EXPECT_EQ(parked(), 3);
  EXPECT_EQ(pass("1.1 s"), 1);
  EXPECT_THAT(next(hand), ElementsAre(a[0])) << "before those that wait for it";
  EXPECT_EQ(sql.number("select attempt from jobs where id = $1", a[0]), 2);
}

TEST_F(EngineKeyPace, ARateThatIsTakenAwayLetsThemGo) {
  Hand hand(sql);
  sql.rows("select set_limit('key_rate', 'k', per_second => 0.001)");
  sql.rows("select set_limit('key', 'k', null)");
  auto const a = keyed(3, "a");
  EXPECT_THAT(next(hand), ElementsAre(a[0]));
  EXPECT_TRUE(sql.truth("select free_at > clock_timestamp() + interval '900 s' from key_of_job($1)", a[1]));
  EXPECT_EQ(sql.one("select per_second from key_of_job($1)", a[1]), "0.001");
  sql.rows("select reset_limit('key_rate', 'k')");
  EXPECT_EQ(sql.number("select tend_keys()"), 2);
  EXPECT_THAT(next(hand), ElementsAre(a[1], a[2]));
  sql.rows("select prune_key_pace(100)");
  EXPECT_EQ(sql.number("select count(*) from limit_bucket"), 0);
}

TEST_F(EngineKeyPace, AClockThatIsSetBackCountsAnew) {
  Hand hand(sql);
  sql.rows("select set_limit('key_rate', 'k', per_second => 1, burst => 1)");
  auto const a = keyed(3, "a");
  auto const first = hand.claim(10);
  sql.exec("update limit_bucket set at = at + interval '1 hour'");
  keyed(1, "a");
  EXPECT_THAT(next(hand), IsEmpty());
  EXPECT_TRUE(sql.truth("select at <= clock_timestamp() from limit_bucket order by seq desc limit 1"));
  close(hand, first);
  EXPECT_EQ(pass("1.1 s"), 1);
  EXPECT_THAT(next(hand), ElementsAre(a[1]));
}

TEST_F(EngineKeyPace, RetryAfterHoldsTheKeyOfItsJobAndNothingElse) {
  Hand hand(sql);
  auto const a = keyed(3, "a");
  auto const b = keyed(2, "b");
  auto const first = hand.claim(10);
  ASSERT_THAT(ids(first), UnorderedElementsAre(a[0], b[0]));
  auto const& of_a = first[0].id == a[0] ? first[0] : first[1];
  std::string acked = "00";
  acked[static_cast<std::size_t>(of_a.position)] = '1';
  hand.finish(of_a.token, acked, 2, later(of_a, 60'000));
  hand.finish(of_a.token, acked, 2, later(of_a, 90'000));
  EXPECT_EQ(sql.number("select count(*) from key_hold"), 1) << "sent again, it changes nothing";
  EXPECT_EQ(sql.number("select count(*) from limit_rule where origin = 'held'"), 0);
  EXPECT_TRUE(
      sql.truth("select held_until between clock_timestamp() + interval '50 s' and clock_timestamp() + "
                "interval '60 s' from key_list() where key = 'a'"));
  hand.finish(of_a.token, "11", 2);
  sql.rows("select promote()");
  EXPECT_THAT(next(hand), ElementsAre(b[1])) << "the other key goes on";
  EXPECT_EQ(parked(), 3) << "the job that was told so, too";
  EXPECT_TRUE(sql.truth("select held_until > clock_timestamp() from key_of_job($1)", a[1]));
  EXPECT_EQ(pass("50 s"), 0);
  EXPECT_EQ(pass("11 s"), 1);
  EXPECT_THAT(next(hand), ElementsAre(a[0])) << "in turn";
  auto const plain = enqueue();
  auto const one = hand.claim(10);
  ASSERT_THAT(ids(one), ElementsAre(plain));
  hand.finish(one[0].token, "1", 1, later(one[0], 1'000));
  EXPECT_EQ(sql.number("select count(*) from limit_rule where origin = 'held'"), 1) << "without a key, the kind";
}

TEST_F(EngineKeyPace, HoldsAreBoundedNeverShortenedAndEndedByResume) {
  Hand hand(sql);
  for (auto const* hold : {"'0'", "'-1 s'", "'61 min'", "null"}) {
    EXPECT_THAT(refusal_of("select hold_key('k', 'a', " + std::string(hold) + "::interval)"), HasSubstr("hold is"));
  }
  EXPECT_THAT(refusal_of("select hold_key('k', '', '1 s')"), HasSubstr("key has 0 bytes"));
  auto const until = sql.one("select hold_key('k', 'a', '10 min')");
  EXPECT_EQ(sql.one("select hold_key('k', 'a', '1 min')"), until);
  auto const a = keyed(2, "a");
  EXPECT_THAT(next(hand), IsEmpty());
  EXPECT_EQ(sql.number("select count(*) from key_list() where key = 'a' and held_until is not null"), 1);
  sql.exec("select resume_key('k', 'a')");
  EXPECT_EQ(lead(), 1);
  EXPECT_THAT(next(hand), ElementsAre(a[0]));
  sql.exec("select hold_key('k', 'z', '1 s'); update key_hold set until = clock_timestamp() - interval '1 s'");
  sql.rows("select prune_key_pace(100)");
  EXPECT_EQ(sql.number("select count(*) from key_hold"), 0);
}

TEST_F(EngineKeyPace, TheLeaderLooksInTime) {
  Hand hand(sql);
  sql.rows("select set_limit('key_rate', 'k', per_second => 0.1, burst => 1)");
  sql.rows("select set_limit('key', 'k', null)");
  keyed(2, "a");
  EXPECT_THAT(next(hand), SizeIs(1));
  ASSERT_GT(sql.number("select lead($1::bigint)", hand.id()), 0);
  auto const due = sql.number("select (duties($1) ->> 'next_due_ms')::bigint", hand.id());
  EXPECT_GT(due, 0);
  EXPECT_LE(due, 10'000);
  sql.exec(
      "update limit_bucket set at = at - interval '11 s'; update key_due set at = clock_timestamp() - interval '1 ms'");
  sql.rows("select duties($1)", hand.id());
  EXPECT_THAT(next(hand), SizeIs(1));
  EXPECT_EQ(sql.number("select (duties($1) ->> 'next_due_ms')::bigint", hand.id()), -1) << "nobody waits";
}

TEST_F(EngineKeyPace, BadLimits) {
  EXPECT_THAT(refusal_of("select set_limit('key_rate', 'k', 2)"), HasSubstr("concurrency is 2 for scope key_rate"));
  EXPECT_THAT(refusal_of("select set_limit('key_rate', 'k', per_second => 0)"), HasSubstr("per_second is 0"));
  EXPECT_THAT(refusal_of("select set_limit('key_rate', 'k', burst => 2)"), HasSubstr("burst is 2"));
  EXPECT_THAT(refusal_of("select set_limit('key', 'k', per_second => 2)"), HasSubstr("Rates are of scope"));
  sql.exec("select declare_limits('[{\"scope\": \"key_rate\", \"name\": \"k\", \"per_second\": 5}]', 'w')");
  EXPECT_EQ(sql.one("select concat_ws(' ', scope, origin, per_second, burst, tokens) from limits"),
            "key_rate declared 5 5");
}

// However many claim and finish at once: in no time more starts than burst + rate * time.
TEST_F(EngineKeyPace, ExactWithManyWorkers) {
  constexpr int sessions = 8;
  auto const seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  sql.rows("select set_limit('key_rate', 'k', per_second => 40, burst => 3)");
  sql.rows("select set_limit('key', 'k', null)");
  keyed(60, "a");
  keyed(60, "b");
  std::atomic<int> left{120};
  std::vector<std::thread> threads;
  for (int i = 0; i < sessions; ++i) {
    threads.emplace_back([&, i] {
      std::mt19937 random(seed + static_cast<unsigned>(i));
      auto own = open();
      Hand hand(own);
      auto const give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
      while (left > 0 && std::chrono::steady_clock::now() < give_up) {
        try {
          auto const jobs = hand.claim(static_cast<int>(random() % 4 + 1));
          std::vector<std::int64_t> tokens;
          for (auto const& job : jobs) {
            --left;
            if (tokens.empty() || tokens.back() != job.token) tokens.push_back(job.token);
          }
          for (auto const token : tokens) hand.finish(token);
          own.rows("select note_due_keys('-infinity')");
          own.rows("select tend_keys()");
        } catch (SqlError const& error) {
          if (error.sqlstate() != "40001" && error.sqlstate() != "40P01") throw;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(left, 0) << "seed " << seed;
  // Each bucket replayed, from what each claim has left in it (the times of claims are read a moment later): never
  // overdrawn, and a token for each start.
  EXPECT_EQ(
      sql.number("with q as (select name, tokens, least(3, coalesce(lag(tokens) over w, 3) + "
                 "coalesce(extract(epoch from at - lag(at) over w), 0) * 40) - tokens as taken from limit_bucket "
                 "where scope = 'key_rate' window w as (partition by name order by seq)), "
                 "b as (select name, min(tokens) as low, sum(taken) as taken from q group by name), "
                 "k as (select 'k ' || u.key as name, count(*) as n from batch b cross join unnest(b.keys) u(key) "
                 "group by 1) select count(*) from b full join k on k.name = b.name "
                 "where low >= 0 is not true or round(taken, 3) is distinct from n"),
      0)
      << "seed " << seed;
}

}  // namespace
}  // namespace posthouse::test
