// SPDX-License-Identifier: Apache-2.0
// Frames and messages between a worker and its children: every cut, every length that lies.
#include "isolate/frame.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "isolate/message.hpp"

namespace posthouse::isolate {
namespace {

using namespace std::chrono_literals;

std::string body_of(std::string const& frame) {
  FrameStream stream;
  stream.add(frame);
  auto const whole = stream.next();
  EXPECT_TRUE(whole.has_value());
  EXPECT_FALSE(stream.torn());
  return whole ? whole->body : "";
}

TEST(IsolateFrame, ComesOutAsItWentInWhereverTheStreamIsCut) {
  auto const first = FrameWriter(Type::progress).number(-7).real(0.25).text(std::string("a\0b", 3)).take();
  auto const second = FrameWriter(Type::begun).take();
  auto const both = first + second;
  for (std::size_t cut = 0; cut <= both.size(); ++cut) {
    FrameStream stream;
    std::vector<Frame> frames;
    for (auto const piece : {std::string_view(both).substr(0, cut), std::string_view(both).substr(cut)}) {
      stream.add(piece);
      while (auto frame = stream.next()) frames.push_back(*frame);
    }
    ASSERT_EQ(frames.size(), 2) << cut;
    EXPECT_EQ(frames[0].type, Type::progress);
    FrameReader in(frames[0].body);
    EXPECT_EQ(in.number(), -7);
    EXPECT_EQ(in.real(), 0.25);
    EXPECT_EQ(in.text(), std::string_view("a\0b", 3));
    EXPECT_NO_THROW(in.end());
    EXPECT_EQ(frames[1].type, Type::begun);
    EXPECT_FALSE(stream.torn());
  }
}

TEST(IsolateFrame, AnUnfinishedOneIsNoFrame) {
  auto const frame = FrameWriter(Type::hello).text("name").take();
  for (std::size_t cut = 1; cut < frame.size(); ++cut) {
    FrameStream stream;
    stream.add(std::string_view(frame).substr(0, cut));
    EXPECT_FALSE(stream.next()) << cut;
    EXPECT_TRUE(stream.torn()) << cut;
  }
}

TEST(IsolateFrame, ALengthOrATypeThatNobodySendsIsRefused) {
  for (std::uint32_t const length : {std::uint32_t{max_frame_bytes} + 1, std::numeric_limits<std::uint32_t>::max()}) {
    std::string header(5, '\1');
    std::memcpy(header.data(), &length, sizeof length);
    FrameStream stream;
    stream.add(header);
    EXPECT_THROW(stream.next(), BadFrame);
  }
  for (char const type : {'\0', '\x09', '\xff'}) {
    FrameStream stream;
    stream.add(std::string(4, '\0') + type);
    EXPECT_THROW(stream.next(), BadFrame);
  }
}

TEST(IsolateFrame, ABodyThatIsShorterOrLongerThanItSaysIsRefused) {
  auto const body = body_of(FrameWriter(Type::order).number(1).text("abc").take());
  for (std::size_t cut = 0; cut < body.size(); ++cut) {
    FrameReader in(std::string_view(body).substr(0, cut));
    EXPECT_THROW((in.number(), in.text()), BadFrame) << cut;
  }
  FrameReader in(body);
  in.number();
  EXPECT_THROW(in.end(), BadFrame);
  std::string lie(8, '\xff');
  EXPECT_THROW(FrameReader(lie).text(), BadFrame);
}

Job::Facts facts() {
  Job::Facts facts;
  facts.id = std::numeric_limits<std::int64_t>::max();
  facts.kind = "k";
  facts.queue = "q";
  facts.priority = std::numeric_limits<int>::min();
  facts.attempt = 3;
  facts.max_attempts = 9;
  facts.payload = bytes{std::string("\0\xff", 2)};
  facts.headers = {{"a", "1"}, {"b", ""}};
  facts.depends_on = {7, std::numeric_limits<std::int64_t>::max()};
  facts.worker = 4;
  facts.token = 5;
  facts.position = 6;
  facts.deadline = std::chrono::steady_clock::time_point(123456789ns);
  return facts;
}

TEST(IsolateMessage, AnOrderKeepsEveryFact) {
  auto const given = facts();
  auto const order = decode_order(body_of(encode_order(11, given)));
  EXPECT_EQ(order.number, 11);
  EXPECT_EQ(order.facts.id, given.id);
  EXPECT_EQ(order.facts.kind, given.kind);
  EXPECT_EQ(order.facts.queue, given.queue);
  EXPECT_EQ(order.facts.priority, given.priority);
  EXPECT_EQ(order.facts.attempt, given.attempt);
  EXPECT_EQ(order.facts.max_attempts, given.max_attempts);
  EXPECT_TRUE(order.facts.payload.is_bytes());
  EXPECT_EQ(order.facts.payload.data(), given.payload.data());
  EXPECT_EQ(order.facts.headers, given.headers);
  EXPECT_EQ(order.facts.depends_on, given.depends_on);
  EXPECT_EQ(order.facts.worker, given.worker);
  EXPECT_EQ(order.facts.token, given.token);
  EXPECT_EQ(order.facts.position, given.position);
  EXPECT_EQ(order.facts.deadline, given.deadline);
  auto plain = given;
  plain.deadline.reset();
  plain.payload = {};
  plain.headers.clear();
  plain.depends_on.clear();
  auto const second = decode_order(body_of(encode_order(1, plain)));
  EXPECT_FALSE(second.facts.deadline);
  EXPECT_TRUE(second.facts.payload.is_null());
  EXPECT_TRUE(second.facts.headers.empty());
  EXPECT_TRUE(second.facts.depends_on.empty());
}

TEST(IsolateMessage, EveryOutcomeComesBack) {
  auto const back = [](Outcome outcome, bool unreadable = false) {
    return decode_ending(body_of(encode_ending(2, {std::move(outcome), unreadable}))).run;
  };
  auto const success = std::get<Success>(back(Success{json{"[1]"}, "half"}).outcome);
  EXPECT_TRUE(success.result.is_json());
  EXPECT_EQ(success.result.data(), "[1]");
  EXPECT_EQ(success.problem, "half");
  auto const run = back(Failure{"type", "message", "stack"}, true);
  auto const failure = std::get<Failure>(run.outcome);
  EXPECT_EQ(failure.type + failure.message + failure.stack, "typemessagestack");
  EXPECT_TRUE(run.decode_error);
  EXPECT_FALSE(run.crashed);
  EXPECT_EQ(std::get<Discard>(back(Discard{"why"}).outcome).reason, "why");
  EXPECT_EQ(std::get<Snooze>(back(Snooze{5s}).outcome).delay, 5s);
  auto const later = std::get<RetryAfter>(back(RetryAfter{7ms, "busy"}).outcome);
  EXPECT_EQ(later.delay, 7ms);
  EXPECT_EQ(later.reason, "busy");
  EXPECT_TRUE(later.hold_kind);
  EXPECT_FALSE(std::get<RetryAfter>(back(RetryAfter{7ms, "busy", false}).outcome).hold_kind);
  auto const longest = std::get<Failure>(back(Failure{"t", std::string(2 * max_text_bytes, 'x'), ""}).outcome);
  EXPECT_EQ(longest.message.size(), max_text_bytes);
}

TEST(IsolateMessage, NonsenseIsRefused) {
  for (auto const& whole : {body_of(encode_order(1, facts())), body_of(encode_ending(1, {Failure{"a", "b", "c"}}))}) {
    for (std::size_t cut = 0; cut < whole.size(); ++cut) {
      EXPECT_THROW(decode_order(std::string_view(whole).substr(0, cut)), BadFrame) << cut;
      EXPECT_THROW(decode_ending(std::string_view(whole).substr(0, cut)), BadFrame) << cut;
    }
    EXPECT_THROW(decode_order(whole + "x"), BadFrame);
    EXPECT_THROW(decode_ending(whole + "x"), BadFrame);
  }
}

}  // namespace
}  // namespace posthouse::isolate
