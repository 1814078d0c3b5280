// SPDX-License-Identifier: Apache-2.0
// What must be true of limits, rates, keys, dedupe keys, schedules, attempts and results (I8 to I14 of the list in
// docs/internals/tests.md), while sessions are killed in the middle of claims and finishes and workers are lost. Judged
// twice: from what the sessions saw themselves (Record), and from the times that claims and ends leave in the tables (a
// claim's is read under its lock, an end's before its commit, so of what follows one another no two overlap); and the
// tables must say what the sessions saw. And the checks of the checks: a finish without its fence is seen, and so is
// each wrong history.
#include <gmock/gmock.h>

#include <atomic>
#include <map>
#include <set>
#include <thread>

#include "concurrency/invariants_record.hpp"
#include "support/engine.hpp"
#include "support/seed.hpp"

namespace posthouse::test {
namespace {

using namespace std::chrono_literals;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr int sessions = 10;
constexpr int rounds = 60;  ///< of the producer; each makes a job of every sort
constexpr int limit = 3;
constexpr int rate = 60;
constexpr int burst = 2;

/// Keys whose bucket, replayed from what each claim has left in it (the times of claims are read a moment later), was
/// overdrawn or had another number of starts than there were.
std::string const bucket_replay =
    ", q as (select name, tokens, least(2, coalesce(lag(tokens) over w, 2) + "
    "coalesce(extract(epoch from at - lag(at) over w), 0) * 60) - tokens as taken from limit_bucket where scope = "
    "'key_rate' window w as (partition by name order by seq)), "
    "b as (select name, min(tokens) as low, sum(taken) as taken from q group by name), "
    "k as (select 'rated ' || key as name, count(*) as n from c group by key) "
    "select count(*) from b full join k on k.name = b.name where low >= 0 is not true or round(taken, 3) is distinct "
    "from n";

class Invariants : public EngineTest {
 protected:
  /// A session that works until all is done. Losing the connection is part of it.
  void work(Seed::Generator generator, std::atomic<bool> const& done) {
    Seed seed(generator());
    while (!done) {
      Sql session = open();
      std::int64_t worker = 0;
      try {
        Hand hand(session, {.kinds = "{limited,rated,keyed,unique,ticked}"});
        worker = hand.id();
        while (!done) turn(seed, session, hand);
      } catch (std::exception const&) {
        Sql other = open();
        if (worker == 0) continue;
        record_.lost(worker, Record::now());
        expire(other, worker);
      }
    }
  }

  /// One claim and the ends of what it brought, each batch whole; now and then the session dies on the way.
  void turn(Seed& seed, Sql& session, Hand& hand) {
    auto const die = [&] { open().rows("select pg_terminate_backend($1)", session.backend_pid()); };
    bool const killed = seed.chance(0.02);
    if (killed) session.exec("begin");
    auto const asked = Record::now();
    auto const jobs = hand.claim(static_cast<int>(seed.between(1, 4)));
    if (killed) {
      die();
    } else {
      record_.claimed(hand.id(), asked, Record::now(), jobs);
    }
    if (seed.chance(0.02)) throw std::runtime_error("lost with what it holds");
    for (auto it = jobs.begin(); it != jobs.end();) {
      auto const end = std::find_if(it, jobs.end(), [&](Claimed const& job) { return job.token != it->token; });
      std::string moves;
      std::string results;
      std::vector<std::pair<std::int64_t, Record::End>> ends;
      for (auto job = it; job != end; ++job) {
        auto const dice = seed.between(0, 99);
        ends.emplace_back(job->id, dice < 5    ? Record::End::retried
                                   : dice < 12 ? Record::End::put_back
                                               : Record::End::succeeded);
        if (dice < 12) {
          moves += (moves.empty() ? "" : ", ") + move_of(*job, dice < 5 ? "retry" : dice < 9 ? "release" : "snooze");
        } else {
          results += (results.empty() ? "" : ", ") + result_of(*job);
        }
      }
      bool const in_finish = seed.chance(0.02);
      if (in_finish) session.exec("begin");
      auto const sent = Record::now();
      session.rows("select finish($1, $2, $3, '{100}', nullif($4, '')::jsonb, nullif($5, '')::jsonb)", hand.id(),
                   array({it->token}), "{" + std::string(static_cast<std::size_t>(end - it), '1') + "}",
                   moves.empty() ? "" : "[" + moves + "]", results.empty() ? "" : "[" + results + "]");
      if (in_finish) {
        die();
      } else {
        for (auto const& [id, how] : ends) record_.ended(hand.id(), it->token, id, how, sent);
      }
      it = end;
    }
    if (seed.chance(0.2)) {
      bool const in_fire = seed.chance(0.2);
      if (in_fire) session.exec("begin");
      session.rows("select fire_schedules(clock_timestamp() + $1 * interval '1 s')", seed.between(0, 60));
      if (in_fire) die();
    }
  }

