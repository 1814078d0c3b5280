// SPDX-License-Identifier: Apache-2.0
// The judge itself: each contradiction that it must see, in a history made up for it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "concurrency/chaos_judge.hpp"

namespace posthouse::test::chaos {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Writes a history step by step. Job u has id 100 + u.
class Story {
 public:
  explicit Story(std::int64_t jobs = 1, std::string const& how = "single", std::string const& result = "ok") {
    std::vector<std::int64_t> us, ids;
    for (std::int64_t u = 1; u <= jobs; ++u) {
      us.push_back(u);
      ids.push_back(100 + u);
    }
    add("invoke", {{"op", "1"}, {"how", how}, {"u", joined(us)}});
    if (result != "doubt") add(result, {{"op", "1"}, {"ids", joined(ids)}});
  }
  Event& add(std::string what, std::map<std::string, std::string> fields, std::int64_t pid = 1) {
    evidence.history.push_back({.at = now += 1000, .pid = pid, .what = std::move(what), .fields = std::move(fields)});
    return evidence.history.back();
  }
  /// A run by worker w (process w); `how` empty: it never ends.
  Story& run(int attempt, std::int64_t worker, std::string const& how, std::int64_t u = 1) {
    start(attempt, worker, u);
    if (!how.empty()) end(how);
    return *this;
  }
  Story& start(int attempt, std::int64_t worker, std::int64_t u = 1) {
    token = std::to_string(worker) + "." + std::to_string(++claims) + ".0";
    tokens.push_back(token);
    std::string const id = std::to_string(100 + u);
    add("start", {{"u", std::to_string(u)}, {"job", id}, {"attempt", std::to_string(attempt)}, {"token", token}},
        worker);
    evidence.ends.try_emplace(worker, "stopped");
    return *this;
  }
  Story& end(std::string const& how, std::string const& whose = {}) {
    add("end", {{"token", whose.empty() ? token : whose}, {"how", how}});
    return *this;
  }
  Story& effect(std::string const& how, int attempt = 1, std::int64_t u = 1) {
    evidence.effects.push_back({.u = u, .job = 100 + u, .attempt = attempt, .token = token, .how = how});
    return *this;
  }
  Story& engine(std::string const& state, int attempt, std::int64_t u = 1) {
    evidence.jobs.push_back({.id = 100 + u, .u = u, .state = state, .attempt = attempt});
    return *this;
  }
  Story& error(int attempt, std::int64_t worker, std::string const& type = "std::runtime_error") {
    evidence.errors.push_back({.job = 101, .attempt = attempt, .type = type, .worker = worker});
    return *this;
  }
  Story& lose(std::int64_t worker) {
    evidence.ends[worker] = "lease lapsed";
    return *this;
  }
  Story& crash() {
    add("fault", {{"kind", "immediate"}, {"from", std::to_string(now)}});
    return *this;
  }
  [[nodiscard]] std::vector<std::string> violations() const { return judge(evidence).violations; }

