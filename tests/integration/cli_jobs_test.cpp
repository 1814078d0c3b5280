// SPDX-License-Identifier: Apache-2.0
// install to uninstall, enqueue, jobs and stats on a real database.
#include <algorithm>
#include <boost/json.hpp>

#include "integration/cli_fixture.hpp"

namespace posthouse::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class CliJobs : public CliDatabaseTest {
 protected:
  boost::json::array listing(std::vector<std::string> arguments, int status = 0) {
    arguments.emplace_back("--json");
    auto const ran = run(std::move(arguments));
    EXPECT_EQ(ran.status, status) << ran.err;
    return boost::json::parse(ran.out).as_array();
  }
};

TEST_F(CliJobs, SchemaComesAndGoes) {
  std::string const name = "we\"ird'; drop table x; --";
  EXPECT_EQ(run({"stats", "--schema", name}).status, 1);
  EXPECT_THAT(run({"stats", "--schema", name}).err, HasSubstr("posthouse install"));
  EXPECT_EQ(run({"upgrade", "--schema", name}).status, 1);
  EXPECT_EQ(run({"install", "--schema", name}).status, 0);
  EXPECT_THAT(run({"install", "--schema", name}).out, HasSubstr("up to date"));
  EXPECT_EQ(run({"upgrade", "--schema", name}).status, 0);
  EXPECT_EQ(run({"verify", "--schema", name}).status, 0);
  EXPECT_EQ(run({"uninstall", "--schema", name}).status, 2) << "without --yes";
  EXPECT_EQ(run({"uninstall", "--schema", name, "--yes"}).status, 0);
  EXPECT_EQ(run({"stats", "--schema", name}).status, 1);
}

TEST_F(CliJobs, VerifyFindsWhatWasChanged) {
  EXPECT_EQ(run({"verify"}).status, 0);
  sql.exec("drop index posthouse.deferred_due");
  auto const ran = run({"verify"});
  EXPECT_EQ(ran.status, 3);
  EXPECT_THAT(ran.out, HasSubstr("deferred_due"));
  EXPECT_FALSE(listing({"verify"}, 3).empty());
}