  /// What a job brings back follows from its id.
  static std::string result_of(Claimed const& job) {
    return R"({"token": )" + std::to_string(job.token) + R"(, "pos": )" + std::to_string(job.position) + R"(, "id": )" +
           std::to_string(job.id) + R"(, "value": "{\"id\": )" + std::to_string(job.id) + R"(}"})";
  }

  void produce(Seed::Generator generator, std::atomic<bool> const& done) {
    Seed seed(generator());
    for (int i = 0; i < rounds && !done;) {
      Sql session = open();
      try {
        for (; i < rounds && !done; ++i) {
          session.exec("begin");
          session.rows("select enqueue('limited', max_attempts => 90)");
          std::map<std::int64_t, std::string> keys;
          auto const put = [&](char const* statement, std::string const& key) {
            keys[session.number(statement, key)] = key;
          };
          put("select enqueue('rated', key => $1, max_attempts => 90)", i % 2 == 0 ? "a" : "b");
          put("select enqueue('keyed', key => $1, max_attempts => 90)", std::to_string(i % 4));
          put("select enqueue('unique', dedupe_key => $1, max_attempts => 90)", std::to_string(i % 5));
          if (seed.chance(0.1)) open().rows("select pg_terminate_backend($1)", session.backend_pid());
          session.exec("commit");
          for (auto const& [id, key] : keys) record_.enqueued(id, key);
        }
      } catch (SqlError const&) {
        continue;  // that round once more: nothing of it is there
      }
    }
  }

  void lead(std::atomic<bool> const& done) {
    Sql session = open();
    while (!done) {
      session.rows("select promote()");
      session.rows("select reap()");
      session.rows("select note_due_keys('-infinity')");
      session.rows("select tend_keys()");
    }
  }

  /// One row a claim of a job, with the time when it ended.
  static std::string claims_of(std::string const& kind) {
    return "with c as (select i.id, i.key, b.claimed_at as since, b.closed_at as until, b.token, b.worker from batch b "
           "join lane l on l.lane = b.lane cross join unnest(b.ids, b.keys) i(id, key) where l.kind = '" +
           kind + "') ";
  }

  std::int64_t most_at_once(std::string const& kind) {
    return sql.number(claims_of(kind) +
                      "select coalesce(max(n), 0) from (select count(*) as n from c join c o on o.since <= c.since and "
                      "o.until > c.since group by c.id, c.since) q");
  }

  /// The tables against what the sessions saw.
  void expect_the_tables_to_agree() {
    std::set<Record::Member> stored;
    for (auto const& row : sql.rows("select b.worker, b.token, i.id from batch b, unnest(b.ids) i(id)"))
      stored.emplace(std::stoll(*row[0]), std::stoll(*row[1]), std::stoll(*row[2]));
    EXPECT_EQ(stored, record_.members());
    std::map<std::int64_t, int> succeeded;
    for (auto const& row : sql.rows("select id, attempt from jobs where state = 'succeeded'"))
      succeeded.emplace(std::stoll(*row[0]), std::stoi(*row[1]));
    EXPECT_EQ(succeeded, record_.succeeded());
  }

  Record record_;

