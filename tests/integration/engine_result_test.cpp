// SPDX-License-Identifier: Apache-2.0
// Results in SQL: stored with the ack and fenced like it, dropped with a reason when they cannot be stored, pruned.
#include <gmock/gmock.h>

#include "store/json_text.hpp"
#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class EngineResult : public EngineTest {
 protected:
  static std::string value_of(Claimed const& job, std::string const& json) {
    std::string text;
    for (char const c : json) {
      if (c == '"' || c == '\\') text += '\\';
      text += c;
    }
    return R"({"token": )" + std::to_string(job.token) + R"(, "pos": )" + std::to_string(job.position) + R"(, "id": )" +
           std::to_string(job.id) + R"(, "value": ")" + text + R"("})";
  }
  /// Acks as Hand::finish does, with results.
  Ids finish(Sql& session, Hand const& worker, std::int64_t token, std::string const& acked, std::string const& results,
             std::string const& moves = {}) {
    return numbers(session.column("select unnest(finish($1, $2, $3, '{9}', nullif($5, '')::jsonb, $4))", worker.id(),
                                  array({token}), "{" + acked + "}", "[" + results + "]", moves));
  }
  std::string result(std::int64_t id) {
    return sql.one("select coalesce((select result::text from outcome($1)), 'none')", id);
  }
  std::string outcome_state(std::int64_t id) { return sql.one("select state from outcome($1)", id); }
};

TEST_F(EngineResult, CommitsWithItsAckAndOnlyThen) {
  auto const id = enqueue();
  Hand worker(sql);
  auto const job = worker.claim(1).at(0);
  auto session = open();
  session.exec("begin");
  EXPECT_THAT(finish(session, worker, job.token, "null", value_of(job, "[1]")), IsEmpty());
  EXPECT_EQ(outcome_state(id), "running");
  EXPECT_EQ(result(id), "none");
  session.exec("rollback");
  EXPECT_EQ(outcome_state(id), "running");
  EXPECT_EQ(result(id), "none");
  EXPECT_THAT(finish(session, worker, job.token, "null", value_of(job, "[2]")), IsEmpty());
  EXPECT_EQ(outcome_state(id), "succeeded");
  EXPECT_EQ(result(id), "[2]");
}

TEST_F(EngineResult, GoesWithAClaimToo) {
  auto const id = enqueue();
  auto const next = enqueue("k");
  Hand worker(sql);
  auto const job = worker.claim(1).at(0);
  auto const got = sql.column("select id from finish_and_claim($1, $2, '{null}', '{1}', null, 100, $3, 1, 1, $4)",
                              worker.id(), array({job.token}), array({lane()}), "[" + value_of(job, "7") + "]");
  EXPECT_THAT(numbers(got), ElementsAre(next));
  EXPECT_EQ(result(id), "7");
}