TEST_F(CliJobs, EnqueueTakesEveryOption) {
  auto const ran = run({"enqueue", "mail", R"({"to": 42})", "--queue", "out", "--priority", "-5", "--delay", "5m",
                        "--header", "trace=a=b", "--header", "tenant=7", "--max-attempts", "3"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  auto const id = chomp(ran.out);
  EXPECT_EQ(state(id), "scheduled");
  auto const job = listing({"jobs", "show", id}).at(0).as_object();
  EXPECT_EQ(job.at("id").as_string(), id);
  EXPECT_EQ(job.at("queue").as_string(), "out");
  EXPECT_EQ(job.at("priority").as_int64(), -5);
  EXPECT_EQ(job.at("max_attempts").as_int64(), 3);
  EXPECT_EQ(job.at("headers").at("trace").as_string(), "a=b");
  EXPECT_EQ(job.at("headers").at("tenant").as_string(), "7");
  EXPECT_THAT(std::string(job.at("enqueued_at").as_string()),
              ::testing::MatchesRegex("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}Z"));
  EXPECT_THAT(std::string(job.at("explanation").as_string()), HasSubstr("in 4m 5"));
}

TEST_F(CliJobs, ShowAndListSayTheKey) {
  auto const with = chomp(run({"enqueue", "k", "--key", "account:7"}).out);
  auto const later = chomp(run({"enqueue", "k", "--key", "account:8", "--delay", "1h"}).out);
  auto const without = chomp(run({"enqueue", "k"}).out);
  EXPECT_EQ(listing({"jobs", "show", with}).at(0).as_object().at("key"), "account:7");
  EXPECT_EQ(listing({"jobs", "show", later}).at(0).as_object().at("key"), "account:8");
  EXPECT_TRUE(listing({"jobs", "show", without}).at(0).as_object().at("key").is_null());
  EXPECT_THAT(run({"jobs", "show", with}).out, HasSubstr("\nkey          account:7\n"));
  EXPECT_THAT(run({"jobs", "show", without}).out, Not(HasSubstr("\nkey ")));
  std::map<std::string, boost::json::value> keys;
  for (auto const& job : listing({"jobs", "list"})) {
    keys[std::string(job.as_object().at("id").as_string())] = job.as_object().at("key");
  }
  EXPECT_EQ(keys.at(with), "account:7");
  EXPECT_EQ(keys.at(later), "account:8");
  EXPECT_TRUE(keys.at(without).is_null());
}

TEST_F(CliJobs, EnqueueWithAKeyOrAToken) {
  auto const first =
      run({"enqueue", "k", "1", "--dedupe-key", "a", "--dedupe-scope", "until_claimed", "--dedupe-window", "1h"});
  ASSERT_EQ(first.status, 0) << first.err;
  auto const id = chomp(first.out);
  auto const again = run({"enqueue", "k", "2", "--dedupe-key", "a"});
  EXPECT_EQ(again.status, 0);
  EXPECT_EQ(chomp(again.out), id);
  EXPECT_THAT(again.err, HasSubstr("job " + id + " has the dedupe key"));
  auto const object = listing({"enqueue", "k", "2", "--dedupe-key", "a"}).at(0).as_object();
  EXPECT_EQ(object.at("status").as_string(), "duplicate");
  EXPECT_EQ(object.at("id").as_string(), id);
  auto const refused = run({"enqueue", "k", "2", "--dedupe-key", "a", "--on-duplicate", "error"});
  EXPECT_NE(refused.status, 0);
  EXPECT_THAT(refused.err, HasSubstr("has the dedupe_key 'a'"));
  EXPECT_EQ(listing({"jobs", "show", id}).at(0).as_object().at("dedupe_key").as_string(), "a");
  EXPECT_THAT(run({"jobs", "show", id}).out, HasSubstr("dedupe key   a"));
  EXPECT_EQ(sql.one("select scope from posthouse.unique_key where until > now()"), "until_claimed");

  std::string const token = "0190b3a4-5c6d-4e7f-8a9b-0c1d2e3f4a5b";
  auto const made = run({"enqueue", "k", "1", "--token", token});
  EXPECT_EQ(run({"enqueue", "k", "1", "--token", token}).out, made.out);
  auto const other = run({"enqueue", "k", "2", "--token", token});
  EXPECT_NE(other.status, 0);
  EXPECT_THAT(other.err, HasSubstr("has enqueued another job: " + chomp(made.out)));
  auto const replaced = run({"enqueue", "k", "3", "--dedupe-key", "a", "--on-duplicate", "replace"});
  EXPECT_EQ(chomp(replaced.out), id);
  EXPECT_THAT(replaced.err, HasSubstr("has the dedupe key: replaced"));
  EXPECT_EQ(sql.one("select payload from posthouse.jobs where id = $1", id), "3");
  auto const pushed = listing({"enqueue", "k", "--dedupe-key", "a", "--on-duplicate", "reschedule", "--delay", "1h"});
  EXPECT_EQ(pushed.at(0).as_object().at("status").as_string(), "rescheduled");
  EXPECT_EQ(sql.one("select concat_ws(' ', payload, state) from posthouse.jobs where id = $1", id), "3 scheduled");
  EXPECT_EQ(run({"enqueue", "k", "--dedupe-key", "a", "--on-duplicate", "reschedule"}).status, 2);
  for (std::vector<std::string> const& bad :
       std::vector<std::vector<std::string>>{{"enqueue", "k", "--token", "x"},
                                             {"enqueue", "k", "--dedupe-key", ""},
                                             {"enqueue", "k", "--dedupe-key", "a", "--dedupe-scope", "ever"},
                                             {"enqueue", "k", "--dedupe-key", "a", "--on-duplicate", "swap"},
                                             {"enqueue", "k", "--dedupe-window", "1h"},
                                             {"enqueue", "k", "--lines", "--dedupe-key", "a"}}) {
    EXPECT_EQ(run(bad).status, 2) << bad.back();
  }
}

TEST_F(CliJobs, PayloadsArriveAsTheyAre) {
  for (auto const* text : {"{}", "[]", "null", "-5", "1e400", "\"\"", R"({"big": 12345678901234567890.123456789})"}) {
    auto const ran = run({"enqueue", "k", "--", text});
    ASSERT_EQ(ran.status, 0) << text << ran.err;
    EXPECT_TRUE(sql.truth("select payload = $2::jsonb from posthouse.jobs where id = $1", chomp(ran.out), text))
        << text;
  }
  auto const none = run({"enqueue", "k"});
  EXPECT_TRUE(sql.truth("select payload is null from posthouse.jobs where id = $1", chomp(none.out)));
  std::string const raw("a\0\xff\n", 4);
  auto const bytes = run({"enqueue", "k", "--raw", "-"}, raw);
  EXPECT_TRUE(sql.truth("select payload_bytes = '\\x6100ff0a' from posthouse.jobs where id = $1", chomp(bytes.out)));
  EXPECT_EQ(run({"enqueue", "k", "-"}, "{\"from\": \"stdin\"}\n").status, 0);
  EXPECT_EQ(run({"enqueue", "k", ""}).status, 2);
  EXPECT_EQ(run({"enqueue", "k", "text"}).status, 2);
  EXPECT_THAT(run({"enqueue", "k", "text"}).err, HasSubstr("quotes of its own"));
  EXPECT_EQ(run({"enqueue", "k", "-"}, std::string(2'000'000, '1')).status, 2);
}

TEST_F(CliJobs, LinesAreAllOrNone) {
  std::string input;
  for (int i = 0; i < 25'000; ++i) input += "{\"n\": " + std::to_string(i) + "}\n";
  auto const ran = run({"enqueue", "bulk", "--lines"}, input);
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 25'000);
  EXPECT_EQ(sql.number("select count(distinct (payload ->> 'n')::int) from posthouse.jobs where kind = 'bulk'"),
            25'000);
  // The first id printed is that of the first line.
  EXPECT_EQ(sql.one("select payload ->> 'n' from posthouse.jobs where id = $1", ran.out.substr(0, ran.out.find('\n'))),
            "0");

  auto const bad = run({"enqueue", "other", "--lines"}, input + "{\"n\": }\n");
  EXPECT_EQ(bad.status, 2);
  EXPECT_THAT(bad.err, HasSubstr("line 25001: "));
  EXPECT_EQ(bad.out, "");
  EXPECT_EQ(sql.number("select count(*) from posthouse.jobs where kind = 'other'"), 0);

  EXPECT_THAT(run({"enqueue", "other", "--lines"}, "1\n\n2\n").err, HasSubstr("line 2: "));
  EXPECT_THAT(run({"enqueue", "other", "--lines"}, "1\n" + std::string(3'000'000, '1')).err,
              HasSubstr("line 2: payload has more than 1048576 bytes"));
  EXPECT_EQ(run({"enqueue", "other", "--lines"}, "").out, "");
  EXPECT_EQ(run({"enqueue", "other", "{}", "--lines"}, "1\n").status, 2);
  auto const json = boost::json::parse(run({"enqueue", "late", "--lines", "--json", "--delay", "1h"}, "1\n2").out);
  EXPECT_EQ(json.as_array().size(), 2U);
  EXPECT_EQ(sql.number("select count(*) from posthouse.jobs where kind = 'late' and state = 'scheduled'"), 2);
}

TEST_F(CliJobs, BadOptionsNameThemselves) {
  EXPECT_THAT(run({"enqueue", "k", "--delay", "soon"}).err, HasSubstr("--delay is \"soon\""));
  EXPECT_THAT(run({"enqueue", "k", "--run-at", "tomorrow"}).err, HasSubstr("--run-at is \"tomorrow\""));
  EXPECT_THAT(run({"enqueue", "k", "--header", "novalue"}).err, HasSubstr("NAME=VALUE"));
  EXPECT_THAT(run({"enqueue", "bad kind"}).err, HasSubstr("kind is \"bad kind\""));
  EXPECT_EQ(run({"enqueue", "k", "--max-attempts", "0"}).status, 2);
  EXPECT_EQ(sql.number("select count(*) from posthouse.jobs"), 0);
}

TEST_F(CliJobs, ListFiltersAndPages) {
  sql.exec(
      "select posthouse.enqueue('a', queue => 'q' || i) from generate_series(1, 3) i;"
      "select posthouse.enqueue('b', delay => '1 hour')");
  EXPECT_EQ(listing({"jobs", "list"}).size(), 4U);
  EXPECT_EQ(listing({"jobs", "list", "--kind", "a"}).size(), 3U);
  EXPECT_EQ(listing({"jobs", "list", "--state", "scheduled"}).size(), 1U);
  EXPECT_EQ(listing({"jobs", "list", "--queue", "q2"}).size(), 1U);
  auto const page = listing({"jobs", "list", "--limit", "2"});
  auto const last = std::string(page.at(1).at("id").as_string());
  EXPECT_EQ(listing({"jobs", "list", "--before", last}).size(), 2U);
  EXPECT_EQ(run({"jobs", "list", "--state", "odd"}).status, 2);
  EXPECT_EQ(run({"jobs", "list", "--limit", "0"}).status, 2);
  EXPECT_EQ(run({"jobs", "list", "--before", "x"}).status, 2);
  EXPECT_THAT(run({"jobs", "list", "--kind", "none"}).out, HasSubstr("No such jobs"));
}

TEST_F(CliJobs, CancelRetryDelete) {
  auto const id = chomp(run({"enqueue", "k"}).out);
  EXPECT_EQ(run({"jobs", "cancel", id}).status, 0);
  EXPECT_EQ(state(id), "cancelled");
  auto const again = run({"jobs", "cancel", id, "999"});
  EXPECT_EQ(again.status, 1);
  EXPECT_THAT(again.err, HasSubstr("job 999: there is no such job"));
  EXPECT_EQ(run({"jobs", "retry", id}).status, 0);
  EXPECT_EQ(state(id), "available");
  EXPECT_EQ(run({"jobs", "delete", id}).status, 0);
  EXPECT_EQ(run({"jobs", "show", id}).status, 1);
  EXPECT_EQ(run({"jobs", "show", "zero"}).status, 2);
}

TEST_F(CliJobs, ShowSaysWhyAJobDoesNotRun) {
  auto const id = chomp(run({"enqueue", "k"}).out);
  EXPECT_THAT(run({"jobs", "show", id}).out, HasSubstr("No worker is alive"));
  sql.exec("select posthouse.pause_queue('default')");
  EXPECT_THAT(run({"jobs", "show", id}).out, HasSubstr("The queue default is paused"));
  sql.exec("select posthouse.resume_queue('default')");
  auto const config = folder.write("other.yaml", "kinds: {other: {exec: [/bin/true]}}\n");
  auto worker = start({"work", "--config", config, "--log-level", "info"});
  ASSERT_TRUE(worker.said("worker started")) << worker.errors();
  EXPECT_THAT(run({"jobs", "show", id}).out, HasSubstr("None of the 1 live workers has a handler for the kind k"));
  worker.terminate();
  EXPECT_EQ(worker.wait(), 0);
}

TEST_F(CliJobs, HostileTextDoesNotSteerTheTerminal) {
  sql.exec(
      R"(select posthouse.enqueue('k', '{"x": "\u001b]0;owned\u0007 \u202e"}', headers => '{"h": "\u001b[31m"}'))");
  auto const id = sql.one("select id from posthouse.jobs");
  auto const config = folder.write("h.yaml",
                                   "kinds: {k: {exec: [/bin/sh, -c, \"printf '\\\\033[2Jboom' >&2; exit 1\"], "
                                   "max_attempts: 1}}\n");
  EXPECT_EQ(run({"work", "--config", config, "--once"}).status, 0);
  EXPECT_EQ(state(id), "failed");
  for (auto const& arguments : std::vector<std::vector<std::string>>{{"jobs", "show", id}, {"jobs", "list"}}) {
    auto const ran = run(arguments);
    EXPECT_THAT(ran.out, Not(HasSubstr("\x1b")));
    EXPECT_THAT(ran.out, Not(HasSubstr("\u202e")));
    EXPECT_THAT(ran.out, HasSubstr("boom"));
  }
  EXPECT_THAT(run({"jobs", "show", id, "--json"}).out, Not(HasSubstr("\x1b")));
}

TEST_F(CliJobs, WaitTellsResultsAndItsStatusHowTheyEnded) {
  auto const config = folder.write("w.yaml",
                                   "max_result_bytes: 20\n"
                                   "kinds:\n"
                                   "  echo: {exec: [/bin/cat]}\n"
                                   "  loud: {exec: [/bin/sh, -c, 'printf 0123456789012345678901234567890']}\n"
                                   "  fails: {exec: [/bin/sh, -c, 'echo why >&2; exit 1'], max_attempts: 1}\n");
  auto const echo = chomp(run({"enqueue", "echo", R"({"n": 1.50})"}).out);
  auto const raw = chomp(run({"enqueue", "echo", "--raw", "-"}, std::string("\0\xff\n", 3)).out);
  auto const loud = chomp(run({"enqueue", "loud"}).out);
  auto const fails = chomp(run({"enqueue", "fails"}).out);
  auto const early = run({"jobs", "wait", echo, "--timeout", "10ms"});
  EXPECT_EQ(early.status, 5);
  EXPECT_THAT(early.err, HasSubstr("job " + echo + ": has not ended, it is available"));

  auto waiter = start({"jobs", "wait", echo, raw, loud, "--json"});
  EXPECT_EQ(run({"work", "--config", config, "--once"}).status, 0);
  EXPECT_EQ(waiter.wait(std::chrono::seconds(60)), 0) << waiter.errors();
  auto const got = boost::json::parse(waiter.output()).as_array();
  ASSERT_EQ(got.size(), 3U);
  EXPECT_EQ(boost::json::serialize(got[0].at("result")), R"({"n":1.5E0})");
  EXPECT_THAT(waiter.output(), HasSubstr(R"({"n": 1.50})"));
  EXPECT_TRUE(got[0].at("result_problem").is_null());
  EXPECT_EQ(got[1].at("result_bytes").as_string(), R"(\x00ff0a)");
  EXPECT_EQ(got[2].at("result_bytes").as_string(), R"(\x3031323334353637383930313233343536373839)");
  EXPECT_THAT(std::string(got[2].at("result_problem").as_string()), HasSubstr("31 bytes; the first 20 are kept"));

  auto const failed = run({"jobs", "wait", fails, echo});
  EXPECT_EQ(failed.status, 1);
  EXPECT_THAT(failed.out, HasSubstr("job " + fails + ": failed: "));
  EXPECT_THAT(failed.out, HasSubstr("why"));
  EXPECT_THAT(failed.out, HasSubstr("job " + echo + R"(: succeeded: {"n": 1.50})"));
  EXPECT_EQ(run({"jobs", "wait", "999"}).status, 1);
  EXPECT_EQ(run({"jobs", "wait", "zero"}).status, 2);
  EXPECT_EQ(run({"jobs", "wait", echo, "--timeout", "soon"}).status, 2);
  environment["POSTHOUSE_DATABASE_URL"] = "host=/nonexistent dbname=x";
  EXPECT_EQ(run({"jobs", "wait", echo}).status, 4);
  environment["POSTHOUSE_DATABASE_URL"] = database.url();

  EXPECT_THAT(run({"jobs", "show", echo}).out, HasSubstr(R"(result       {"n": 1.50})"));
  auto const shown = listing({"jobs", "show", raw}).at(0).as_object();
  EXPECT_EQ(shown.at("result_bytes").as_string(), R"(\x00ff0a)");
  EXPECT_TRUE(shown.at("result").is_null());
}

TEST_F(CliJobs, StatsCount) {
  EXPECT_THAT(run({"stats"}).out, HasSubstr("There are no jobs yet"));
  sql.exec(
      "select posthouse.enqueue('a') from generate_series(1, 1200); select posthouse.enqueue('b', delay => '1 hour')");
  auto const text = run({"stats"}).out;
  EXPECT_THAT(text, HasSubstr("1,200"));
  EXPECT_THAT(text, Not(HasSubstr("\x1b"))) << "no colours where there is no terminal";
  auto const counts = listing({"stats"});
  ASSERT_EQ(counts.size(), 2U);
  EXPECT_EQ(counts.at(0).at("jobs").as_int64(), 1200);
}

TEST_F(CliJobs, FullOutputIsAnError) {
  environment["SHELL_PROGRAM"] = posthouse_program();
  ChildProcess child({.argv = {"/bin/sh", "-c", "\"$SHELL_PROGRAM\" stats > /dev/full"}, .environment = environment});
  EXPECT_EQ(child.wait(), 1);
  EXPECT_THAT(child.errors(), HasSubstr("cannot write to standard output"));
}

}  // namespace
}  // namespace posthouse::test