  /// What a worker that was given up says later, about a job that another one has by now. Every change is a violation.
  std::vector<std::string> zombie() {
    std::vector<std::string> violations;
    for (std::string const outcome : {"retry", "fail", "release", "snooze", "done"}) {
      auto const job = enqueue();
      Hand first(sql);
      // In the express lane, as whatever comes back, so that the lane does not tell the two claims apart.
      auto once = first.claim(1);
      first.finish(once.at(0).token, "1", 1, "[" + move_of(once[0], "release") + "]");
      auto const old = first.claim(1);
      expire(sql, first.id());
      sql.rows("select reap()");
      Hand second(sql);
      auto const now = second.claim(1);
      if (old.size() != 1 || now.size() != 1 || now[0].id != job) {
        violations.push_back(outcome + ": the rescue did not take place");
        continue;
      }
      auto const before = sql.one("select row(j.state, j.attempt, j.worker)::text from jobs j where id = $1", job);
      auto const lost = outcome == "done"
                            ? numbers(sql.column("select unnest(finish($1, $2, '{1}', '{1}', null, $3::jsonb))",
                                                 first.id(), array({old[0].token}), "[" + result_of(old[0]) + "]"))
                            : first.finish(old[0].token, "1", 1, "[" + move_of(old[0], outcome) + "]");
      if (lost != Ids{old[0].token}) violations.push_back(outcome + ": it was not told that its lease is lost");
      auto const after = sql.one("select row(j.state, j.attempt, j.worker)::text from jobs j where id = $1", job);
      if (after != before) violations.push_back(outcome + ": " + before + " became " + after);
      if (sql.number("select count(*) from attempt_error where job = $1 and worker = $2 and message = 'oops'", job,
                     first.id()) != 0) {
        violations.push_back(outcome + ": its error was stored");
      }
      if (sql.number("select count(*) from result where job = $1", job) != 0)
        violations.push_back(outcome + ": its result was stored");
      second.finish(now[0].token);
      if (sql.number("select count(*) from deferred where id = $1", job) != 0)
        violations.push_back(outcome + ": the job runs again after its success");
      sql.exec("delete from deferred");
      first.leave();
      second.leave();
    }
    return violations;
  }
};

TEST_F(Invariants, HoldWhileSessionsAreKilled) {
  Seed seed;
  sql.rows("select set_limit('kind', 'limited', $1)", limit);
  sql.rows("select set_limit('key_rate', 'rated', per_second => $1, burst => $2)", rate, burst);
  sql.rows("select set_limit('key', 'rated', null)");
  sql.exec(
      "select add_schedule('s', 'ticked', every => '1 second', misfire => 'all', misfire_limit => 1000, max_attempts "
      "=> 90)");
  std::atomic<bool> done{false};
  std::vector<std::jthread> threads;
  for (int i = 0; i < sessions; ++i) {
    threads.emplace_back([this, &done, generator = seed.fork()] { work(generator, done); });
  }
  threads.emplace_back([this, &done, generator = seed.fork()] { produce(generator, done); });
  std::jthread leader([&] { lead(done); });
  struct End {
    std::atomic<bool>& done;
    ~End() { done = true; }
  } const end{done};
  Sql observer = open();
  std::int64_t most_unique = 0;
  bool const drained = eventually(
      [&] {
        most_unique =
            std::max(most_unique,
                     observer.number("select coalesce(max(n), 0) from (select count(*) as n from jobs where kind = "
                                     "'unique' and state in ('scheduled', 'available', 'running', 'retryable') group "
                                     "by dedupe_key) q"));
        return observer.number("select count(*) from jobs where kind = 'rated'") == rounds &&
               observer.number("select count(*) from jobs where kind <> 'ticked' and state <> 'succeeded'") == 0;
      },
      120s);
  done = true;
  threads.clear();
  leader.join();
  ASSERT_TRUE(drained);
  // What the killed sessions left, and the ticks that nobody has run yet.
  sql.exec(
      "update heartbeat set at = at - interval '1 hour'; update worker set started_at = started_at - interval '1 "
      "hour', lease = '1 ms' where ended_at is null; select reap()");

  Record::Rules rules{.limit = limit, .rate = rate, .burst = burst};
  for (auto const& row : sql.rows("select lane, kind from lane")) rules.kinds[std::stoll(*row[0])] = *row[1];
  EXPECT_THAT(record_.judge(rules), IsEmpty());
  expect_the_tables_to_agree();
  if (HasFailure()) return;

  EXPECT_GT(sql.number("select count(*) from worker where end_reason = 'lease lapsed'"), 0) << "nothing was lost";
  EXPECT_GT(most_at_once("limited"), 1) << "the limit was never met";

  // I8: no job is claimed while another claim of it is open.
  EXPECT_EQ(
      sql.number("with c as (select i.id, b.claimed_at as since, b.closed_at as until, b.lane, b.seq from batch b, "
                 "unnest(b.ids) i(id)) select count(*) from c join c o on o.id = c.id and (o.lane, o.seq) <> "
                 "(c.lane, c.seq) and o.since <= c.since and o.until > c.since"),
      0);
  // I9: every attempt that was used up has its reason.
  EXPECT_EQ(sql.number("select count(*) from jobs j where j.state = 'succeeded' and j.attempt - 1 <> (select count(*) "
                       "from attempt_error e where e.job = j.id)"),
            0);
  // I10: of a key one at once, in the order in which they were enqueued.
  EXPECT_EQ(sql.number(claims_of("keyed") + "select count(*) from c join c o on o.key = c.key and o.id <> c.id and "
                                            "o.since <= c.since and o.until > c.since"),
            0);
  EXPECT_EQ(sql.number(claims_of("keyed") + "select count(*) from (select id, lag(id) over (partition by key order by "
                                            "since) as before from c) q where id < before"),
            0);
  // I11: never more than the limit; and no more starts of a key than its bucket had.
  EXPECT_LE(most_at_once("limited"), limit);
  EXPECT_EQ(sql.number(claims_of("rated") + bucket_replay), 0);
  // I12
  EXPECT_LE(most_unique, 1);
  // I13: one job a tick, and none is left out.
  EXPECT_EQ(
      sql.number("select count(*) from (select headers ->> 'posthouse.tick' from jobs where kind = 'ticked' group "
                 "by 1 having count(*) > 1) q"),
      0);
  EXPECT_EQ(sql.number("select count(*) - (extract(epoch from max(tick) - min(tick)) + 1)::bigint from schedule_fire"),
            0);
  EXPECT_EQ(sql.number("select count(*) from schedule_fire where outcome <> 'fired' or job is null"), 0);
  // I14: what was acknowledged as succeeded has its result, to the byte.
  EXPECT_EQ(sql.number("select count(*) from jobs j left join result r on r.job = j.id where j.state = 'succeeded' and "
                       "r.value is distinct from jsonb_build_object('id', j.id)"),
            0);
}

TEST_F(Invariants, AWorkerThatWasGivenUpChangesNothing) { EXPECT_THAT(zombie(), IsEmpty()); }

// Without this the test before would prove little: the fence taken out of finish() and of what it calls.
TEST_F(Invariants, AFinishWithoutItsFenceIsSeen) {
  auto const with_fence = sql.column(
      "select pg_get_functiondef(oid) from pg_proc where proname in ('finish', 'apply_moves', 'fenced_moves', "
      "'keep_results', 'fenced_results') and pronamespace = 'posthouse'::regnamespace");
  for (auto const& text : with_fence) {
    sql.exec(sql.one("select regexp_replace($1, '\\m(b|w|q)\\.(closed_at|ended_at) is null', 'true', 'g')", text));
  }
  EXPECT_THAT(zombie(), Not(IsEmpty()));
}

// Each wrong history is seen, and a right one is not.
TEST(InvariantsRecord, SeesWhatIsWrong) {
  Record::Rules const rules{.kinds = {{1, "limited"}, {2, "keyed"}, {3, "rated"}, {4, "unique"}, {5, "ticked"}},
                            .limit = 1,
                            .rate = 1,
                            .burst = 1};
  using End = Record::End;
  struct Step {
    std::int64_t job = 0, lane = 0, got = 0, let_go = 0;
    End end = End::succeeded;
    int attempt = 0;
  };
  auto const verdict = [&](std::vector<Step> const& steps) {
    Record record;
    for (std::int64_t i = 0; auto const& step : steps) {
      ++i;
      record.enqueued(step.job, "key");
      record.claimed(i, step.got - 1, step.got,
                     {{.token = 16, .lane = step.lane, .id = step.job, .attempt = step.attempt}});
      if (step.end == End::lost) record.lost(i, step.let_go);
      if (step.end != End::lost && step.end != End::open) record.ended(i, 16, step.job, step.end, step.let_go);
    }
    return record.judge(rules);
  };
  EXPECT_THAT(verdict({{7, 5, 10, 20, End::retried},
                       {7, 5, 30, 40, End::lost, 1},
                       {7, 5, 50, 60, End::put_back, 2},
                       {7, 5, 70, 80, End::succeeded, 2},
                       {8, 1, 10, 20},
                       {9, 1, 30, 40}}),
              IsEmpty());
  for (std::int64_t const lane_id : {2, 4})
    EXPECT_THAT(verdict({{7, lane_id, 10, 20}, {8, lane_id, 30, 40}}), IsEmpty());
  EXPECT_THAT(verdict({{7, 3, 10, 20}, {8, 3, 2'000'000, 2'000'001}}), IsEmpty());

  EXPECT_THAT(verdict({{7, 5, 10, 40, End::put_back}, {7, 5, 30, 50}}), Not(IsEmpty())) << "I8";
  EXPECT_THAT(verdict({{7, 5, 10, 20}, {7, 5, 30, 40}}), Not(IsEmpty())) << "I8";
  EXPECT_THAT(verdict({{7, 5, 10, 20, End::retried}, {7, 5, 30, 40}}), Not(IsEmpty())) << "I9";
  EXPECT_THAT(verdict({{7, 5, 10, 20, End::put_back}, {7, 5, 30, 40, End::succeeded, 1}}), Not(IsEmpty())) << "I9";
  EXPECT_THAT(verdict({{7, 2, 10, 40}, {8, 2, 30, 50}}), Not(IsEmpty())) << "I10";
  EXPECT_THAT(verdict({{8, 2, 10, 20}, {7, 2, 30, 40}}), Not(IsEmpty())) << "I10";
  EXPECT_THAT(verdict({{7, 1, 10, 40}, {8, 1, 30, 50}}), Not(IsEmpty())) << "I11";
  EXPECT_THAT(verdict({{7, 3, 10, 20}, {8, 3, 30, 40}}), Not(IsEmpty())) << "I11";
  EXPECT_THAT(verdict({{7, 4, 10, 40}, {8, 4, 30, 50}}), Not(IsEmpty())) << "I12";
}

}  // namespace
}  // namespace posthouse::test