TEST_F(EngineResult, ColumnsSayWhatObjectsDo) {
  std::string every;
  for (char c = 1; c < 127; ++c) every += c;
  every += "\x7f ☃ 𝄞 NULL {,}";
  store::JsonColumns columns{"token", "pos", "id", "value", "bytes", "problem"};
  std::vector<std::string> const texts{"{\"a\": \"\\\\ \\\" \"}", "", "null", every};
  for (std::size_t i = 0; i < texts.size(); ++i) {
    columns.add(0, std::int64_t{16});
    columns.add(1, static_cast<std::int64_t>(i));
    columns.add(2, static_cast<std::int64_t>(i) + 100);
    if (i != 1) columns.add(3, texts[i]);
    if (i == 1) columns.add_base64(4, every);
    if (i == 3) columns.add(5, every);
    columns.end_row();
  }
  EXPECT_THAT(sql.column("select value from result_rows($1) where value is not null order by pos", columns.object()),
              ElementsAre(texts[0], texts[2], texts[3]));
  EXPECT_EQ(sql.one("select convert_from(decode(bytes, 'base64'), 'UTF8') from result_rows($1) where pos = 1",
                    columns.object()),
            every);
  EXPECT_EQ(sql.one("select problem from result_rows($1) where pos = 3", columns.object()), every);
  EXPECT_EQ(sql.one("select string_agg(token || ' ' || pos || ' ' || id, ',' order by pos) from result_rows($1)",
                    columns.object()),
            "16 0 100,16 1 101,16 2 102,16 3 103");

  enqueue_some(3);
  Hand worker(sql);
  auto const jobs = worker.claim(3);
  auto const list = [&](auto const& of) {
    return R"("{)" + std::to_string(of(jobs[0])) + "," + std::to_string(of(jobs[1])) + "," +
           std::to_string(of(jobs[2])) + R"(}")";
  };
  auto const facts = R"({"token": )" + list([](Claimed const& job) { return job.token; }) + R"(, "pos": )" +
                     list([](Claimed const& job) { return job.position; }) + R"(, "id": )" +
                     list([](Claimed const& job) { return job.id; });
  sql.rows("select finish($1, $2, '{null}', '{9}', null, $3)", worker.id(), array({jobs[0].token}),
           facts + R"(, "value": "{1,NULL,NULL}", "problem": "{NULL,NULL,none}"})");
  EXPECT_EQ(result(jobs[0].id), "1");
  EXPECT_EQ(sql.one("select string_agg(problem, ',') from result"), "none");
  EXPECT_EQ(sql.number("select count(*) from result"), 2) << "of the one in the middle nothing was said";

  enqueue_some(3);
  auto const others = worker.claim(3);
  auto const moved =
      R"({"token": "{)" + std::to_string(others[0].token) + "," + std::to_string(others[1].token) +
      R"(}", "pos": "{0,2}", "id": "{)" + std::to_string(others[0].id) + "," + std::to_string(others[2].id) +
      R"(}", "outcome": "{retry,release}", "delay_ms": "{5000,0}", "message": "{\"a \\\"b\\\"\",NULL}"})";
  EXPECT_THAT(worker.finish(others[0].token, "101", 9, moved), IsEmpty());
  EXPECT_EQ(sql.one("select state || ' ' || id from deferred"), "retryable " + std::to_string(others[0].id));
  EXPECT_EQ(sql.one("select string_agg(job || ' ' || message, ',') from attempt_error"),
            std::to_string(others[0].id) + " a \"b\"");
  EXPECT_THAT(ids(worker.claim(3)), ElementsAre(others[2].id));
}

TEST_F(EngineResult, AJobThatHasAResultAlreadyGetsTheNewOne) {
  auto const id = enqueue();
  Hand worker(sql);
  auto const job = worker.claim(1).at(0);
  sql.rows("insert into result (job, value) values ($1, '0')", id);
  EXPECT_THAT(finish(sql, worker, job.token, "null", value_of(job, "1")), IsEmpty());
  EXPECT_EQ(result(id), "1");
}

TEST_F(EngineResult, AResentAckChangesNothing) {
  enqueue_some(3);
  Hand worker(sql);
  auto const jobs = worker.claim(3);
  auto const token = jobs.at(0).token;
  finish(sql, worker, token, "101", value_of(jobs[0], "1") + "," + value_of(jobs[2], "3"));
  finish(sql, worker, token, "101", value_of(jobs[0], "1") + "," + value_of(jobs[2], "3"));
  // A member that has ended has the result that it ended with, whoever says what later.
  finish(sql, worker, token, "111", value_of(jobs[0], "99") + "," + value_of(jobs[1], "2"));
  finish(sql, worker, token, "null", value_of(jobs[1], "98"));
  EXPECT_THAT(sql.column("select value from result order by job"), ElementsAre("1", "2", "3"));
}

TEST_F(EngineResult, TwoSendingsAtOnceStoreOne) {
  auto const id = enqueue();
  Hand worker(sql);
  auto const job = worker.claim(1).at(0);
  auto first = open();
  auto second = open();
  first.exec("begin");
  finish(first, worker, job.token, "null", value_of(job, "1"));
  auto later = beside(second, "select finish(" + std::to_string(worker.id()) + ", '{" + std::to_string(job.token) +
                                  "}', '{null}', '{1}', null, '[" + value_of(job, "2") + "]')");
  EXPECT_TRUE(waits_for_lock(sql, second.backend_pid()));
  first.exec("commit");
  EXPECT_EQ(later.get(), "{}");
  EXPECT_EQ(result(id), "1");
}

TEST_F(EngineResult, AStaleWorkerStoresNothing) {
  auto const id = enqueue();
  Hand stale(sql);
  auto const old = stale.claim(1).at(0);
  expire(sql, stale.id());
  EXPECT_EQ(sql.number("select reap()"), 1);
  EXPECT_THAT(finish(sql, stale, old.token, "null", value_of(old, "\"stale\"")), ElementsAre(old.token));
  EXPECT_EQ(outcome_state(id), "available");
  EXPECT_EQ(sql.number("select count(*) from result"), 0);

  Hand other(sql);
  auto const job = other.claim(1).at(0);
  ASSERT_EQ(job.id, id);
  EXPECT_THAT(finish(sql, stale, old.token, "null", value_of(old, "\"stale\"")), ElementsAre(old.token));
  EXPECT_EQ(outcome_state(id), "running");
  finish(sql, other, job.token, "null", value_of(job, "\"right\""));
  EXPECT_THAT(finish(sql, stale, old.token, "null", value_of(old, "\"stale\"")), ElementsAre(old.token));
  EXPECT_EQ(result(id), "\"right\"");
}

