// SPDX-License-Identifier: Apache-2.0
// posthouse/testing.hpp without a server: jobs made by hand, handlers run by hand.
#include <gtest/gtest.h>

#include <chrono>
#include <posthouse/testing.hpp>
#include <stdexcept>
#include <string>
#include <variant>

#include "testing/rows.hpp"
#include "testing/server.hpp"

namespace posthouse {

struct Greeting {
  std::string name;
};

template <>
struct codec<Greeting> {
  static constexpr std::string_view content_type = "text/plain";
  static Payload encode(Greeting const& value) { return bytes{value.name}; }
  static Greeting decode(Payload const& payload) {
    if (payload.data().empty()) throw DecodeError("$.name", "is missing");
    return {std::string(payload.data())};
  }
};

namespace {

using namespace std::chrono_literals;

constexpr Kind<Greeting> greet{"greet"};

TEST(TestingJob, HasWhatItWasGiven) {
  auto const job =
      testing::job({.payload = json{R"({"n": 1})"}, .attempt = 3, .kind = "count", .headers = {{"a", "b"}}});
  EXPECT_EQ(job.attempt(), 3);
  EXPECT_EQ(job.max_attempts(), 25);
  EXPECT_EQ(job.kind(), "count");
  EXPECT_EQ(job.queue(), "default");
  EXPECT_EQ(job.payload().data(), R"({"n": 1})");
  EXPECT_EQ(job.headers().at("a"), "b");
  EXPECT_FALSE(job.deadline());
}

TEST(TestingJob, TimeoutSetsADeadlineAndAsksNobody) {
  auto const job = testing::job({.timeout = 1h});
  ASSERT_TRUE(job.deadline());
  EXPECT_GT(*job.deadline(), std::chrono::steady_clock::now() + 50min);
  EXPECT_FALSE(job.stop_token().stop_requested());
  job.request_stop();
  EXPECT_TRUE(job.stop_token().stop_requested());
}

TEST(TestingJob, RemembersWhatTheHandlerAsked) {
  auto const job = testing::job();
  testing::run(
      [](Job const& j) {
        j.progress(0.5, "half");
        j.progress(1);
        j.heartbeat();
      },
      job);
  ASSERT_EQ(job.progress_calls().size(), 2U);
  EXPECT_EQ(job.progress_calls()[0].fraction, 0.5);
  EXPECT_EQ(job.progress_calls()[0].text, "half");
  EXPECT_EQ(job.heartbeats(), 1);
  EXPECT_FALSE(job.completed());
}

TEST(TestingRun, ReturningIsSuccess) {
  EXPECT_TRUE(std::holds_alternative<Success>(testing::run([](Job const&) {}, testing::job())));
}

TEST(TestingRun, AReturnedValueIsTheResult) {
  auto const outcome = testing::run([](Job const&) { return json{"[1]"}; }, testing::job());
  EXPECT_EQ(std::get<Success>(outcome).result.data(), "[1]");
}

TEST(TestingRun, ReturnedAndThrownOutcomesAreThemselves) {
  auto const job = testing::job();
  EXPECT_EQ(std::get<Snooze>(testing::run([](Job const&) { return Snooze{5s}; }, job)).delay, 5s);
  EXPECT_EQ(std::get<Snooze>(testing::run([](Job const&) { throw Snooze{6s}; }, job)).delay, 6s);
  EXPECT_EQ(std::get<Discard>(testing::run([](Job const&) { throw Discard{"no use"}; }, job)).reason, "no use");
  EXPECT_EQ(std::get<RetryAfter>(testing::run([](Job const&) { throw RetryAfter{1s, "busy"}; }, job)).reason, "busy");
  EXPECT_EQ(std::get<Failure>(testing::run([](Job const&) -> Outcome { return Failure{.type = "t"}; }, job)).type, "t");
}

TEST(TestingRun, ExceptionsAreFailuresWithTypeAndMessage) {
  auto const job = testing::job();
  auto const known = std::get<Failure>(testing::run([](Job const&) { throw std::out_of_range("too far"); }, job));
  EXPECT_EQ(known.type, "std::out_of_range");
  EXPECT_EQ(known.message, "too far");
  auto const odd = std::get<Failure>(testing::run([](Job const&) { throw 42; }, job));
  EXPECT_EQ(odd.type, "int");
}

TEST(TestingRun, TypedHandlersGetTheDecodedPayload) {
  std::string seen;
  auto const handler = [&](Job const&, Greeting const& greeting) { seen = greeting.name; };
  EXPECT_TRUE(std::holds_alternative<Success>(testing::run(greet, handler, testing::job({.payload = bytes{"Ada"}}))));
  EXPECT_EQ(seen, "Ada");
}

TEST(TestingRun, APayloadThatDoesNotDecodeIsDiscardedOrRetried) {
  bool called = false;
  auto const handler = [&](Job const&, Greeting const&) { called = true; };
  auto const job = testing::job();
  EXPECT_EQ(std::get<Discard>(testing::run(greet, handler, job)).reason, "$.name: is missing");
  EXPECT_EQ(std::get<Failure>(testing::run(greet, handler, job, OnDecodeError::retry)).message, "$.name: is missing");
  EXPECT_FALSE(called);
}

TEST(TestingRows, SchemaIsQuoted) {
  EXPECT_EQ(testing::schema_prefix("plain"), "\"plain\".");
  EXPECT_EQ(testing::schema_prefix("a\"b"), "\"a\"\"b\".");
}

TEST(TestingRows, PayloadComesBackExactly) {
  EXPECT_TRUE(testing::payload_from(std::nullopt, std::nullopt).is_null());
  EXPECT_TRUE(testing::payload_from("{}", std::nullopt).is_json());
  auto const raw = testing::payload_from(std::nullopt, "00ff7a");
  EXPECT_TRUE(raw.is_bytes());
  EXPECT_EQ(raw.data(), std::string("\0\xffz", 3));
}

TEST(TestingServer, ReplacesTheDatabaseOfAUrl) {
  using testing::with_database;
  EXPECT_EQ(with_database("postgresql://u:p@h:1/old?sslmode=disable", "new"),
            "postgresql://u:p@h:1/new?sslmode=disable");
  EXPECT_EQ(with_database("postgres://h", "new"), "postgresql://h/new");
  EXPECT_EQ(with_database("postgresql://u@/?host=/tmp/x", "new"), "postgresql://u@/new?host=/tmp/x");
  EXPECT_EQ(with_database("postgresql:///a?host=/tmp/x", "new"), "postgresql:///new?host=/tmp/x");
  EXPECT_EQ(with_database("postgresql://h?host=/tmp/x", "new"), "postgresql://h/new?host=/tmp/x");
  EXPECT_EQ(with_database("host=h dbname=old", "new"), "host=h dbname=old dbname=new");
}

}  // namespace
}  // namespace posthouse
