// SPDX-License-Identifier: Apache-2.0
// Waits for an outcome of other processes and threads: ASSERT_TRUE(eventually([&] { return …; }));
//
// For outcomes that nobody announces; where a signal exists, wait for the signal.
// Thread safety: a free function.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <thread>

namespace posthouse::test {

/// Asks again and again, at growing intervals of 1 to 50 ms, until `predicate` is true or the deadline has passed. It
/// is asked once more after the deadline, so that a machine that slept does not fail the test.
template <class Predicate>
::testing::AssertionResult eventually(Predicate predicate,
                                      std::chrono::milliseconds deadline = std::chrono::seconds(20)) {
  auto const start = std::chrono::steady_clock::now();
  std::chrono::milliseconds pause{1};
  for (;;) {
    bool const last = std::chrono::steady_clock::now() - start >= deadline;
    if (predicate()) return ::testing::AssertionSuccess();
    if (last) return ::testing::AssertionFailure() << "did not come true within " << deadline.count() << " ms";
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::milliseconds(50));
  }
}

/// True when `predicate` stays true for the whole time; for what must not happen.
template <class Predicate>
::testing::AssertionResult stays_true(Predicate predicate, std::chrono::milliseconds time) {
  auto const start = std::chrono::steady_clock::now();
  for (;;) {
    auto const passed = std::chrono::steady_clock::now() - start;
    if (!predicate()) {
      return ::testing::AssertionFailure()
             << "became false after " << std::chrono::duration_cast<std::chrono::milliseconds>(passed).count() << " ms";
    }
    if (passed >= time) return ::testing::AssertionSuccess();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

}  // namespace posthouse::test
