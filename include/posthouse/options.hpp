// SPDX-License-Identifier: Apache-2.0
// Options that producers, workers and tools share. Every field has a default that suits production.
// Thread safety: plain values.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace posthouse {

enum class LogLevel { debug, info, warning, error };

/// One event. The views live as long as the call.
struct LogRecord {
  LogLevel level = LogLevel::info;
  std::string_view message{};
  std::map<std::string, std::string> const& fields;
};
/// Called from several threads at once; must not throw.
using Logger = std::function<void(LogRecord const&)>;

class ConnectionSource;

/// Where the database is. URLs as they come from other tools: postgres://, postgresql://, postgresql+psycopg://,
/// postgresql+asyncpg:// or libpq's key=value form.
struct DatabaseOptions {
  std::string database_url{};  ///< empty: PG* variables and libpq's defaults
  std::string
      session_database_url{};   ///< direct endpoint for LISTEN when database_url is a transaction pooler; empty: same
  std::string password_file{};  ///< its first line is the password, read at each connect; empty: none
  std::string schema = "posthouse";  ///< 1 to 48 bytes
  std::string application_name = "posthouse";
  std::chrono::milliseconds connect_timeout{5000};     ///< 100 ms to 10 min, for each host
  std::chrono::milliseconds statement_timeout{30000};  ///< our own deadline on each statement, 100 ms to 1 h
  bool pgbouncer_transaction_mode = false;             ///< true: no session state on pooled connections
  bool tcp_keepalives = true;
  int tcp_keepalives_idle = 30;      ///< s
  int tcp_keepalives_interval = 10;  ///< s
  int tcp_keepalives_count = 3;
  int tcp_user_timeout = 10'000;  ///< ms that sent bytes may stay without acknowledgement; 0: the system's
  /// The caller's own connection for LISTEN, instead of one of ours; see pool.hpp and libpq_connection() in
  /// adapter/libpq.hpp. It is never closed. While it is in use it is used for nothing else; when it is given back, it
  /// listens to nothing and has no advisory locks. Empty: ours, to session_database_url.
  std::shared_ptr<ConnectionSource> listen{};
};

/// What becomes of an enqueue whose dedupe_key another job holds.
enum class OnDuplicate {
  skip,       ///< nothing is enqueued; the outcome is `duplicate` with that job's id
  error,      ///< InvalidArgument with SQLSTATE 23505
  replace,    ///< that job takes over payload and given headers, unless it has started: then it is a `duplicate`
  reschedule  ///< the same with run_at or delay, one of which must be given: each enqueue pushes it (debounce)
};

/// How long a job holds its dedupe_key.
enum class DedupeScope {
  unfinished,    ///< until it has ended, whatever way
  until_claimed  ///< while it waits for a worker, so that what changes while it runs enqueues it again
};

/// What can be said of one job when it is enqueued.
struct EnqueueOptions {
  std::string queue = "default";  ///< [A-Za-z0-9][A-Za-z0-9_.:/-]{0,99}
  int priority = 0;               ///< higher first, the whole int range; at most 256 different ones a (queue, kind)
  std::optional<std::chrono::milliseconds> delay{};               ///< from now, 0 to 10 years; not with run_at
  std::optional<std::chrono::system_clock::time_point> run_at{};  ///< in the past means now
  std::map<std::string, std::string> headers{};                   ///< free metadata, at most 16 KiB together
  std::optional<int> max_attempts{};                              ///< 1 to 32,767; default 25
  std::string dedupe_key{};  ///< 1 to 512 bytes, of its kind: one job at a time holds it; empty: none
  OnDuplicate on_duplicate = OnDuplicate::skip;        ///< only with dedupe_key
  DedupeScope dedupe_scope = DedupeScope::unfinished;  ///< of this job; only with dedupe_key
  std::optional<std::chrono::milliseconds>
      dedupe_window{};  ///< held at least so long, 1 ms to 10 years; only with dedupe_key
  std::optional<std::chrono::system_clock::time_point>
      expires_at{};  ///< not started by then, it ends as expired; in the past: at once; within 100 years
  std::optional<std::chrono::milliseconds> expires_in{};  ///< the same from now, 1 ms to 10 years; not with expires_at
  std::optional<std::chrono::milliseconds>
      timeout{};      ///< an attempt is asked to stop after so long, 1 ms to 10 years; default: the kind's own
  std::string key{};  ///< 1 to 512 bytes: jobs of the kind with one key run in turn, see HandlerOptions::key_limit
  std::vector<std::int64_t> depends_on{};  ///< at most 1,000 jobs that are known; blocked until all of them have ended
  std::vector<std::size_t> depends_on_elements{};  ///< the same by index, from 0: earlier Requests of one enqueue_many
  bool depends_on_all_ok = true;  ///< cancelled when one of them ends otherwise than by success; false: any end will do
  std::string token{};  ///< a UUID that names this enqueue: sent again within a day it gives the same id; empty: none
};

}  // namespace posthouse
