// SPDX-License-Identifier: Apache-2.0
// The producer: payloads that come back exactly, refusals before anything is sent, all or none in bulk, what is in
// doubt.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <thread>

#include <posthouse/client.hpp>

#include "core/time_format.hpp"
#include "store/admin.hpp"
#include "support/engine.hpp"
#include "support/tcp_gate.hpp"

namespace posthouse::test {
namespace {

using namespace std::chrono_literals;
using std::chrono::system_clock;
using ::testing::HasSubstr;

class ClientTest : public EngineTest {
 protected:
  [[nodiscard]] JobInfo job(std::int64_t id) {
    auto found = client.find(id);
    EXPECT_TRUE(found) << id;
    return found.value_or(JobInfo{});
  }

  Client client{{.database = options()}};
};

template <class Call>
std::string refusal(Call call) {
  try {
    call();
  } catch (InvalidArgument const& error) {
    return error.what();
  }
  ADD_FAILURE() << "not refused";
  return {};
}

TEST_F(ClientTest, JsonComesBackEqualWithAllItsDigits) {
  std::string const text =
      R"({"big": 123456789012345678901234567890.123456789012345678901234567890, "esc": "\"\\/\b\f\n\r\t\u20ac☃𝄞", "n": null, "a": [1e-30, true, {}]})";
  auto const outcome = client.enqueue("k", json{text});
  EXPECT_EQ(outcome.status, EnqueueStatus::created);
  JobInfo const found = job(outcome.id);
  EXPECT_TRUE(found.payload.is_json());
  EXPECT_TRUE(sql.truth("select $1::jsonb = $2::jsonb and $1::jsonb::text = $2::jsonb::text",
                        std::string(found.payload.data()), text));
  EXPECT_THAT(std::string(found.payload.data()),
              HasSubstr("123456789012345678901234567890.123456789012345678901234567890"));
}

TEST_F(ClientTest, TheHookIsAroundEveryEnqueue) {
  std::vector<std::string> seen;
  enum class Do { proceed, nothing, twice, refuse } what = Do::proceed;
  Client hooked{{.database = options(), .around = [&](Enqueueing const& call, std::function<void()> const& next) {
                   seen.push_back(std::string(call.kind) + " " + std::to_string(call.jobs));
                   if (what == Do::refuse) throw std::runtime_error("not today");
                   if (what != Do::nothing) next();
                   if (what == Do::twice) next();
                 }}};
  auto const jobs = [&] { return sql.number("select count(*) from job"); };
  EXPECT_EQ(job(hooked.enqueue("one").id).kind, "one");
  EXPECT_EQ(hooked.enqueue_many("many", std::vector<Payload>(3, json{"1"})).size(), 3U);
  EXPECT_EQ(hooked.enqueue_many(std::vector<Request>{{"a"}, {"b"}}).size(), 2U);
  EXPECT_THAT(seen, ::testing::ElementsAre("one 1", "many 3", "a 2"));
  EXPECT_EQ(jobs(), 6);
  what = Do::nothing;
  EXPECT_THAT(refusal([&] { hooked.enqueue("one"); }), HasSubstr("did not call next: nothing was enqueued"));
  what = Do::refuse;
  EXPECT_THROW(hooked.enqueue("one"), std::runtime_error);
  EXPECT_EQ(jobs(), 6);
  what = Do::twice;
  EXPECT_THAT(refusal([&] { hooked.enqueue("one"); }), HasSubstr("called next twice"));
  EXPECT_EQ(jobs(), 7);
}

TEST_F(ClientTest, BytesComeBackExactly) {
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  for (std::string const& data : {std::string(), all, std::string("\0", 1), std::string(1024 * 1024, '\xff')}) {
    JobInfo const found = job(client.enqueue("k", bytes{data}).id);
    EXPECT_TRUE(found.payload.is_bytes());
    EXPECT_TRUE(found.payload.data() == data) << data.size();
  }
}

TEST_F(ClientTest, NoPayloadAndJsonNullAreDifferent) {
  EXPECT_TRUE(job(client.enqueue("k").id).payload.is_null());
  JobInfo const found = job(client.enqueue("k", json{"null"}).id);
  EXPECT_TRUE(found.payload.is_json());
  EXPECT_EQ(found.payload.data(), "null");
}