// The reaper leaves a job alone whose completion is still open; its dead worker may not say more of it.
TEST_F(EngineResult, ADeadWorkerStoresNothingInABatchThatStaysOpen) {
  auto const id = enqueue();
  Hand stale(sql);
  auto const old = stale.claim(1).at(0);
  auto own = open();
  own.exec("begin");
  EXPECT_TRUE(stale.complete(own, old));
  expire(sql, stale.id());
  EXPECT_EQ(sql.number("select reap()"), 0);
  EXPECT_EQ(sql.number("select count(*) from batch where worker = $1 and closed_at is null", stale.id()), 1);
  EXPECT_THAT(finish(sql, stale, old.token, "null", value_of(old, "1")), ElementsAre(old.token));
  EXPECT_EQ(sql.number("select count(*) from result"), 0);
  own.exec("rollback");
  EXPECT_EQ(sql.number("select reap()"), 1);
  EXPECT_EQ(outcome_state(id), "available");
}

TEST_F(EngineResult, OnlyForMembersThatTheAckIsOf) {
  auto const ids = enqueue_some(2);
  Hand worker(sql);
  auto const jobs = worker.claim(2);
  auto wrong = jobs[0];
  wrong.id = jobs[1].id;
  auto beyond = jobs[0];
  beyond.position = 7;
  auto elsewhere = jobs[1];
  elsewhere.token += 1000;
  finish(sql, worker, jobs[0].token, "10",
         value_of(wrong, "1") + "," + value_of(beyond, "2") + "," + value_of(elsewhere, "3"));
  EXPECT_EQ(sql.number("select count(*) from result"), 0);
  EXPECT_EQ(outcome_state(ids[0]), "succeeded");
  EXPECT_EQ(outcome_state(ids[1]), "running");
}

TEST_F(EngineResult, OneThatCannotBeStoredKeepsNobodyFromEnding) {
  auto const ids = enqueue_some(5);
  Hand worker(sql);
  auto const jobs = worker.claim(5);
  EXPECT_THAT(
      finish(sql, worker, jobs[0].token, "null",
             value_of(jobs[0], "1") + "," + value_of(jobs[1], R"("\u0000")") + "," + value_of(jobs[2], "{broken") +
                 "," + value_of(jobs[3], "1e999999") + "," + value_of(jobs[4], "5")),
      IsEmpty());
  for (auto const id : ids) EXPECT_EQ(outcome_state(id), "succeeded");
  EXPECT_EQ(result(ids[0]), "1");
  EXPECT_EQ(result(ids[4]), "5");
  for (int i = 1; i <= 3; ++i) {
    EXPECT_EQ(result(ids.at(i)), "none");
    EXPECT_THAT(sql.one("select result_problem from outcome($1)", ids.at(i)), HasSubstr("refused"));
  }
}

TEST_F(EngineResult, KeepsBytesAndNumbersExactly) {
  auto const ids = enqueue_some(2);
  Hand worker(sql);
  auto const jobs = worker.claim(2);
  sql.rows(
      "select finish($1, array[$2::bigint], '{null}', '{2}', null, jsonb_build_array(jsonb_build_object('token', "
      "$2::bigint, 'pos', 0, 'id', $3::bigint, 'bytes', encode((select string_agg(set_byte('x', 0, i), '' order by i) "
      "from generate_series(0, 255) i), 'base64')), jsonb_build_object('token', $2::bigint, 'pos', 1, 'id', "
      "$4::bigint, 'value', '[123456789012345678901234567890.50, \"☃\\u00e9\"]')))",
      worker.id(), jobs[0].token, jobs[0].id, jobs[1].id);
  EXPECT_TRUE(
      sql.truth("select result_bytes = (select string_agg(set_byte('x', 0, i), '' order by i) from generate_series(0, "
                "255) i) and "
                "length(result_bytes) = 256 from outcome($1)",
                ids[0]));
  EXPECT_EQ(result(ids[1]), "[123456789012345678901234567890.50, \"☃é\"]");
}

