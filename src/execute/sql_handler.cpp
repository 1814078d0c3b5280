// SPDX-License-Identifier: Apache-2.0
#include "execute/sql_handler.hpp"

#include <utility>

#include <posthouse/error.hpp>

#include "core/text.hpp"

namespace posthouse::execute {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMostMessage = 64 * 1024;
constexpr std::string_view kCancelled = "57014";
constexpr std::string_view kNotSupported = "0A000";

}  // namespace

Handler sql_handler(std::vector<std::string> statements, std::shared_ptr<SqlRunner> runner) {
  return [statements = std::move(statements), runner = std::move(runner)](Job const& job) -> Outcome {
    try {
      runner->run(job, statements);
      return Success{};
    } catch (LeaseLost const&) {
      throw;
    } catch (Error const& error) {
      bool const late = job.deadline() && std::chrono::steady_clock::now() >= *job.deadline();
      if (error.sqlstate() == kCancelled && late) {
        return Failure{.type = "Timeout", .message = "the SQL ran into the timeout and was cancelled", .stack = {}};
      }
      // Stopped without a fault of its own; rolled back, so it may run again as if it never had.
      if (job.stop_token().stop_requested() && !error.in_doubt()) return Snooze{0ms};
      if (error.sqlstate().empty()) throw;
      std::string message = error.what();
      // plpgsql's words for COMMIT and the like mean nothing to somebody who wrote none of it.
      if (error.sqlstate() == kNotSupported && message.find("transaction command") != std::string::npos) {
        message += "; an SQL job is one transaction that posthouse ends: remove COMMIT, ROLLBACK and the like";
      }
      return Failure{
          .type = "SQLSTATE " + error.sqlstate(), .message = core::sanitise(message, kMostMessage), .stack = {}};
    }
  };
}

}  // namespace posthouse::execute
