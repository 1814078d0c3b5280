// SPDX-License-Identifier: Apache-2.0
// One connection to PostgreSQL: blocking calls, each with a deadline of its own.
//
// Only files of this room include libpq-fe.h. Calls use libpq's asynchronous interface under poll(), keep every result
// and drain notifications before each wait and after each result. A call that fails throws posthouse::Error; when the
// connection is no longer usable, ok() is false from then on. A deadline that passes in the middle of a statement
// closes the connection and says so with in_doubt.
// Thread safety: one thread at a time.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <posthouse/error.hpp>
#include <posthouse/options.hpp>

struct pg_result;
struct pg_conn;

namespace posthouse {
class ConnectionSource;
}

namespace posthouse::pg {

using Clock = std::chrono::steady_clock;

/// Rows of one statement. Fields are text or binary, as asked for.
class Result {
 public:
  explicit Result(pg_result* result) noexcept : result_(result) {}
  Result(Result&& other) noexcept : result_(std::exchange(other.result_, nullptr)) {}
  Result& operator=(Result&& other) noexcept {
    std::swap(result_, other.result_);
    return *this;
  }
  ~Result();

  [[nodiscard]] int rows() const noexcept;
  [[nodiscard]] int columns() const noexcept;
  [[nodiscard]] bool is_null(int row, int column) const noexcept;
  /// The field as sent: text, or the binary image. Valid as long as the Result.
  [[nodiscard]] std::string_view field(int row, int column) const noexcept;
  /// Number of rows that INSERT, UPDATE, DELETE or COPY touched.
  [[nodiscard]] std::int64_t affected() const noexcept;

  // Text fields
  [[nodiscard]] std::int64_t int8(int row, int column) const;  ///< throws ServerError when it is no integer
  [[nodiscard]] std::string text(int row, int column) const { return std::string(field(row, column)); }
  [[nodiscard]] std::optional<std::string> maybe(int row, int column) const {
    if (is_null(row, column)) return std::nullopt;
    return text(row, column);
  }
  // Binary fields, big-endian
  [[nodiscard]] std::int64_t binary_int8(int row, int column) const;
  [[nodiscard]] std::int32_t binary_int4(int row, int column) const;
  /// jsonb's binary form without its version byte.
  [[nodiscard]] std::string_view binary_jsonb(int row, int column) const;
  [[nodiscard]] std::string binary_bytea(int row, int column) const;

 private:
  [[nodiscard]] bool is_text(int column) const noexcept;
  pg_result* result_;
};

/// Parameters $1…$n, sent as text unless said; a text with a NUL byte or invalid UTF-8 throws InvalidArgument.
class Params {
 public:
  Params& null();
  Params& text(std::string_view value);
  Params& text(std::string const& value) { return text(std::string_view(value)); }
  Params& text(char const* value) { return text(std::string_view(value)); }
  Params& text(std::optional<std::string> const& value);
  Params& int8(std::int64_t value);
  Params& boolean(bool value);
  Params& bytea(std::string_view value);                     ///< binary
  Params& int8_array(std::span<std::int64_t const> values);  ///< bigint[]
  Params& int4_array(std::span<int const> values);           ///< int[]
  Params& text_array(std::span<std::string const> values);   ///< text[]
  Params& text_array(std::span<std::optional<std::string> const> values);

 private:
  friend class Connection;
  struct Value {
    std::optional<std::string> data;
    bool binary = false;
  };
  std::vector<Value> values_;
};

enum class Format { text, binary };

struct Notification {
  std::string channel;
  std::string payload;
};

/// One statement that ended, for a log.
struct Echo {
  std::string_view sql{};
  std::size_t values = 0;
  std::chrono::microseconds took{0};
  std::int64_t rows = 0;
  std::string_view problem{};  ///< SQLSTATE, or "connection"; empty: none
};
using EchoTo = std::function<void(Echo const&)>;

class Connection {
 public:
  /// Connects within options.connect_timeout per host. Text is UTF-8; in session mode the isolation level and the
  /// server's own time-outs are set too, behind a transaction pooler nothing is. search_path is never touched:
  /// statements qualify what they name with quoted_schema(). Throws Unavailable or InvalidArgument.
  static std::unique_ptr<Connection> open(DatabaseOptions const& options);
  /// The same to options.session_database_url (or database_url when empty), for LISTEN.
  static std::unique_ptr<Connection> open_session(DatabaseOptions const& options);
  /// For LISTEN: options.listen, or open_session(). A borrowed one listens to nothing when it is given back.
  static std::unique_ptr<Connection> open_listener(DatabaseOptions const& options);
  /// One of the caller's own, given back by the destructor. No session state is set on it, and nothing is prepared.
  static std::unique_ptr<Connection> borrow(ConnectionSource& source, DatabaseOptions const& options,
                                            std::chrono::milliseconds timeout);
  ~Connection();

