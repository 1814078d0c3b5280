// SPDX-License-Identifier: Apache-2.0
// The handler behind `sql`: statements and the job's completion in one transaction.
//
// This room knows no database, so what runs them is an interface; src/node supplies it.
// Thread safety: the handler may be called from any number of threads, if its SqlRunner may.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <posthouse/job.hpp>

#include "execute/run.hpp"

namespace posthouse::execute {

class SqlRunner {
 public:
  SqlRunner() = default;
  SqlRunner(SqlRunner const&) = delete;
  SqlRunner& operator=(SqlRunner const&) = delete;
  virtual ~SqlRunner() = default;

  /// Runs the statements, completes the job and commits; throws when none of it happened. Ends early when the job is
  /// asked to stop.
  virtual void run(Job const& job, std::vector<std::string> const& statements) = 0;
};

Handler sql_handler(std::vector<std::string> statements, std::shared_ptr<SqlRunner> runner);

}  // namespace posthouse::execute
