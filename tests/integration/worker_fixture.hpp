// SPDX-License-Identifier: Apache-2.0
// What the tests of Worker share: a database each, quick options, and a log that is shown when a test fails.
//
// Thread safety: log() from any thread, the rest from the test's.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <latch>
#include <memory>
#include <mutex>
#include <posthouse/posthouse.hpp>
#include <string>
#include <vector>

#include "support/engine.hpp"

namespace posthouse::test {

using namespace std::chrono_literals;

class WorkerTest : public EngineTest {
 protected:
  void TearDown() override {
    if (!HasFailure()) return;
    std::lock_guard const lock(log_mutex_);
    for (auto const& line : log_) std::fprintf(stderr, "  log: %s\n", line.c_str());
  }

  WorkerOptions quick() {
    WorkerOptions options;
    options.database = WorkerTest::options();
    options.concurrency = 2;
    options.heartbeat_interval = 200ms;
    options.stop_grace = 20s;
    options.logger = [this](LogRecord const& record) { note(record); };
    return options;
  }
  // Works what is there and leaves.
  WorkerStats work_once(Worker& worker) {
    worker.start();
    worker.wait();
    return worker.stats();
  }
  static HandlerOptions policy(int max_attempts, std::vector<milliseconds> delays = {0ms}) {
    HandlerOptions options;
    options.max_attempts = max_attempts;
    options.backoff = Backoff::fixed(std::move(delays));
    return options;
  }
  std::int64_t errors_of(std::int64_t id) {
    return sql.number("select count(*) from attempt_error where job = $1", id);
  }
  std::int64_t jobs_in(std::string const& wanted) {
    return sql.number("select count(*) from jobs where state = $1", wanted);
  }
  bool logged(std::string const& text) {
    std::lock_guard const lock(log_mutex_);
    for (auto const& line : log_) {
      if (line.find(text) != std::string::npos) return true;
    }
    return false;
  }

 private:
  void note(LogRecord const& record) {
    std::string line(record.message);
    for (auto const& [key, value] : record.fields) line += " " + key + "=" + value;
    std::lock_guard const lock(log_mutex_);
    log_.push_back(std::move(line));
  }

  std::mutex log_mutex_;
  std::vector<std::string> log_;
};

}  // namespace posthouse::test
