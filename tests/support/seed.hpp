// SPDX-License-Identifier: Apache-2.0
// Random tests that can be run again: the seed is POSTHOUSE_TEST_SEED or a fresh one, and is printed.
//
//   Seed seed;                       // prints "[     SEED ] POSTHOUSE_TEST_SEED=…", again with each failure
//   auto n = seed.between(1, 10);
//   auto other = seed.fork();        // a generator of its own for a thread
// Thread safety: one thread at a time; give each thread its own generator.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <random>

namespace posthouse::test {

class Seed {
 public:
  using Generator = std::mt19937_64;

  Seed() : Seed(choose()) {}
  explicit Seed(std::uint64_t value);

  [[nodiscard]] std::uint64_t value() const noexcept { return value_; }
  [[nodiscard]] Generator& generator() noexcept { return generator_; }

  /// Evenly from low to high, both included.
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(generator_);
  }
  /// True with this probability.
  bool chance(double probability) { return std::bernoulli_distribution(probability)(generator_); }
  /// The same sequence of forks gives the same generators in each run, whatever the threads do.
  Generator fork() { return Generator(generator_()); }

 private:
  static std::uint64_t choose();

  std::uint64_t value_;
  Generator generator_;
  ::testing::ScopedTrace trace_;
};

}  // namespace posthouse::test
