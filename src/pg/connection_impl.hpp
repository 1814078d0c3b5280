// SPDX-License-Identifier: Apache-2.0
// What the files of the connection share: the libpq handle and the waits around it.
//
// Private to src/pg. Thread safety: as Connection, one thread at a time.
#pragma once

#include <libpq-fe.h>
#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <posthouse/pool.hpp>

#include "pg/connection.hpp"
#include "pg/error.hpp"
#include "pg/lineage.hpp"

namespace posthouse::pg {

struct ClearResult {
  void operator()(PGresult* result) const noexcept { PQclear(result); }
};
using ResultPtr = std::unique_ptr<PGresult, ClearResult>;

/// Waits for events on a socket; false when the deadline passed first.
bool wait_socket(int fd, short events, Clock::time_point deadline);

struct Connection::Impl {
  PGconn* conn = nullptr;
  pid_t owner = 0;
  std::string schema{};
  std::chrono::milliseconds deadline{30000};     ///< on each statement, ours
  std::chrono::milliseconds server_deadline{0};  ///< what the server was told; 0: nothing
  ServerMessage farewell{};            ///< what the server said when it ended the session between two statements
  bool pooled = false;                 ///< behind a transaction pooler, or lent: no session state
  std::shared_ptr<Lineage> lineage{};  ///< null: the server did not tell, or is a standby
  std::int64_t timeline = 0;
  std::vector<Notification> notifications{};
  std::unordered_map<std::string, std::string> prepared{};  ///< text → name
  Clock::time_point sent_until{};                           ///< deadline of what send_prepared() sent
  std::string sent{};                                       ///< its text
  struct Piped {
    std::string sql{};
    Clock::time_point until{};
  };
  std::deque<Piped> piped{};           ///< sent by pipe() and not answered, oldest first
  std::string error_context{};         ///< of the last error of the server
  std::vector<std::string> notices{};  ///< kept for who asked for them
  std::size_t notices_left = 0;        ///< bytes that may still be kept
  std::size_t notices_dropped = 0;
  std::size_t answer_most = 0;           ///< bytes of an answer; 0: no limit
  std::uint64_t answer_began = 0;        ///< received() when the statement began
  std::uint64_t unix_received = 0;       ///< an upper bound, where the kernel does not count
  std::unique_ptr<Borrowed> borrowed{};  ///< whose conn or executor it is; null: conn is ours
  Executor* executor = nullptr;          ///< instead of conn
  bool executor_block = false;           ///< it is inside a transaction
  bool executor_failed = false;          ///< which has failed
  bool was_nonblocking = false;          ///< a borrowed conn
  bool listener = false;                 ///< borrowed for LISTEN
  bool look_first = false;               ///< look_later()
  bool found_dead = false;
  std::shared_ptr<EchoTo const> echo{};

  Impl() = default;
  Impl(Impl const&) = delete;
  Impl& operator=(Impl const&) = delete;
  ~Impl() { close(); }

  void close() noexcept;
  /// Throws when the connection is closed, broken or belongs to the parent process.
  void check_usable();
  [[nodiscard]] bool in_block() const noexcept;
  void drain_notifications();
  /// Receives the server's notices: silent, but for the one that ends the session.
  void listen_to_notices() noexcept;
  void keep_notice(PGresult const* notice, char const* severity);
  /// Bytes that have come in so far.
  std::uint64_t received();
  /// Before input is consumed: throws when the answer has become too large.
  void check_answer(bool in_doubt);
  [[nodiscard]] bool open() const noexcept {
    return executor != nullptr || (conn != nullptr && PQstatus(conn) == CONNECTION_OK && !ended() && !outdated());
  }
  [[nodiscard]] bool ended() const noexcept { return !farewell.text.empty(); }
  /// Another connection of this process has found the server that was promoted instead of this one.
  [[nodiscard]] bool outdated() const noexcept { return lineage && timeline < lineage->highest(); }

  /// Deadline of a statement that starts now; tells the server when it must allow more than before.
  Clock::time_point start_statement();
  /// After a successful PQsend…: flushes.
  void flush(Clock::time_point until, bool in_doubt);
  /// All results up to the end of the statement (or to a COPY state); throws the first error of the server.
  ResultPtr collect(Clock::time_point until, bool in_doubt);
  /// Sends by `send` and collects. `ends_block` for COMMIT, whose loss is in doubt although it is inside a block.
  template <class Send>
  ResultPtr run(Send send, bool ends_block = false) {
    bool const in_doubt = ends_block || (conn != nullptr && !in_block());
    return collect(start(send, in_doubt), in_doubt);
  }
  /// The first half of run(): returns the deadline.
  template <class Send>
  Clock::time_point start(Send send, bool in_doubt) {
    check_usable();
    if (!piped.empty()) throw InvalidArgument("statements are on their way on this connection: receive them first");
    if (look_first) look();
    drain_notifications();
    auto const until = start_statement();
    if (answer_most > 0) answer_began = received();
    if (send() == 0) lost(false);
    flush(until, in_doubt);
    return until;
  }

  /// Throws when the server has closed the connection meanwhile.
  void look();
  bool alive() noexcept;
  void give_back_borrowed() noexcept;
  ResultPtr by_executor(std::string const& sql, std::vector<Params::Value> const& params);
  /// Runs it, and tells of it.
  template <class Run>
  auto echoed(std::string_view sql, std::size_t values, Run run) {
    if (!echo) return run();
    auto const began = Clock::now();
    auto const tell = [&](std::int64_t rows, std::string_view problem) {
      auto const took = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - began);
      (*echo)({.sql = sql, .values = values, .took = took, .rows = rows, .problem = problem});
    };
    try {
      auto result = run();
      tell(rows_of(result), {});
      return result;
    } catch (Error const& error) {
      tell(0, error.sqlstate().empty() ? std::string_view("connection") : std::string_view(error.sqlstate()));
      throw;
    }
  }
  static std::int64_t rows_of(ResultPtr const& result) noexcept;
  static std::int64_t rows_of(std::int64_t rows) noexcept { return rows; }

  [[noreturn]] void lost(bool in_doubt);
  [[noreturn]] void too_late(bool in_doubt);

  ResultPtr simple(std::string const& sql, bool ends_block = false);
  /// See Connection::pipe.
  bool pipe(std::string const& sql, std::vector<Params::Value> const& params, Format format);
  ResultPtr answer();
  /// The name under which the statement is prepared, which happens the first time.
  std::string const& prepare(std::string const& sql);
  void forget(std::string const& sql, bool deallocate);
  /// PQsend… of a statement, prepared when `name` is given.
  int send(std::string const& sql, char const* name, std::vector<Params::Value> const& params, Format format);
  ResultPtr exec(std::string const& sql, char const* name, std::vector<Params::Value> const& params, Format format);
  /// Once, when connected: session state, and who the server is.
  void introduce(std::string const& url);
  /// What a session of ours has set.
  [[nodiscard]] std::string session_settings() const;
  ResultPtr exec_now(std::string const& sql, char const* name, std::vector<Params::Value> const& params, Format format);
};

}  // namespace posthouse::pg
