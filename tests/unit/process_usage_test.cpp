// SPDX-License-Identifier: Apache-2.0
#include "base/process_usage.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>

namespace posthouse::base {
namespace {

TEST(ProcessUsage, AStatLineWhateverTheNameIs) {
  EXPECT_EQ(cpu_ticks_of("7 (a) b) (c) S 1 7 7 0 -1 4194560 1 0 0 0 100 20 3 4 20 0 1 0 55 1 1"), 127);
  EXPECT_EQ(cpu_ticks_of("7 (a) S 1 7"), 0);
  EXPECT_EQ(cpu_ticks_of(""), 0);
  EXPECT_EQ(cpu_ticks_of("7 (a) S 1 7 7 0 -1 4194560 1 0 0 0 x 20 3 4"), 0);
}

TEST(ProcessUsage, OfThisProcessAndItsChildren) {
  auto const before = process_usage();
  EXPECT_GT(before.rss_bytes, 1 << 20);
  std::array<char const*, 3> arguments{"sleep", "600", nullptr};
  pid_t child = 0;
  ASSERT_EQ(::posix_spawnp(&child, "sleep", nullptr, nullptr, const_cast<char* const*>(arguments.data()), environ), 0);
  auto const with = process_usage();
  EXPECT_EQ(with.children, before.children + 1);
  EXPECT_GE(with.cpu_ms, before.cpu_ms);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(process_usage().children, before.children);
}

TEST(ProcessUsage, WhatChildrenThatHaveEndedUsedStays) {
  auto const before = process_usage().cpu_ms;
  pid_t const child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::alarm(60);
    timespec used{};
    do {
      ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    } while (used.tv_sec == 0 && used.tv_nsec < 200'000'000);
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  EXPECT_GE(process_usage().cpu_ms, before + 150);
}

}  // namespace
}  // namespace posthouse::base