  Evidence evidence{};
  std::int64_t now = 1'000'000'000;
  int claims = 0;
  std::string token{};
  std::vector<std::string> tokens{};
};

#define EXPECT_BLAMED(story, words) EXPECT_THAT((story).violations(), Contains(HasSubstr(words)))
#define EXPECT_FINE(story) EXPECT_THAT((story).violations(), IsEmpty())

TEST(ChaosJudge, AcceptsWhatMayHappen) {
  EXPECT_FINE(Story().run(1, 1, "done").engine("succeeded", 1));
  EXPECT_FINE(Story().run(1, 1, "failed").run(2, 2, "done").error(1, 1).engine("succeeded", 2));
  EXPECT_FINE(Story().run(1, 1, "snoozed").run(1, 2, "done").engine("succeeded", 1));
  EXPECT_FINE(Story().run(1, 1, "").lose(1).run(2, 2, "done").error(1, 1, "worker lost").engine("succeeded", 2));
  EXPECT_FINE(Story().run(1, 1, "discarded").error(1, 1, "discarded").engine("failed", 1));
  EXPECT_FINE(Story().run(1, 1, "completed").effect("tx").engine("succeeded", 1));
  EXPECT_FINE(Story().run(1, 1, "doubt").effect("tx").engine("succeeded", 1));
  // It died after its commit and before it could say so.
  EXPECT_FINE(Story().run(1, 1, "").effect("tx").lose(1).engine("succeeded", 1));
  // The acknowledgement was lost with the worker: done twice, as at-least-once allows.
  EXPECT_FINE(Story().run(1, 1, "done").lose(1).run(2, 2, "done").error(1, 1, "worker lost").engine("succeeded", 2));
  // An unflushed claim vanished in a crash of the server.
  EXPECT_FINE(Story().run(1, 1, "done").crash().run(1, 2, "done").engine("succeeded", 1));
  EXPECT_FINE(Story(3, "many", "doubt"));
  EXPECT_FINE(Story(1, "transaction", "rolled_back"));
}

TEST(ChaosJudge, SeesWhatIsLost) {
  EXPECT_BLAMED(Story(), "acknowledged and lost");
  EXPECT_BLAMED(Story().engine("available", 0), "did not end");
  EXPECT_BLAMED(Story().engine("succeeded", 1), "no run of its last attempt");
  EXPECT_BLAMED(Story().run(1, 1, "failed").engine("succeeded", 1), "no run of its last attempt");
  EXPECT_BLAMED(Story().run(1, 1, "failed").error(1, 1).engine("failed", 1), "failed for good after 1 attempts");
}

TEST(ChaosJudge, SeesWhatComesFromNowhere) {
  EXPECT_BLAMED(Story().run(1, 1, "done").engine("succeeded", 1).run(1, 1, "done", 2), "a job from nowhere");
  EXPECT_BLAMED(Story().run(1, 1, "done").engine("succeeded", 1).engine("succeeded", 1, 2), "a job from nowhere");
  EXPECT_BLAMED(Story(1, "single", "refused").run(1, 1, "done").engine("succeeded", 1), "refused, and yet");
  EXPECT_BLAMED(Story(1, "transaction", "rolled_back").run(1, 1, "done"), "rolled_back, and yet");
  EXPECT_BLAMED(Story(1, "single", "doubt").run(1, 1, "done"), "the engine does not know it");
  EXPECT_BLAMED(Story(1, "transaction", "doubt").run(1, 1, "done").engine("succeeded", 1), "only one of them is there");
  EXPECT_BLAMED(Story(2, "many", "doubt").run(1, 1, "done").engine("succeeded", 1), "enqueued in part");
  Story twice;
  twice.run(1, 1, "done").engine("succeeded", 1);
  twice.evidence.jobs.push_back({.id = 77, .u = 1, .state = "succeeded", .attempt = 1});
  EXPECT_BLAMED(twice, "as two jobs");
}

TEST(ChaosJudge, SeesWrongTransactionalEffects) {
  EXPECT_BLAMED(Story().run(1, 1, "completed").engine("succeeded", 1), "its effect is gone");
  EXPECT_BLAMED(Story().run(1, 1, "completed").effect("tx").effect("tx").engine("succeeded", 1), "is there 2 times");
  // A zombie's completion was accepted beside that of the one who took over.
  EXPECT_BLAMED(Story()
                    .run(1, 1, "completed")
                    .effect("tx")
                    .lose(1)
                    .run(2, 2, "completed")
                    .effect("tx", 2)
                    .error(1, 1, "worker lost")
                    .engine("succeeded", 2),
                "is there 2 times");
  EXPECT_BLAMED(Story().run(1, 1, "lost").effect("tx").lose(1).engine("succeeded", 1), "told that its lease is lost");
  EXPECT_BLAMED(Story().run(1, 1, "completed").effect("tx").run(1, 2, "completed").engine("succeeded", 1),
                "ran again after its completion was committed");
  EXPECT_BLAMED(Story().run(1, 1, "completed").effect("tx").error(1, 1, "x").engine("failed", 1),
                "failed, and its transactional");
}

TEST(ChaosJudge, SeesWrongCounts) {
  EXPECT_BLAMED(Story().run(1, 1, "snoozed").run(2, 2, "done").engine("succeeded", 2),
                "1 attempts used up for 0 reasons");
  EXPECT_BLAMED(Story().run(1, 1, "snoozed").run(2, 2, "done").error(1, 1, "x").engine("succeeded", 2),
                "no handler failed");
  EXPECT_BLAMED(Story().run(1, 1, "failed").run(1, 2, "done").engine("succeeded", 1),
                "handed out again without a reason");
  EXPECT_BLAMED(Story().run(1, 1, "done").run(1, 2, "done").engine("succeeded", 1),
                "handed out again without a reason");
  EXPECT_BLAMED(Story().run(1, 1, "failed").run(3, 2, "done").error(1, 1).error(1, 1).engine("succeeded", 3),
                "not counted 1, 2, 3");
  EXPECT_BLAMED(Story().run(1, 1, "stopped").run(2, 2, "done").error(1, 1, "worker lost").engine("succeeded", 2),
                "a worker that was not lost");
  EXPECT_BLAMED(Story().run(2, 1, "done").engine("succeeded", 1), "beyond the last one");
}

TEST(ChaosJudge, SeesJobsThatRunTwice) {
  EXPECT_BLAMED(Story().run(1, 1, "done").error(1, 1, "x").run(2, 2, "done").engine("succeeded", 2),
                "ran again after it was done");
  Story both;
  both.start(1, 1).start(1, 2).end("done", both.tokens[0]).end("done", both.tokens[1]).engine("succeeded", 1);
  EXPECT_BLAMED(both, "two handlers had it at once");
}

}  // namespace
}  // namespace posthouse::test::chaos