TEST_F(ClientTest, OptionsArrive) {
  auto const before = system_clock::now();
  JobInfo found = job(client
                          .enqueue("resize", json{"1"},
                                   {.queue = "images",
                                    .priority = -7,
                                    .delay = 3h,
                                    .headers = {{"trace", "a\"b"}},
                                    .max_attempts = 3,
                                    .key = "album 1"})
                          .id);
  EXPECT_EQ(found.kind, "resize");
  EXPECT_EQ(found.queue, "images");
  EXPECT_EQ(found.priority, -7);
  EXPECT_EQ(found.key, "album 1");
  EXPECT_EQ(found.state, "scheduled");
  EXPECT_EQ(found.attempt, 0);
  EXPECT_EQ(found.max_attempts, 3);
  EXPECT_EQ(found.headers, R"({"trace": "a\"b"})");
  auto const due = core::parse_time("run_at", found.run_at.value());
  EXPECT_GE(due, before + 3h - 1s);
  EXPECT_LE(due, system_clock::now() + 3h + 1s);

  auto const when = core::parse_time("t", "2090-01-02T03:04:05.678901Z");
  EXPECT_EQ(job(client.enqueue("k", {}, {.run_at = when}).id).run_at, "2090-01-02T03:04:05.678901Z");
  EXPECT_EQ(job(client.enqueue("k", {}, {.run_at = before - 1h}).id).state, "available");
  EXPECT_EQ(job(client.enqueue("k", {}, {.delay = 0ms}).id).state, "available");
  EXPECT_EQ(job(client.enqueue("k", {}, {.priority = INT_MIN}).id).priority, INT_MIN);
  EXPECT_EQ(job(client.enqueue("k", {}, {.priority = INT_MAX}).id).priority, INT_MAX);
}

