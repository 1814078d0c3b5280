// SPDX-License-Identifier: Apache-2.0
// What is kept of a handler's result; how the batch book sends results; when a waiter looks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <posthouse/worker.hpp>

#include "complete/batch_book.hpp"
#include "execute/exec_handler.hpp"
#include "execute/result.hpp"
#include "produce/wait.hpp"

namespace posthouse {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::unique_ptr<execute::Kept> kept(Payload result, std::size_t max = 1000) {
  return execute::kept(Success{std::move(result), {}}, max);
}

TEST(Result, IsKeptAsItIs) {
  auto const value = kept(json{R"({"a": [1e3, 123456789012345678901234567890.5, "☃"]})"});
  ASSERT_TRUE(value && value->has_value);
  EXPECT_FALSE(value->is_bytes);
  EXPECT_EQ(value->data, R"({"a": [1e3, 123456789012345678901234567890.5, "☃"]})");
  EXPECT_EQ(value->problem, "");
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  auto const raw = kept(bytes{all});
  ASSERT_TRUE(raw && raw->has_value && raw->is_bytes);
  EXPECT_EQ(raw->data, all);
  EXPECT_EQ(kept({}), nullptr);
  ASSERT_TRUE(kept(json{"null"}));
  EXPECT_TRUE(kept(json{"null"})->has_value);
  EXPECT_TRUE(kept(bytes{""})->has_value);
}

TEST(Result, WhatCannotBeStoredIsDroppedWithItsReason) {
  for (auto const& bad : {R"("\u0000")", "{broken", "", "\"\xff\"", R"("\ud800")", "1 2", "1e999999"}) {
    auto const value = kept(json{bad});
    ASSERT_TRUE(value) << bad;
    EXPECT_FALSE(value->has_value) << bad;
    EXPECT_EQ(value->data, "");
    EXPECT_THAT(value->problem, HasSubstr("the result"));
  }
  EXPECT_TRUE(kept(bytes{std::string(1000, 'x')})->has_value);
  auto const large = kept(bytes{std::string(1001, 'x')});
  EXPECT_FALSE(large->has_value);
  EXPECT_THAT(large->problem, HasSubstr("1001 bytes, more than 1000"));
  EXPECT_EQ(kept(json{"1"}, 0), nullptr) << "none is wanted";
}

TEST(Result, AProblemIsStorableText) {
  auto const value = execute::kept(Success{{}, std::string("a\0b\xff", 4) + std::string(2000, 'x')}, 10);
  ASSERT_TRUE(value);
  EXPECT_FALSE(value->has_value);
  EXPECT_THAT(value->problem, ::testing::StartsWith("ab\xEF\xBF\xBDx"));
  EXPECT_LE(value->problem.size(), execute::max_problem_bytes);
}

struct Unspeakable {};

}  // namespace

template <>
struct codec<Unspeakable> {
  static constexpr std::string_view content_type = "none";
  static Payload encode(Unspeakable const& /*value*/) { throw InvalidArgument("no words"); }
  static Unspeakable decode(Payload const& /*payload*/) { return {}; }
};