TEST_F(EngineResult, ARetriedJobHasThatOfItsLastAttempt) {
  auto const id = enqueue();
  Hand worker(sql);
  auto const first = worker.claim(1).at(0);
  // A failed attempt has none, even if it is sent.
  finish(sql, worker, first.token, "null", value_of(first, "\"no\""), "[" + move_of(first, "retry") + "]");
  sql.rows("select retry($1)", id);
  auto const second = worker.claim(1).at(0);
  EXPECT_EQ(second.attempt, 1);
  finish(sql, worker, second.token, "null", value_of(second, "\"yes\""));
  EXPECT_EQ(result(id), "\"yes\"");
}

TEST_F(EngineResult, CompletionStoresItInTheHandlersTransaction) {
  auto const id = enqueue();
  Hand worker(sql);
  auto const job = worker.claim(1).at(0);
  auto own = open();
  auto const complete = [&](Sql& session, std::string const& value) {
    return session.truth("select complete_with($1, $2, $3, $4, $5, null, null)", worker.id(), job.token, job.position,
                         job.id, value);
  };
  own.exec("begin");
  EXPECT_TRUE(complete(own, "1"));
  own.exec("rollback");
  EXPECT_EQ(outcome_state(id), "running");
  EXPECT_EQ(result(id), "none");
  own.exec("begin");
  EXPECT_TRUE(complete(own, "2"));
  own.exec("commit");
  EXPECT_EQ(outcome_state(id), "succeeded");
  EXPECT_EQ(result(id), "2");
  EXPECT_FALSE(complete(own, "3"));
  EXPECT_EQ(result(id), "2");
  worker.finish(job.token);
  EXPECT_EQ(result(id), "2");

  enqueue();
  auto const lost = worker.claim(1).at(0);
  expire(sql, worker.id());
  sql.rows("select reap()");
  EXPECT_FALSE(own.truth("select complete_with($1, $2, $3, $4, '9', null, null)", worker.id(), lost.token,
                         lost.position, lost.id));
  EXPECT_EQ(result(lost.id), "none");
}

TEST_F(EngineResult, OutcomeTellsEveryState) {
  Hand worker(sql);
  auto const id = enqueue();
  auto const scheduled = sql.number("select enqueue('k', delay => '1 hour')");
  auto const cancelled = enqueue("other");
  sql.rows("select cancel($1)", cancelled);
  EXPECT_EQ(outcome_state(id), "available");
  auto const job = worker.claim(1).at(0);
  EXPECT_EQ(outcome_state(id), "running");
  worker.finish(job.token, std::nullopt, 1, "[" + move_of(job, "retry", 3'600'000) + "]");
  EXPECT_EQ(outcome_state(id), "retryable");
  EXPECT_EQ(sql.one("select error from outcome($1)", id), sql.one("select last_error from jobs where id = $1", id));
  sql.rows("select retry($1)", id);
  auto const again = worker.claim(1).at(0);
  worker.finish(again.token, std::nullopt, 1, "[" + move_of(again, "fail") + "]");
  EXPECT_THAT(sql.column("select id || ' ' || state from outcome($1, $2, 999, $3, $1)", id, scheduled, cancelled),
              ElementsAre(std::to_string(id) + " failed", std::to_string(scheduled) + " scheduled", "999 not_found",
                          std::to_string(cancelled) + " cancelled", std::to_string(id) + " failed"));
  EXPECT_THAT(sql.column("select state from outcome(variadic '{}')"), IsEmpty());
}

TEST_F(EngineResult, OutcomeAgreesWithTheView) {
  enqueue_some(40);
  Hand worker(sql);
  auto const first = worker.claim(10);
  worker.finish(first.at(0).token);
  auto const second = worker.claim(10);
  worker.finish(second.at(0).token, "1101000000", 10, "[" + move_of(second.at(3), "snooze", 60000) + "]");
  worker.complete(sql, second.at(5));
  Hand gone(sql);
  gone.claim(5, 2);
  expire(sql, gone.id());
  sql.rows("select reap()");
  EXPECT_THAT(sql.column("select j.id from jobs j, outcome(j.id) o where o.state is distinct from j.state"), IsEmpty());
  EXPECT_EQ(sql.number("select count(distinct state) from jobs"), 4);
}

