// SPDX-License-Identifier: Apache-2.0
#include "complete/verdict.hpp"

#include <gtest/gtest.h>

namespace posthouse::complete {
namespace {

using namespace std::chrono_literals;

std::optional<store::Move> judge(Outcome outcome, std::int64_t attempt = 1, std::int64_t max_attempts = 25,
                                 HandlerOptions const& options = {}, bool decode_error = false) {
  Ending const ending{.outcome = std::move(outcome),
                      .decode_error = decode_error,
                      .attempt = attempt,
                      .max_attempts = max_attempts,
                      .kind = &options};
  return verdict(7, 3, 42, ending, 0.5);
}

TEST(Verdict, SuccessMovesNothing) { EXPECT_FALSE(judge(Success{})); }

TEST(Verdict, FailureIsTriedAgainByPolicy) {
  HandlerOptions options;
  options.backoff = Backoff::fixed({100ms, 900ms});
  auto const move = judge(Failure{.type = "T", .message = "m", .stack = "s"}, 2, 25, options);
  ASSERT_TRUE(move);
  EXPECT_EQ(move->outcome, "retry");
  EXPECT_EQ(move->delay_ms, 900);
  EXPECT_EQ(move->token, 7);
  EXPECT_EQ(move->position, 3);
  EXPECT_EQ(move->id, 42);
  EXPECT_EQ(move->type, "T");
  EXPECT_EQ(move->message, "m");
  EXPECT_EQ(move->stack, "s");
}

TEST(Verdict, LastAttemptFailsForGood) {
  EXPECT_EQ(judge(Failure{}, 2, 3)->outcome, "retry");
  EXPECT_EQ(judge(Failure{}, 3, 3)->outcome, "fail");
  EXPECT_EQ(judge(Failure{}, 4, 3)->outcome, "fail");
  EXPECT_EQ(judge(RetryAfter{.delay = 1s}, 3, 3)->outcome, "fail");
}

TEST(Verdict, ThreeCrashesAreQuarantined) {
  auto const crash = [](std::int64_t before, std::int64_t attempt, bool crashed = true) {
    return verdict(1, 0, 2,
                   {.outcome = Failure{.type = "Crashed", .message = "signal 11"},
                    .attempt = attempt,
                    .max_attempts = 5,
                    .crashed = crashed,
                    .crashes = before},
                   0.5);
  };
  EXPECT_EQ(crash(0, 1)->outcome, "retry");
  EXPECT_EQ(crash(0, 1)->crashes, 1);
  EXPECT_EQ(crash(1, 2)->crashes, 2);
  EXPECT_EQ(crash(2, 3)->outcome, "fail");
  EXPECT_EQ(crash(2, 3)->type, "Crashed");
  EXPECT_EQ(crash(2, 3)->message, "quarantined: 3 child processes have died of this job; last: signal 11");
  EXPECT_EQ(crash(0, 5)->outcome, "fail") << "its attempts are used up";
  EXPECT_EQ(crash(2, 3, false)->outcome, "retry") << "a failure is no crash";
  EXPECT_EQ(crash(2, 3, false)->crashes, 0);
}

TEST(Verdict, RetryAfterKeepsItsDelay) {
  auto const move = judge(RetryAfter{.delay = 1500ms, .reason = "rate limit"});
  EXPECT_EQ(move->outcome, "retry");
  EXPECT_EQ(move->delay_ms, 1500);
  EXPECT_EQ(move->message, "rate limit");
}

TEST(Verdict, SnoozeCountsNoAttempt) {
  auto const move = judge(Snooze{.delay = 2s}, 25, 25);
  EXPECT_EQ(move->outcome, "snooze");
  EXPECT_EQ(move->delay_ms, 2000);
}

TEST(Verdict, DelaysAreBounded) {
  EXPECT_EQ(judge(Snooze{.delay = -5s})->delay_ms, 0);
  EXPECT_EQ(judge(RetryAfter{.delay = milliseconds::max()})->delay_ms, std::int64_t{3650} * 86'400'000);
}

TEST(Verdict, DiscardFailsAtOnce) {
  auto const move = judge(Discard{.reason = "no such user"});
  EXPECT_EQ(move->outcome, "fail");
  EXPECT_EQ(move->message, "no such user");
}

TEST(Verdict, UnreadablePayloadFailsUnlessKept) {
  EXPECT_EQ(judge(Failure{.type = "DecodeError"}, 1, 25, {}, true)->outcome, "fail");
  HandlerOptions keep;
  keep.on_decode_error = OnDecodeError::retry;
  EXPECT_EQ(judge(Failure{.type = "DecodeError"}, 1, 25, keep, true)->outcome, "retry");
  EXPECT_EQ(judge(Failure{.type = "DecodeError"}, 25, 25, keep, true)->outcome, "fail");
}

TEST(Verdict, TextsAreMadeStorable) {
  auto const move = judge(Failure{
      .type = std::string(500, 'x'), .message = std::string("a\0b\xff", 4), .stack = std::string(200'000, 's')});
  EXPECT_EQ(move->type.size(), max_type_bytes);
  EXPECT_EQ(move->message.find('\0'), std::string::npos);
  EXPECT_EQ(move->message.find('\xff'), std::string::npos);
  EXPECT_LE(move->stack.size(), max_message_bytes);
}

TEST(Verdict, AFailureAfterTheTimeoutIsATimeout) {
  Outcome failed = Failure{.type = "std::runtime_error", .message = "half way"};
  name_timeout(failed);
  EXPECT_EQ(std::get<Failure>(failed).type, "Timeout");
  EXPECT_NE(std::get<Failure>(failed).message.find("std::runtime_error: half way"), std::string::npos);
  Outcome named = Failure{.type = "Timeout", .message = "was killed"};
  name_timeout(named);
  EXPECT_EQ(std::get<Failure>(named).message, "was killed");
  Outcome fine = Success{};
  name_timeout(fine);
  EXPECT_TRUE(std::holds_alternative<Success>(fine));
}

}  // namespace
}  // namespace posthouse::complete