TEST_F(ClientTest, BadInputIsNamedBeforeAnythingIsSent) {
  auto const refused = [&](std::string const& words, std::string_view kind, Payload const& payload = {},
                           EnqueueOptions const& options = {}) {
    EXPECT_THAT(refusal([&] { client.enqueue(kind, payload, options); }), HasSubstr(words));
    // The same in the caller's transaction, which must live on.
    sql.exec("begin");
    EXPECT_THAT(refusal([&] { client.enqueue(sql.connection(), kind, payload, options); }), HasSubstr(words));
    EXPECT_EQ(sql.number("select 1"), 1);
    sql.exec("commit");
  };
  refused("kind", "");
  refused("kind", "two words");
  refused("kind", std::string(101, 'k'));
  refused("kind", std::string_view("k\0", 2));
  refused("queue", "k", {}, {.queue = "_q"});
  refused("JSON", "k", json{"{"});
  refused("JSON", "k", json{""});
  refused("\\u0000", "k", json{R"(["\u0000"])"});
  refused("payload", "k", json{"\"\xff\""});
  refused("payload", "k", json{"\"" + std::string(1024 * 1024, 'x') + "\""});
  refused("payload", "k", bytes{std::string(1024 * 1024 + 1, 'x')});
  refused("delay", "k", {}, {.delay = -1ms});
  refused("delay", "k", {}, {.delay = 24h * 3651});
  refused("delay", "k", {}, {.delay = 1s, .run_at = system_clock::now()});
  refused("run_at", "k", {}, {.run_at = system_clock::now() + 24h * 40'000});
  refused("max_attempts", "k", {}, {.max_attempts = 0});
  refused("max_attempts", "k", {}, {.max_attempts = 32768});
  refused("header", "k", {}, {.headers = {{"a", std::string("\0", 1)}}});
  refused("headers", "k", {}, {.headers = {{"a", std::string(20'000, 'x')}}});
  EXPECT_EQ(sql.number("select count(*) from jobs"), 0);
  EXPECT_THAT(refusal([&] { Client{{.database = options(), .pool_size = 0}}; }), HasSubstr("pool_size"));
  EXPECT_THAT(refusal([&] { Client{{.database_url = url(), .database = {.schema = std::string(49, 's')}}}; }),
              HasSubstr("schema"));
}

TEST_F(ClientTest, TheServersOwnLimitsAreTypedToo) {
  sql.exec("select enqueue('k', priority => i) from generate_series(1, 256) i");
  sql.exec("select fold_lanes()");
  EXPECT_THAT(refusal([&] { client.enqueue("k", {}, {.priority = 1000}); }), HasSubstr("256 priorities"));
}

std::vector<Request> mixture(std::size_t n) {
  std::vector<Request> requests;
  for (std::size_t i = 0; i < n; ++i) {
    Request r;
    r.kind = "kind" + std::to_string(i % 3);
    if (i % 4 == 1) r.payload = json{"{\"i\": " + std::to_string(i) + "}"};
    if (i % 4 == 2) r.payload = bytes{std::string("\0\xfe", 2) + std::to_string(i)};
    if (i % 4 == 3) r.payload = json{"12345678901234567890.5"};
    r.options.priority = static_cast<int>(i % 2);
    if (i % 5 == 0) r.options.queue = "other";
    if (i % 7 == 0) r.options.delay = 1h;
    if (i % 6 == 0) r.options.headers = {{"i", std::to_string(i)}};
    if (i % 8 == 0) r.options.max_attempts = 2;
    requests.push_back(std::move(r));
  }
  return requests;
}

void expect_equal(JobInfo const& found, Request const& request) {
  EXPECT_EQ(found.kind, request.kind);
  EXPECT_EQ(found.queue, request.options.queue);
  EXPECT_EQ(found.priority, request.options.priority);
  EXPECT_EQ(found.state, request.options.delay ? "scheduled" : "available");
  EXPECT_EQ(found.payload.is_bytes(), request.payload.is_bytes());
  EXPECT_EQ(found.payload.is_null(), request.payload.is_null());
  EXPECT_EQ(found.payload.data(), request.payload.data());
  EXPECT_EQ(found.max_attempts, request.options.max_attempts.value_or(25));
  EXPECT_EQ(found.headers == "{}", request.options.headers.empty());
}

TEST_F(ClientTest, ManyOfAllSortsComeBackInOrder) {
  // 6,000 go by COPY but for the delayed ones, the others through the function.
  for (std::size_t const n : {std::size_t{1}, std::size_t{100}, std::size_t{6000}}) {
    auto const requests = mixture(n);
    auto const outcomes = client.enqueue_many(requests);
    ASSERT_EQ(outcomes.size(), n);
    std::set<std::int64_t> ids;
    for (auto const& outcome : outcomes) ids.insert(outcome.id);
    EXPECT_EQ(ids.size(), n);
    for (std::size_t i = 0; i < n; i += n < 1000 ? 1 : 61) {
      SCOPED_TRACE(i);
      expect_equal(job(outcomes[i].id), requests[i]);
    }
  }
  EXPECT_EQ(sql.number("select count(*) from jobs"), 6101);
  EXPECT_TRUE(client.enqueue_many(std::span<Request const>{}).empty());
}

TEST_F(ClientTest, ABadElementIsNamedAndNothingIsEnqueued) {
  for (std::size_t const n : {std::size_t{10}, std::size_t{6000}}) {
    auto requests = mixture(n);
    requests[7].payload = json{"[1,"};
    EXPECT_THAT(refusal([&] { client.enqueue_many(requests); }), HasSubstr("element 7"));
    std::vector<Payload> payloads(n, json{"1"});
    payloads[3] = bytes{std::string(1024 * 1024 + 1, 'x')};
    EXPECT_THAT(refusal([&] { client.enqueue_many("k", payloads); }), HasSubstr("element 3"));
  }
  EXPECT_EQ(sql.number("select count(*) from jobs"), 0);
}

TEST_F(ClientTest, UniformBulkByEachWay) {
  for (std::size_t const n : {std::size_t{5000}, std::size_t{20'001}}) {
    std::vector<Payload> payloads;
    for (std::size_t i = 0; i < n; ++i) payloads.push_back(json{std::to_string(i)});
    auto const ids = client.enqueue_many("bulk", payloads, {.queue = "q", .priority = 3, .headers = {{"a", "b"}}});
    ASSERT_EQ(ids.size(), n);
    EXPECT_TRUE(std::is_sorted(ids.begin(), ids.end()));
    EXPECT_EQ(sql.number("select count(*) from job j join unnest($1::bigint[]) with ordinality u(id, i) on j.id = u.id "
                         "where j.payload = to_jsonb(u.i - 1) and j.headers = '{\"a\": \"b\"}' "
                         "and j.lane = lane_of('q', 'bulk', 3, false)",
                         array(ids)),
              n);
  }
  std::vector<Payload> const none(6000);
  auto const later = client.enqueue_many("bulk", none, {.delay = 1h});
  EXPECT_EQ(later.size(), 6000U);
  EXPECT_EQ(sql.number("select count(*) from deferred"), 6000);
}

TEST_F(ClientTest, LargePayloadsGoInSeveralStatementsOfOneTransaction) {
  std::vector<Request> requests(40);
  for (auto& r : requests) {
    r.kind = "large";
    r.payload = bytes{std::string(1000 * 1000, '\1')};
  }
  EXPECT_EQ(client.enqueue_many(requests).size(), 40U);
  EXPECT_EQ(sql.number("select count(distinct txid) from job"), 1);
  EXPECT_EQ(sql.number("select min(octet_length(payload_bytes)) from job"), 1000 * 1000);
}

TEST_F(ClientTest, BulkCutInTheMiddleEnqueuesNothing) {
  TcpGate gate(url());
  Client cut{{.database_url = gate.url()}};
  cut.enqueue("warm");
  gate.cut_after(500'000, TcpGate::Way::to_server);
  std::vector<Payload> const payloads(50'000, json{R"({"n": 1})"});
  try {
    cut.enqueue_many("bulk", payloads);
    FAIL() << "nothing was cut";
  } catch (Unavailable const& error) {
    EXPECT_FALSE(error.in_doubt()) << "the COPY was inside a transaction that never committed";
  }
  EXPECT_EQ(sql.number("select count(*) from job where lane = lane_of('default', 'bulk', 0, false)"), 0);
  EXPECT_EQ(cut.enqueue_many("bulk", payloads).size(), payloads.size()) << "works again";
}

TEST_F(ClientTest, ALostReplyIsInDoubtALostRequestIsNotRepeated) {
  TcpGate gate(url());
  Client cut{{.database_url = gate.url()}};
  cut.enqueue("k", json{"\"warm\""});
  gate.lose_reply("\"done\"");
  try {
    cut.enqueue("k", json{"\"done\""});
    FAIL();
  } catch (Unavailable const& error) {
    EXPECT_TRUE(error.in_doubt());
  }
  gate.lose_request("\"gone\"");
  EXPECT_THROW(cut.enqueue("k", json{"\"gone\""}), Unavailable);
  EXPECT_EQ(sql.number("select count(*) from jobs where payload = '\"done\"'"), 1);
  EXPECT_EQ(sql.number("select count(*) from jobs where payload = '\"gone\"'"), 0);
  EXPECT_GT(cut.enqueue("k").id, 0) << "works again";
}

TEST_F(ClientTest, ManyThreadsShareAClient) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 16; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 25; ++i) client.enqueue("k", json{"1"});
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(sql.number("select count(*) from job"), 400);
  EXPECT_LE(sql.number("select count(*) from pg_stat_activity where datname = current_database() and application_name "
                       "= 'posthouse'"),
            5);
}

TEST_F(ClientTest, LookUpCancelAndRetry) {
  auto const id = client.enqueue("k").id;
  EXPECT_EQ(client.cancel(id), CancelOutcome::cancelled);
  EXPECT_EQ(job(id).state, "cancelled");
  EXPECT_EQ(client.cancel(id), CancelOutcome::finished);
  EXPECT_TRUE(client.retry(id));
  EXPECT_EQ(job(id).state, "available");
  EXPECT_FALSE(client.retry(id));
  EXPECT_EQ(client.cancel(INT64_MAX), CancelOutcome::not_found);
  EXPECT_FALSE(client.retry(INT64_MAX));
  EXPECT_FALSE(client.find(INT64_MAX));
  EXPECT_TRUE(client.errors(INT64_MAX).empty());

  Hand hand(sql);
  auto const jobs = hand.claim(1);
  ASSERT_EQ(jobs.size(), 1U);
  EXPECT_EQ(client.cancel(id), CancelOutcome::requested);
  hand.finish(jobs[0].token, "1", 1, "[" + move_of(jobs[0], "fail", 0, "it broke") + "]");
  JobInfo const cancelled = job(id);
  EXPECT_EQ(cancelled.state, "cancelled");
  EXPECT_EQ(cancelled.last_error, "cancelled");
  auto const errors = client.errors(id);
  ASSERT_EQ(errors.size(), 1U);
  EXPECT_EQ(errors[0].attempt, 1);
  EXPECT_EQ(errors[0].message, "it broke");
  EXPECT_EQ(errors[0].worker, hand.id());
  EXPECT_NO_THROW((void)core::parse_time("at", errors[0].at));
  EXPECT_TRUE(client.retry(id));
}

TEST_F(ClientTest, PausesQueuesAndKinds) {
  Hand hand(sql, {.kinds = "{k}"});
  auto const id = client.enqueue("k").id;
  client.pause_queue("default");
  EXPECT_TRUE(hand.claim(1).empty());
  client.resume_queue("default");
  client.pause_kind("k");
  EXPECT_TRUE(hand.claim(1).empty());
  client.resume_kind("k");
  auto const got = hand.claim(1);
  ASSERT_EQ(got.size(), 1U);
  EXPECT_EQ(got[0].id, id);
  EXPECT_THROW(client.pause_queue("a b"), InvalidArgument);
  EXPECT_THROW(client.resume_kind(""), InvalidArgument);
}

TEST_F(ClientTest, ListsByStateKindAndPage) {
  std::vector<std::int64_t> ids;
  for (int i = 0; i < 30; ++i) ids.push_back(client.enqueue(i % 2 == 0 ? "even" : "odd").id);
  auto const later = client.enqueue("odd", {}, {.delay = 1h}).id;
  auto const gone = client.enqueue("even").id;
  client.cancel(gone);
  Hand hand(sql, {.kinds = "{even}"});
  auto const jobs = hand.claim(5);
  ASSERT_EQ(jobs.size(), 5U);
  hand.finish(jobs[0].token, "11000");
  auto const connection = pg::Connection::open(options());
  store::Admin admin(*connection);
  auto const listed = [&](store::JobFilter const& filter) {
    std::vector<std::int64_t> found;
    for (auto const& one : admin.list(filter)) found.push_back(one.id);
    return found;
  };
  EXPECT_EQ(listed({.state = "scheduled"}), std::vector{later});
  EXPECT_EQ(listed({.state = "cancelled"}), std::vector{gone});
  EXPECT_EQ(listed({.state = "succeeded"}), (std::vector{ids[2], ids[0]}));
  EXPECT_EQ(listed({.state = "running"}), (std::vector{ids[8], ids[6], ids[4]}));
  EXPECT_EQ(listed({.state = "available"}).size(), 25U);
  EXPECT_EQ(listed({.state = "available", .kind = "even"}).size(), 10U);
  EXPECT_EQ(listed({.kind = "odd"}).size(), 16U);
  EXPECT_EQ(listed({.queue = "nosuch"}).size(), 0U);
  EXPECT_EQ(listed({}).size(), 32U);
  std::vector<std::int64_t> paged;
  store::JobFilter page{.limit = 7};
  for (auto part = listed(page); !part.empty(); part = listed(page)) {
    paged.insert(paged.end(), part.begin(), part.end());
    page.before = part.back();
  }
  EXPECT_EQ(paged, listed({}));
  EXPECT_THAT(refusal([&] { listed({.state = "nope"}); }), HasSubstr("state"));
  auto const workers = admin.workers();
  ASSERT_EQ(workers.size(), 1U);
  EXPECT_EQ(workers[0].id, hand.id());
  EXPECT_EQ(workers[0].kinds, "even");
}

TEST_F(ClientTest, WithoutTheSchemaTheMessageNamesTheMend) {
  Client lost{{.database_url = url(), .database = {.schema = "no\"where"}}};
  try {
    lost.enqueue("k");
    FAIL();
  } catch (SchemaMissing const& error) {
    EXPECT_THAT(error.what(), HasSubstr("posthouse install"));
  }
  EXPECT_THROW(lost.enqueue(sql.connection(), "k"), SchemaMissing);
  EXPECT_THROW(lost.enqueue_many("k", std::vector<Payload>(6000)), SchemaMissing);
}

TEST_F(ClientTest, ASchemaThatNeedsANewerProgramGetsNoJobs) {
  sql.exec("update meta set value = '99' where key in ('schema_version', 'schema_min_version')");
  EXPECT_THROW(client.enqueue("k"), SchemaMissing);
  sql.exec("update meta set value = '1' where key = 'schema_min_version'");
  EXPECT_GT(client.enqueue("k").id, 0) << "newer, but compatible";
}

TEST_F(ClientTest, AProducerNeedsNoMoreRightsThanItsFunctionsAndTheColumnsOfACopy) {
  std::string const role = "producer_" + sql.one("select current_database()");
  sql.exec(
      "create role " + role + " login; grant usage on schema posthouse to " + role +
      "; grant execute on function enqueue(text, jsonb, text, int, timestamptz, interval, jsonb, int, text, text, "
      "text, interval, uuid, timestamptz, interval, interval, text, bigint[], boolean), "
      "enqueue_bytes(text, "
      "bytea, text, int, timestamptz, interval, jsonb, int, text, text, text, interval, uuid, timestamptz, interval, "
      "interval, text, bigint[], boolean), "
      "enqueue_many(jsonb), open_lane(text, text, int), open_lane_for(text, text, int, jsonb), "
      "reserve_ids(int), ring(bigint) to " +
      role + "; grant insert (id, lane, payload, payload_bytes, headers, options) on job to " + role);
  Client producer{{.database_url = url() + (url().find('?') == std::string::npos ? "?user=" : "&user=") + role}};
  EXPECT_GT(producer.enqueue("k", json{"1"}).id, 0);
  EXPECT_GT(producer.enqueue("k", bytes{"1"}).id, 0);
  EXPECT_EQ(producer.enqueue_many(mixture(100)).size(), 100U);
  EXPECT_EQ(producer.enqueue_many("bulk", std::vector<Payload>(6000, json{"1"})).size(), 6000U);
  EXPECT_EQ(producer.enqueue_many("bulk", std::vector<Payload>(6000, json{"1"}), {.headers = {{"a", "b"}}}).size(),
            6000U);
  Sql session(url() + (url().find('?') == std::string::npos ? "?user=" : "&user=") + role);
  EXPECT_EQ(session.sqlstate_of("insert into posthouse.job (lane, txid) values (1, '1')"), "42501");
  EXPECT_EQ(session.sqlstate_of("insert into posthouse.job (lane, queued_at) values (1, now())"), "42501");
  EXPECT_EQ(session.sqlstate_of("select from posthouse.job"), "42501");
  session.close();
  sql.exec("drop owned by " + role + "; drop role " + role);
}

TEST_F(ClientTest, AChildOfForkMustMakeItsOwn) {
  client.enqueue("k");
  pid_t const child = ::fork();
  if (child == 0) {
    int status = 1;
    try {
      client.enqueue("k");
    } catch (InvalidArgument const&) {
      status = 0;
    }
    ::_exit(status);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_GT(client.enqueue("k").id, 0);
  EXPECT_EQ(sql.number("select count(*) from job"), 2);
}

TEST_F(ClientTest, AServerThatRestartsCostsNoMoreThanOneError) {
  TestServer server{TestServer::durable};
  TestDatabase own("posthouse", server);
  Client there{{.database_url = own.url()}};
  auto const before = there.enqueue("k").id;
  server.restart_immediate();
  EXPECT_TRUE(eventually([&] {
    try {
      return there.enqueue("k").id > 0;
    } catch (Unavailable const&) {
      return false;
    }
  }));
  EXPECT_TRUE(there.find(before)) << "an acknowledged job survives a crash";
}

}  // namespace
}  // namespace posthouse::test
