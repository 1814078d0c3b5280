// SPDX-License-Identifier: Apache-2.0
// One fault at a time: what becomes of the jobs of a worker that is killed, paused or asked to leave.
#include <thread>

#include "concurrency/chaos_world.hpp"

namespace posthouse::test::chaos {
namespace {

constexpr milliseconds lease{1000};

class ChaosCrash : public ::testing::Test {
 protected:
  // The one that looks after the others; it runs nothing of theirs.
  std::unique_ptr<ChildProcess> leader() {
    auto process = world.worker({.name = "leader", .kinds = "other", .lease = lease});
    // A leader lets everybody beat before it declares anyone dead.
    EXPECT_TRUE(eventually([&] {
      return world.sql().number(
                 "select count(*) from posthouse.leader where since < clock_timestamp() - interval '1.1 s'") > 0;
    }));
    return process;
  }
  std::unique_ptr<ChildProcess> other_worker(std::string const& name, int concurrency = 1, int prefetch = 0) {
    return world.worker(
        {.name = name, .concurrency = concurrency, .prefetch = prefetch, .lease = lease, .duties = false});
  }
  ::testing::AssertionResult ends(std::int64_t u, std::string const& wanted = "succeeded") {
    return eventually([&] { return world.state(u) == wanted; }, patient(20s));
  }
  void everybody_leaves(std::initializer_list<ChildProcess*> all) {
    for (auto* process : all) EXPECT_EQ(leave(*process), 0) << process->errors();
    world.expect_nothing_left();
    world.expect_consistent();
  }