TEST_F(EngineResult, AreKeptForTheirOwnTime) {
  auto const ids = enqueue_some(3);
  Hand worker(sql);
  auto const jobs = worker.claim(3);
  finish(sql, worker, jobs[0].token, "null",
         value_of(jobs[0], "1") + "," + value_of(jobs[1], "2") + "," + value_of(jobs[2], "3"));
  sql.rows("update result set at = at - interval '23 hours' where job = $1", ids[0]);
  sql.rows("update result set at = at - interval '25 hours' where job = $1", ids[1]);
  sql.rows("select prune()");
  EXPECT_THAT(sql.column("select job from result order by 1"),
              ElementsAre(std::to_string(ids[0]), std::to_string(ids[2])));
  EXPECT_EQ(outcome_state(ids[1]), "succeeded");
  sql.exec("insert into meta values ('retention_results', '1 hour')");
  sql.rows("select prune()");
  EXPECT_THAT(sql.column("select job from result"), ElementsAre(std::to_string(ids[2])));
  EXPECT_EQ(sql.number("select count(*) from job"), 3);
}

TEST_F(EngineResult, OutlivesItsJobWhenItIsKeptLonger) {
  auto const id = enqueue();
  Hand worker(sql);
  auto const job = worker.claim(1).at(0);
  finish(sql, worker, job.token, "null", value_of(job, "1"));
  sql.exec("delete from job");
  EXPECT_EQ(outcome_state(id), "succeeded");
  EXPECT_EQ(result(id), "1");
  sql.exec("delete from result");
  EXPECT_EQ(outcome_state(id), "not_found");
}

class EngineProgress : public EngineResult {
 protected:
  void report(Hand const& worker, Claimed const& job, double fraction, std::string const& text) {
    sql.rows(
        "select report_progress($1, jsonb_build_array(jsonb_build_object('token', $2::bigint, 'pos', $3::int, "
        "'id', $4::bigint, 'fraction', $5::real, 'text', $6::text)))",
        worker.id(), job.token, job.position, job.id, fraction, text);
  }
  std::string progress(std::int64_t id) {
    return sql.one("select coalesce(progress || ' ' || progress_text, 'none') from outcome($1)", id);
  }
};

TEST_F(EngineProgress, TheNewestCountsWhileTheJobRuns) {
  auto const id = enqueue();
  Hand worker(sql);
  auto const job = worker.claim(1).at(0);
  EXPECT_EQ(progress(id), "none");
  report(worker, job, 0.25, "a");
  report(worker, job, 0.5, "b");
  EXPECT_EQ(progress(id), "0.5 b");
  worker.finish(job.token);
  EXPECT_EQ(progress(id), "none");
  report(worker, job, 0.75, "late");
  EXPECT_EQ(sql.one("select text from progress"), "b");
  sql.rows("select prune()");
  EXPECT_EQ(sql.number("select count(*) from progress"), 1) << "a minute old at least";
  sql.exec("update progress set at = at - interval '2 minutes'");
  sql.rows("select prune()");
  EXPECT_EQ(sql.number("select count(*) from progress"), 0);
}

TEST_F(EngineProgress, IsThatOfTheAttemptThatRuns) {
  auto const id = enqueue();
  Hand stale(sql);
  auto const old = stale.claim(1).at(0);
  report(stale, old, 0.9, "old");
  expire(sql, stale.id());
  EXPECT_EQ(sql.number("select reap()"), 1);
  Hand other(sql);
  auto const job = other.claim(1).at(0);
  ASSERT_EQ(job.id, id);
  EXPECT_EQ(progress(id), "none");
  report(other, job, 0.1, "new");
  report(stale, old, 0.95, "older still");
  EXPECT_EQ(progress(id), "0.1 new");
  // However long it runs without a word, what a running job has said stays.
  sql.exec("update progress set at = at - interval '1 day'");
  sql.rows("select prune()");
  EXPECT_EQ(progress(id), "0.1 new");
}

// Tables that were never analysed, and many rows: by index, in every table.
TEST_F(EngineResult, OutcomeReadsByIndexAlone) {
  sql.exec(
      "insert into job (lane) select open_lane('k') from generate_series(1, 20000); "
      "insert into result (job, value) select i, '1' from generate_series(1, 20000) i");
  sql.exec("begin; set local track_functions = 'none'");
  auto const scans = [&] {
    return sql.number(
        "select coalesce(sum(pg_stat_get_xact_tuples_returned(c.oid)), 0) from pg_class c where c.relnamespace = "
        "'posthouse'::regnamespace and c.relkind = 'r'");
  };
  auto const before = scans();
  sql.rows("select * from outcome(17, 19000)");
  EXPECT_LT(scans() - before, 100);
  sql.exec("commit");
}

}  // namespace
}  // namespace posthouse::test
