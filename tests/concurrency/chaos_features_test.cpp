// SPDX-License-Identifier: Apache-2.0
// The judge of limits, keys, dedupe keys, schedules and results: each contradiction that it must see, in a history made
// up for it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "concurrency/chaos_features.hpp"

namespace posthouse::test::chaos {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// Job u has id 100 + u; a run's token is its worker, a dot and the number of the run.
class Story {
 public:
  Story& enqueue(std::int64_t u, std::string const& key = {}, std::string const& dedupe = {}) {
    add("invoke", {{"op", text(u)}, {"u", text(u)}, {"key", key}, {"dedupe", dedupe}});
    return add("ok", {{"op", text(u)}, {"ids", text(100 + u)}});
  }
  Story& start(std::int64_t u, std::string const& kind, std::int64_t worker = 1, int attempt = 1) {
    token_ = text(worker) + "." + text(++runs_);
    evidence_.ends.try_emplace(worker, "stopped");
    return add("start", {{"u", text(u)}, {"kind", kind}, {"token", token_}, {"attempt", text(attempt)}}, worker);
  }
  Story& end(std::string const& how = "done", std::string const& token = {}) {
    return add("end", {{"token", token.empty() ? token_ : token}, {"how", how}});
  }
  Story& result(std::string const& hash) { return add("result", {{"token", token_}, {"sha256", hash}}); }
  Story& in_transaction(std::int64_t u) {
    evidence_.effects.push_back({.u = u, .job = 100 + u, .attempt = 1, .token = token_, .how = "tx"});
    return *this;
  }
  Story& succeeded(std::int64_t u, std::string const& hash, int attempt = 1) {
    evidence_.jobs.push_back({.id = 100 + u, .u = u, .state = "succeeded", .attempt = attempt});
    if (!hash.empty()) evidence_.results[100 + u] = hash;
    return *this;
  }
  Story& tick(int second, std::int64_t job) { return add("tick", {{"tick", at(second)}, {"job", text(job)}}); }
  Story& fired(int second, std::int64_t job, std::string const& state = "succeeded") {
    evidence_.ticked[job] = {.tick = at(second), .state = state};
    evidence_.last_tick = at(second);
    return *this;
  }
  Story& lose(std::int64_t worker) {
    evidence_.ends[worker] = "lease lapsed";
    return *this;
  }
  Story& ask_to_leave(std::int64_t pid) { return add("fault", {{"kind", "term"}, {"pid", text(pid)}}); }
  [[nodiscard]] std::vector<std::string> wrong() const {
    std::map<std::string, std::int64_t> counts;
    return judge_features(evidence_, counts);
  }

 private:
  static std::string text(std::int64_t number) { return std::to_string(number); }
  static std::string at(int second) { return "2030-01-01T00:00:0" + text(second) + ".500000Z"; }
  Story& add(std::string what, std::map<std::string, std::string> fields, std::int64_t pid = 1) {
    evidence_.history.push_back({.at = now_ += 1000, .pid = pid, .what = std::move(what), .fields = std::move(fields)});
    return *this;
  }

  Evidence evidence_{};
  std::int64_t now_ = 1'000'000'000;
  std::int64_t runs_ = 0;
  std::string token_{};
};

#define EXPECT_BLAMED(story, words) EXPECT_THAT((story).wrong(), Contains(HasSubstr(words)))
#define EXPECT_FINE(story) EXPECT_THAT((story).wrong(), IsEmpty())

TEST(ChaosFeatures, Limits) {
  auto const three = [] { return Story().start(1, "limited").start(2, "limited").start(3, "limited"); };
  auto const all_end = [](Story story) { return story.end("done", "1.1").end("done", "1.2").end("done", "1.3"); };
  EXPECT_BLAMED(all_end(three()), "3 at once, the limit of its kind allows 2");
  EXPECT_FINE(Story().start(1, "limited").start(2, "limited").end().start(3, "limited").end().end("done", "1.1"));
  // Nobody knows how long these held their place.
  EXPECT_FINE(all_end(three()).lose(1));
  EXPECT_FINE(all_end(three().ask_to_leave(1)));
  EXPECT_FINE(three().end());
}

TEST(ChaosFeatures, Keys) {
  auto const two = [] { return Story().enqueue(1, "a").enqueue(2, "a"); };
  EXPECT_FINE(two().start(1, "keyed").end().start(2, "keyed").end());
  EXPECT_FINE(Story().enqueue(1, "a").enqueue(2, "b").start(2, "keyed").start(1, "keyed").end().end("done", "1.1"));
  EXPECT_BLAMED(two().start(1, "keyed").start(2, "keyed", 2).end().end("done", "1.1"), "the key a allows 1");
  EXPECT_BLAMED(two().start(2, "keyed").end().start(1, "keyed").end(), "started before u=1 of its key a");
  // The worker that began the first was lost; the place in the order is that of the first start.
  EXPECT_FINE(two().start(1, "keyed").start(1, "keyed", 2, 2).end().start(2, "keyed", 2).end().lose(1));
}

TEST(ChaosFeatures, DedupeKeys) {
  EXPECT_FINE(Story().enqueue(1, "", "a").start(1, "unique").end().enqueue(2, "", "a").start(2, "unique").end());
  EXPECT_FINE(Story().enqueue(1, "", "a").enqueue(2, "", "b").start(1, "unique").start(2, "unique"));
  EXPECT_BLAMED(Story().enqueue(1, "", "a").enqueue(2, "", "a").start(1, "unique").end().start(2, "unique").end(),
                "u=2: made while u=1 of the dedupe key a was unfinished");
}

TEST(ChaosFeatures, Ticks) {
  auto const two = [] { return Story().fired(1, 7).fired(2, 8); };
  EXPECT_FINE(two().tick(1, 7).tick(2, 8));
  EXPECT_FINE(two().tick(2, 8).tick(1, 7).tick(1, 7));
  EXPECT_BLAMED(two().tick(1, 7).tick(1, 9).tick(2, 8), "ran as 2 jobs");
  EXPECT_BLAMED(two().tick(1, 7).tick(1, 9).tick(2, 8), "ran as job 9, which the engine has not for it");
  EXPECT_BLAMED(two().tick(1, 7), "02.500000Z never ran");
  EXPECT_BLAMED(Story().fired(1, 7).fired(3, 8).tick(1, 7).tick(3, 8), "are 2000000 us");
  EXPECT_BLAMED(Story().fired(1, 7, "failed").tick(1, 7), "is failed");
}

TEST(ChaosFeatures, Results) {
  EXPECT_FINE(Story().start(1, "plain").result("aa").end().succeeded(1, "aa"));
  EXPECT_BLAMED(Story().start(1, "plain").result("aa").end().succeeded(1, "ab"), "is not that of the run");
  EXPECT_BLAMED(Story().start(1, "plain").result("aa").end().succeeded(1, ""), "its result is gone");
  // That of an attempt that was not the last one, and of the one that was not completed.
  EXPECT_BLAMED(
      Story().start(1, "plain").result("aa").end().start(1, "plain", 2, 2).result("bb").end().succeeded(1, "aa", 2),
      "aa, not bb");
  auto const twice = [] {
    return Story().start(1, "ledger").result("aa").end("lost").start(1, "ledger", 2).result("bb").in_transaction(1);
  };
  EXPECT_FINE(twice().succeeded(1, "bb"));
  EXPECT_BLAMED(twice().succeeded(1, "aa"), "aa, not bb");
}

}  // namespace
}  // namespace posthouse::test::chaos