  World world{};
};

std::string text(std::int64_t number) { return std::to_string(number); }

// The worker sleeps through its lease while its handlers run; another one runs the jobs; then it wakes up.
TEST_F(ChaosCrash, ZombieIsToldAndCompletesNothing) {
  auto const guard = leader();
  auto const zombie = other_worker("zombie", 2);
  // One handler waits until it is told and then tries to complete; the other one looks at nothing and just tries.
  auto const told = world.enqueue("ledger", R"("how": "ledger", "manner": "told")");
  auto const deaf = world.enqueue("ledger", R"("how": "ledger", "manner": "deaf", "ms": 1500)");
  ASSERT_TRUE(world.happens("start", {{"u", text(told)}}));
  ASSERT_TRUE(world.happens("start", {{"u", text(deaf)}}));
  auto const pid = text(zombie->pid());
  zombie->pause();
  auto const paused = std::chrono::steady_clock::now();

  // Of another profile: the zombie may be the keeper of its own, whose idle workers then only look now and then.
  auto const heir =
      world.worker({.name = "heir", .kinds = "plain,ledger", .concurrency = 2, .lease = lease, .duties = false});
  ASSERT_TRUE(world.happens("start", {{"u", text(deaf)}, {"attempt", "2"}}));
  ASSERT_TRUE(world.happens("start", {{"u", text(told)}, {"attempt", "2"}}));
  ASSERT_TRUE(ends(deaf));
  std::this_thread::sleep_until(paused + 2 * lease);
  zombie->resume();

  // Both learn of it, by their stop token and by LeaseLost, and neither leaves a trace.
  EXPECT_TRUE(world.happens("end", {{"u", text(deaf)}, {"attempt", "1"}, {"how", "lost"}}));
  EXPECT_TRUE(world.happens("end", {{"u", text(told)}, {"attempt", "1"}, {"how", "lost"}, {"why", "told"}}));
  EXPECT_EQ(world.sql().number("select count(*) from chaos.effect where u = $1", deaf), 1);
  // The second attempt's, or a later one's when the heir was slow too.
  EXPECT_GT(world.sql().number("select attempt from chaos.effect where u = $1 and how = 'tx'", deaf), 1);
  EXPECT_TRUE(eventually([&] { return world.logged("lease_has_lapsed"); }));

  // It works again, as another incarnation.
  heir->terminate();
  heir->terminate();
  auto const next = world.enqueue("plain");
  EXPECT_TRUE(ends(next));
  heir->kill();
  EXPECT_EQ(world.events("start", {{"u", text(next)}}).size(), 1u);
  EXPECT_EQ(text(world.events("start", {{"u", text(next)}}).front().pid), pid);
}

TEST_F(ChaosCrash, KilledWorkersJobRunsAgainWithinLeaseAndTwoSeconds) {
  auto const guard = leader();
  auto const victim = other_worker("victim");
  auto const u = world.enqueue("slow", R"("ms": 3600000)");
  ASSERT_TRUE(world.happens("start", {{"u", text(u)}}));
  auto const heir = other_worker("heir");
  ASSERT_TRUE(
      eventually([&] { return world.sql().number("select count(*) from posthouse.worker where name = 'heir'") == 1; }));
  auto const killed = History::now();
  victim->kill();
  ASSERT_TRUE(world.happens("start", {{"u", text(u)}, {"attempt", "2"}}));
  auto const again = world.events("start", {{"u", text(u)}, {"attempt", "2"}}).front();
  auto const after = milliseconds((again.at - killed) / 1000);
  RecordProperty("rescued_after_ms", std::to_string(after.count()));
  std::printf("[    CHAOS ] ran again %lld ms after kill -9, with a lease of %lld ms\n",
              static_cast<long long>(after.count()), static_cast<long long>(lease.count()));
  // The crash is counted, once, and remembered.
  EXPECT_EQ(world.sql().column("select type from posthouse.attempt_error where job = $1", world.id(u)),
            std::vector<std::string>{"worker lost"});
  EXPECT_EQ(world.sql().one("select options ->> 'crashes' from posthouse.job where id = $1", world.id(u)), "1");
}

TEST_F(ChaosCrash, KilledWorkersPrefetchedJobsCountNoAttempt) {
  auto const guard = leader();
  auto const first = world.enqueue("slow", R"("ms": 3600000, "manner": "no")");
  std::vector<std::int64_t> rest;
  for (int i = 0; i < 30; ++i) rest.push_back(world.enqueue("slow"));
  auto const victim = other_worker("victim", 1, 100);
  ASSERT_TRUE(world.happens("start", {{"u", text(first)}}));
  ASSERT_TRUE(eventually([&] {
    return world.sql().number("select count(*) from posthouse.jobs where state = 'running'") == 31;
  })) << "the buffer did not take them";
  victim->kill();
  auto const heir = other_worker("heir", 3);
  for (auto const u : rest) ASSERT_TRUE(ends(u));
  ASSERT_TRUE(world.happens("start", {{"u", text(first)}, {"attempt", "2"}}));
  for (auto const u : rest) EXPECT_EQ(world.events("start", {{"u", text(u)}}).front().number("attempt"), 1) << u;
  EXPECT_EQ(world.sql().number("select count(*) from posthouse.attempt_error"), 1);
}

// Which worker leads makes no difference to whether, only to when.
TEST_F(ChaosCrash, KilledLeaderIsFollowedAndItsJobRunsAgain) {
  if (knob("POSTHOUSE_TEST_LONG", 0, 1) == 0)
    GTEST_SKIP() << "takes the ten seconds of a leader's term; scripts/test --long";
  auto const victim = world.worker({.name = "victim", .concurrency = 1, .lease = lease});
  auto const u = world.enqueue("slow", R"("ms": 3600000)");
  ASSERT_TRUE(world.happens("start", {{"u", text(u)}}));
  ASSERT_TRUE(eventually([&] { return world.sql().number("select count(*) from posthouse.leader") > 0; }));
  auto const heir = world.worker({.name = "heir", .concurrency = 1, .lease = lease});
  ASSERT_TRUE(
      eventually([&] { return world.sql().number("select count(*) from posthouse.worker where name = 'heir'") == 1; }));
  auto const killed = History::now();
  victim->kill();
  ASSERT_TRUE(world.happens("start", {{"u", text(u)}, {"attempt", "2"}}, 1, 40s));
  auto const again = world.events("start", {{"u", text(u)}, {"attempt", "2"}}).front();
  std::printf("[    CHAOS ] ran again %lld ms after kill -9 of the leader\n",
              static_cast<long long>((again.at - killed) / 1000));
}

TEST_F(ChaosCrash, TwentyOrderlyStopsUnderLoadBurnNothing) {
  std::vector<std::int64_t> all;
  auto const enqueue = [&](int count) {
    for (int i = 0; i < count; ++i) all.push_back(world.enqueue("plain", "\"ms\": " + text(2 + i % 20)));
  };
  enqueue(200);
  for (int i = 0; i < 20; ++i) {
    SCOPED_TRACE("stop " + text(i));
    enqueue(20);  // a machine that is slow to look may find all others done
    auto const begun = world.events("start").size();
    auto const worker =
        world.worker({.name = "w" + text(i), .concurrency = 3, .prefetch = i % 2 == 0 ? 50 : 0, .lease = lease});
    // In the middle of its work, or before it has any.
    std::size_t const wanted = i % 5 == 4 ? 0 : begun + static_cast<std::size_t>(i) + 1;
    ASSERT_TRUE(eventually([&] { return world.events("start").size() >= wanted; }));
    int const status = leave(*worker);
    // The signal may come before its handler is there.
    EXPECT_TRUE(status == 0 || (wanted == 0 && status == 128 + SIGTERM)) << status << worker->errors();
    EXPECT_EQ(world.sql().number("select count(*) from posthouse.batch where closed_at is null"), 0);
    EXPECT_EQ(world.sql().number("select count(*) from posthouse.jobs where state = 'running'"), 0);
  }
  enqueue(1);  // nobody but the last one can run it: when it has, its handler of signals is there
  auto const last = world.worker({.name = "last", .concurrency = 5, .lease = lease});
  EXPECT_TRUE(eventually([&] { return world.unfinished() == 0; }, patient(30s)));
  everybody_leaves({last.get()});
  // Each ran once, as its first attempt.
  EXPECT_EQ(world.events("start").size(), all.size());
  EXPECT_EQ(world.events("start", {{"attempt", "1"}}).size(), all.size());
  EXPECT_EQ(world.sql().number("select count(*) from posthouse.attempt_error"), 0);
}

TEST_F(ChaosCrash, SecondStopSignalGivesBackAtOnce) {
  auto const u = world.enqueue("slow", R"("ms": 3600000)");
  auto const worker = world.worker({.name = "w", .concurrency = 1, .lease = lease, .grace = 60s});
  ASSERT_TRUE(world.happens("start", {{"u", text(u)}}));
  worker->terminate();
  EXPECT_FALSE(worker->wait(500ms)) << "the handler still has time";
  EXPECT_TRUE(world.events("end", {{"u", text(u)}}).empty());
  worker->terminate();
  EXPECT_EQ(worker->wait(patient(30s)).value_or(-1), 0) << worker->errors();
  EXPECT_EQ(world.events("end", {{"u", text(u)}, {"how", "stopped"}}).size(), 1u);
  EXPECT_EQ(world.state(u), "available");
  EXPECT_EQ(world.sql().number("select count(*) from posthouse.attempt_error"), 0);
  // The attempt is handed out again.
  auto const heir = world.worker({.name = "heir", .lease = lease});
  EXPECT_TRUE(world.happens("start", {{"u", text(u)}, {"attempt", "1"}}, 2));
}

}  // namespace
}  // namespace posthouse::test::chaos
