// SPDX-License-Identifier: Apache-2.0
// Real workers and clients under random faults; then everything that was written down is held against the engine.
//
// POSTHOUSE_CHAOS_SECONDS: length of the troubled time of each seed; POSTHOUSE_TEST_SEEDS: how many; see
// docs/internals/chaos.md.
#include <cstdio>

#include "concurrency/chaos_nemesis.hpp"

namespace posthouse::test::chaos {
namespace {

// What a run must have been through to prove anything.
void expect_it_was_worth_it(Verdict const& verdict, int seconds) {
  auto const count = [&](char const* what) {
    auto const it = verdict.counts.find(what);
    return it == verdict.counts.end() ? 0 : it->second;
  };
  EXPECT_GT(count("acknowledged"), 10 * seconds);
  EXPECT_GT(count("rolled_back"), 0);
  EXPECT_GT(count("transactional_effects"), 0);
  EXPECT_GT(count("snoozed"), 0);
  for (auto const* kind : {"started_limited", "started_keyed", "started_unique"}) EXPECT_GT(count(kind), 0);
  EXPECT_GT(count("results"), 0);
  EXPECT_GT(count("ticks"), seconds - 2);
}

void trouble(Seed& seed) {
  int const seconds = knob("POSTHOUSE_CHAOS_SECONDS", 12, 60);
  World world(durable_server());
  Nemesis nemesis(world, durable_server(), seed, {.time = std::chrono::seconds(seconds)});
  world.start_ticking();
  nemesis.run();
  // More time for more work: whoever froze the nemesis, and its gates, did not freeze the clients.
  ASSERT_TRUE(nemesis.drain(patient(30s) + world.unfinished() * patient(30ms)));
  nemesis.dismiss();
  world.expect_nothing_left();
  auto const verdict = world.expect_consistent();
  expect_it_was_worth_it(verdict, seconds);
  std::printf("[    CHAOS ] seed %llu, %d s: %s\n", static_cast<unsigned long long>(seed.value()), seconds,
              verdict.summary().c_str());
}

TEST(Chaos, NothingIsLostOrDoneTwiceUnderRandomFaults) {
  Seed first;
  trouble(first);
  for (int i = 1; i < knob("POSTHOUSE_TEST_SEEDS", 1, 8) && !::testing::Test::HasFailure(); ++i) {
    Seed another(first.value() + static_cast<std::uint64_t>(i));
    trouble(another);
  }
}

}  // namespace
}  // namespace posthouse::test::chaos
