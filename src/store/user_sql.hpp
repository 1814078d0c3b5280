// SPDX-License-Identifier: Apache-2.0
// A transaction for SQL that users wrote as a job: the job's facts are settings local to it, and nothing in the SQL can
// end it early.
//
// Thread safety: as the Connection behind it, one thread at a time; cancel_backend() from any thread, on another
// connection.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <posthouse/transaction.hpp>

#include "pg/connection.hpp"

namespace posthouse::store {

/// What the statements see as current_setting('posthouse.job_id') and so on.
struct UserSqlFacts {
  std::int64_t job_id = 0;
  std::string_view kind{};
  std::string_view queue{};
  std::int64_t attempt = 1;
  std::string payload{};     ///< JSON text; for raw bytes '\x…', as bytea reads it
  std::string headers{};     ///< JSON object
  std::string user_login{};  ///< also the application_name of the transaction, unless empty
};

class UserSql {
 public:
  /// The deadline of `connection` must be longer than any statement may take.
  explicit UserSql(pg::Connection& connection) noexcept : connection_(connection) {}

  /// Returns the server process that runs the transaction, which behind a pooler is not the connection's own.
  int begin(UserSqlFacts const& facts);
  /// One or more statements. A timeout of zero means none. COMMIT, ROLLBACK and the like are refused by the server. The
  /// rows of a single statement are kept for result(), until they have more than `row_bytes` as JSON; 0: none are.
  void run(std::string_view statements, std::chrono::milliseconds timeout, std::size_t row_bytes = 0);
  /// Runs what the statements left for the commit (deferred constraints, cursors that outlive the transaction), so that
  /// the commit runs nothing of theirs.
  void settle();
  /// Rows that the last statement touched or returned; nothing when the statements have overwritten it.
  std::optional<std::int64_t> row_count();
  /// JSON: what the statements left in posthouse.result, else the rows that run() has kept, else how many rows the last
  /// of them touched or returned. Rows that had more than `row_bytes` are there in part, with more than that.
  std::string result();
  /// The open transaction, for Job::complete.
  [[nodiscard]] Transaction transaction() const;
  void commit();
  /// Rolls back what is open and takes away what the statements left in the session: settings, temporary tables,
  /// session locks. Not behind a transaction pooler, where the session is nobody's.
  void leave(bool session_is_ours) noexcept;

 private:
  pg::Connection& connection_;
};

/// Asks the server to end what that backend runs. False: there is no such backend of ours.
bool cancel_backend(pg::Connection& other, int backend_pid);
/// Ends that backend, whatever it does.
bool terminate_backend(pg::Connection& other, int backend_pid);

}  // namespace posthouse::store