  /// One statement with parameters, unnamed; autocommit unless inside begin()…commit().
  Result query(std::string const& sql, Params const& params = {}, Format format = Format::text);
  /// The same, prepared once per connection under a name made from the text; plain query() behind a transaction pooler.
  Result prepared(std::string const& sql, Params const& params = {}, Format format = Format::text);
  /// The same in two steps, so that the caller works while the server does; nothing else may be asked in between. False:
  /// not possible on this connection, nothing was sent.
  bool send_prepared(std::string const& sql, Params const& params = {}, Format format = Format::text);
  Result receive();
  /// Several statements on their way at once, each a transaction of its own, answered in order: the next one need not wait
  /// for a round trip. Until all have been received nothing else may be asked. False: not possible now, nothing was sent.
  bool pipe(std::string const& sql, Params const& params = {}, Format format = Format::text);
  /// The answer to the oldest of them. Throws as query() does; after an error of the server the others go on.
  Result piped();
  /// Whether piped() has an answer, or the loss of the connection, without waiting.
  [[nodiscard]] bool piped_ready();
  [[nodiscard]] int socket() const noexcept;  ///< to poll; -1: closed
  /// Several statements at once, no parameters (one implicit transaction unless it says otherwise).
  void script(std::string const& sql);

  void begin();
  void commit();  ///< throws with in_doubt when the reply is lost
  void rollback() noexcept;

  /// COPY … FROM STDIN: calls `produce` for chunks until it returns an empty one. Returns rows copied.
  std::int64_t copy_in(std::string const& sql, std::function<std::string_view()> const& produce);
  [[nodiscard]] bool can_copy() const noexcept;

  /// Waits for a notification, for `wake_fd` or `other_fd` to become readable, or for the deadline; returns what has
  /// arrived. Notifications that came in during other calls are returned first, at once. -1: none.
  std::vector<Notification> wait(int wake_fd, Clock::time_point deadline, int other_fd = -1);

  /// Asks the server to cancel the statement that runs when it is called; from any thread, also when this connection
  /// is gone. Does nothing when it cannot reach the server.
  [[nodiscard]] std::function<void()> canceller() const;

  /// Shuts the connection down from any thread, so that the thread that waits for an answer finds it lost.
  [[nodiscard]] std::function<void()> breaker() const;

  /// Keeps the server's notices from now on, at most `most_bytes` of text; forgets what was kept. 0: keeps none.
  void keep_notices(std::size_t most_bytes);
  /// "NOTICE: text", oldest first; a last one says how many more there were.
  [[nodiscard]] std::vector<std::string> notices() const;
  /// Position and context of the server's last error, for people; may be empty.
  [[nodiscard]] std::string const& error_context() const noexcept;
  /// A statement that sends more bytes in one piece (rows, an error, a notice) is given up, and the connection with it;
  /// near enough for a guard of our memory. 0: no limit.
  void limit_answer(std::size_t bytes) noexcept;

  // For a pool.
  /// Each statement is told from now on; null: none is.
  void set_echo(std::shared_ptr<EchoTo const> echo) noexcept;
  /// One round trip; false: no answer.
  bool ping() noexcept;
  /// The first statement looks whether the server has closed the connection, so that its failure is not in doubt.
  void look_later() noexcept;
  /// It looked, and the connection was dead: nothing was sent.
  [[nodiscard]] bool found_dead() const noexcept;
  /// For the application: blocking. Null: there is no PGconn. Nothing else is called before take_back().
  pg_conn* lend() noexcept;
  /// False: the application has left it in a state that is not mended.
  bool take_back() noexcept;
  /// Undoes what the application has SET, locked and listened to; nothing behind a transaction pooler.
  void reset_session();

  void set_deadline(std::chrono::milliseconds per_statement) noexcept;
  [[nodiscard]] bool ok() const noexcept;
  /// As ok(), but looks at the socket first, without waiting: finds what the server closed while nobody was looking.
  [[nodiscard]] bool alive() noexcept;
  [[nodiscard]] bool in_transaction() const noexcept;
  [[nodiscard]] int server_version() const noexcept;  ///< as 150004
  [[nodiscard]] int backend_pid() const noexcept;
  [[nodiscard]] std::string const& schema() const noexcept;  ///< as given
  [[nodiscard]] std::string quoted_schema() const;           ///< as an SQL identifier
  [[nodiscard]] std::string quote_identifier(std::string_view name) const;
  [[nodiscard]] std::string quote_literal(std::string_view text) const;

 private:
  Connection() = default;
  std::int64_t copy_in_now(std::string const& sql, std::function<std::string_view()> const& produce);
  static std::unique_ptr<Connection> open_to(DatabaseOptions const& options, std::string const& url, bool pooled);
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace posthouse::pg