namespace {

TEST(Result, AValueThatCannotBeEncodedIsASuccessAllTheSame) {
  auto const success = success_of(Unspeakable{});
  EXPECT_TRUE(success.result.is_null());
  EXPECT_THAT(success.problem, HasSubstr("no words"));
  EXPECT_EQ(success_of(json{"1"}).result.data(), "1");
}

TEST(Result, ProgramsOutputUpToItsLimit) {
  execute::ProgramEnd end{.how = execute::ProgramEnd::How::exited, .code = 0, .output = "[1]", .output_bytes = 3};
  auto const whole = std::get<Success>(execute::outcome_of(end, "p", 1s));
  EXPECT_TRUE(whole.result.is_json());
  EXPECT_EQ(whole.problem, "");
  end.output_bytes = 4;
  auto const part = std::get<Success>(execute::outcome_of(end, "p", 1s));
  EXPECT_TRUE(part.result.is_bytes()) << "the start of JSON is not JSON";
  EXPECT_EQ(part.result.data(), "[1]");
  EXPECT_THAT(part.problem, HasSubstr("4 bytes; the first 3"));
  end.output.clear();
  EXPECT_TRUE(std::get<Success>(execute::outcome_of(end, "p", 1s)).result.is_null());
}

// -- the batch book ---------------------------------------------------------------------------------------------------

using complete::BatchBook;
using Tokens = std::vector<std::int64_t>;

std::shared_ptr<store::Claim> claim_of(std::int64_t token, int members) {
  auto claim = std::make_shared<store::Claim>();
  for (int i = 0; i < members; ++i) {
    store::ClaimedJob job;
    job.token = token;
    job.position = i;
    job.id = token * 1000 + i;
    claim->jobs.push_back(job);
  }
  return claim;
}

store::JobResult result_of(std::int64_t token, int position, std::size_t bytes = 1) {
  return {.token = token,
          .position = position,
          .id = token * 1000 + position,
          .has_value = true,
          .is_bytes = true,
          .data = std::string(bytes, 'x'),
          .problem = {}};
}

struct Book : BatchBook {
  explicit Book(std::initializer_list<std::int64_t> tokens, int members = 3) {
    for (auto const token : tokens) open(claim_of(token, members), members);
    while (next() != nullptr) {
    }
  }
  complete::Flush flush() {
    int raised = 0;
    return prepare(0, raised);
  }
};

std::vector<int> positions(complete::Flush const& flush) {
  std::vector<int> list;
  for (auto const& result : flush.results) list.push_back(result.position);
  return list;
}

TEST(ResultBook, GoesWithItsAckOnce) {
  Book book({1});
  book.ended(1, 1, std::nullopt, result_of(1, 1));
  auto const first = book.flush();
  EXPECT_EQ(first.acks.at(0).acked, "010");
  EXPECT_THAT(positions(first), ElementsAre(1));
  book.confirm({});
  book.ended(1, 0, std::nullopt);
  EXPECT_THAT(positions(book.flush()), IsEmpty());
}

TEST(ResultBook, IsSentAgainWhenNobodyConfirms) {
  for (bool const in_doubt : {false, true}) {
    Book book({1});
    book.ended(1, 0, std::nullopt, result_of(1, 0));
    book.flush();
    book.not_confirmed(in_doubt);
    book.ended(1, 1, std::nullopt, result_of(1, 1));
    EXPECT_THAT(positions(book.flush()), ElementsAre(0, 1));
    book.confirm({});
    EXPECT_FALSE(book.unreported());
  }
}

TEST(ResultBook, GoesWithItsBatchWhenThatIsLost) {
  Book book({1, 2});
  book.ended(1, 0, std::nullopt, result_of(1, 0));
  book.ended(2, 0, std::nullopt, result_of(2, 0));
  book.flush();
  book.not_confirmed(false);
  EXPECT_EQ(book.reconcile(Tokens{2}).lost, Tokens{1});
  auto const flush = book.flush();
  ASSERT_EQ(flush.results.size(), 1U);
  EXPECT_EQ(flush.results[0].token, 2);
  book.not_confirmed(false);
  book.lose_all();
  EXPECT_THAT(positions(book.flush()), IsEmpty());
}

TEST(ResultBook, LargeOnesGoWithSeveralStatementsAndTheirMembersWithThem) {
  Book book({1, 2});
  constexpr auto most = complete::result_bytes_a_flush;
  book.ended(1, 0, std::nullopt, result_of(1, 0, most / 2));
  book.ended(1, 1, std::nullopt, result_of(1, 1, most / 2));
  book.ended(1, 2, std::nullopt, result_of(1, 2, 1));
  book.ended(2, 0, std::nullopt, result_of(2, 0, 2 * most));
  book.ended(2, 1, std::nullopt);

  auto flush = book.flush();
  EXPECT_THAT(positions(flush), ElementsAre(0, 1));
  EXPECT_EQ(flush.acks.at(0).acked, "110") << "not closed: its last result has not gone";
  EXPECT_EQ(flush.acks.at(1).acked, "010");
  book.confirm({});
  EXPECT_TRUE(book.unreported());

  flush = book.flush();
  EXPECT_THAT(positions(flush), ElementsAre(2));
  EXPECT_EQ(flush.acks.at(0).acked, std::nullopt) << "closed";
  EXPECT_EQ(flush.acks.at(1).acked, "010");
  // Nobody knows: all of it again.
  book.not_confirmed(true);
  flush = book.flush();
  EXPECT_THAT(positions(flush), ElementsAre(2));
  book.confirm({});

  flush = book.flush();
  ASSERT_EQ(flush.results.size(), 1U) << "larger than a statement should be, and alone";
  EXPECT_EQ(flush.results[0].data.size(), 2 * most);
  EXPECT_EQ(flush.acks.at(0).acked, "110");
  book.confirm({});
  EXPECT_FALSE(book.unreported());
}

// -- waiting ----------------------------------------------------------------------------------------------------------

TEST(Wait, LooksLessAndLessOften) {
  using produce::next_pause;
  EXPECT_EQ(next_pause(0ms, false), 5ms);
  auto pause = next_pause(0ms, false);
  for (int i = 0; i < 100; ++i) {
    auto const next = next_pause(pause, false);
    EXPECT_TRUE(next > pause || pause == 1000ms);
    pause = next;
  }
  EXPECT_EQ(pause, 1000ms);
  EXPECT_EQ(next_pause(1000ms, true), 500ms);
  EXPECT_EQ(next_pause(5ms, true), 5ms);
}

struct Jobs {
  std::map<std::int64_t, std::string> states;
  std::vector<std::vector<std::int64_t>> looks{};
  std::vector<JobOutcome> operator()(std::span<std::int64_t const> ids) {
    looks.emplace_back(ids.begin(), ids.end());
    std::vector<JobOutcome> list;
    for (auto const id : ids) list.push_back({.id = id, .state = states.at(id)});
    return list;
  }
};

std::vector<std::string> states(std::vector<JobOutcome> const& outcomes) {
  std::vector<std::string> list;
  for (auto const& outcome : outcomes) list.push_back(outcome.state);
  return list;
}

TEST(Wait, AsksOnlyForThoseThatHaveNotEnded) {
  Jobs jobs{{{1, "succeeded"}, {2, "running"}, {3, "unknown"}, {4, "not_found"}}};
  int slept = 0;
  auto const got = produce::wait_for(
      Tokens{3, 1, 2, 1, 4}, 1h, [&](auto ids) { return jobs(ids); },
      [&](auto, auto open) {
        EXPECT_EQ(open.back(), slept == 0 ? 3 : 2);
        if (++slept == 1) jobs.states[3] = "failed";
        if (slept == 3) jobs.states[2] = "cancelled";
        return false;
      });
  EXPECT_THAT(states(got), ElementsAre("failed", "succeeded", "cancelled", "succeeded", "not_found"));
  EXPECT_THAT(jobs.looks, ElementsAre(Tokens{1, 2, 3, 4}, Tokens{2, 3}, Tokens{2}, Tokens{2}));
}

TEST(Wait, ATimeThatIsOverGivesWhatIsKnown) {
  Jobs jobs{{{1, "available"}, {2, "expired"}}};
  auto const got = produce::wait_for(
      Tokens{1, 2}, 0ms, [&](auto ids) { return jobs(ids); },
      [](auto, auto) {
        ADD_FAILURE() << "0 looks once";
        return false;
      });
  EXPECT_THAT(states(got), ElementsAre("available", "expired"));
  EXPECT_FALSE(got[0].ended());
  EXPECT_TRUE(got[1].ended());
  EXPECT_THAT(produce::wait_for(
                  {}, 1h, [&](auto ids) { return jobs(ids); }, [](auto, auto) { return false; }),
              IsEmpty());
}

TEST(Wait, AfterAWakeUpThePausesBeginAnew) {
  Jobs jobs{{{1, "running"}}};
  std::vector<std::int64_t> pauses;
  produce::wait_for(
      Tokens{1}, 1h, [&](auto ids) { return jobs(ids); },
      [&](auto pause, auto) {
        pauses.push_back(pause.count());
        if (pauses.size() == 5) jobs.states[1] = "succeeded";
        return pauses.size() == 3;
      });
  EXPECT_THAT(pauses, ElementsAre(5, 7, 10, 5, 7));
}

TEST(Wait, AsksForAThousandAtATimeAndRefusesTooMany) {
  Tokens ids(2500);
  Jobs jobs;
  for (std::size_t i = 0; i < ids.size(); ++i) jobs.states[ids[i] = static_cast<std::int64_t>(i + 1)] = "succeeded";
  auto const look = [&](auto some) { return jobs(some); };
  EXPECT_EQ(produce::wait_for(ids, 1h, look, [](auto, auto) { return false; }).size(), 2500U);
  ASSERT_EQ(jobs.looks.size(), 3U);
  EXPECT_EQ(jobs.looks[2].size(), 500U);
  EXPECT_THROW(produce::wait_for(Tokens(produce::most_waited_for + 1), 1h, look, [](auto, auto) { return false; }),
               InvalidArgument);
  EXPECT_THROW(produce::wait_for(ids, -1ms, look, [](auto, auto) { return false; }), InvalidArgument);
}

}  // namespace
}  // namespace posthouse
