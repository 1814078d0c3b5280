// SPDX-License-Identifier: Apache-2.0
// Schedules: jobs at the ticks of a cron text, at an interval, or once at a time. They are rows in the database; the
// workers' elected leader fires them, so nothing of a Schedules object needs to stay alive.
//
// Thread safety: a Schedules may be used from any number of threads; it keeps one connection, unless it is given a pool. After fork() an object of
// the parent throws in the child. Every function throws InvalidArgument (nothing changed), SchemaMissing, Unavailable.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <posthouse/client.hpp>
#include <posthouse/options.hpp>
#include <posthouse/payload.hpp>

namespace posthouse {

/// What becomes of ticks that come late, because no worker ran or the clock was set forward.
enum class Misfire {
  skip,    ///< a tick that is more than a minute late is not fired
  latest,  ///< of all late ticks the newest is fired
  all,     ///< the newest misfire_limit of them are fired, oldest first
};

/// What a tick does when a job of an earlier one is not finished.
enum class Overlap {
  allow,    ///< enqueues one more
  skip,     ///< nothing; the history says why
  replace,  ///< cancels them (those that run are asked to stop, and not waited for), then enqueues
};

struct Schedule {
  std::string name{};  ///< [A-Za-z0-9][A-Za-z0-9_.:/-]{0,99}, one in a database
  std::string kind{};
  Payload payload{};
  // One of three:
  std::string cron{};  ///< "m h dom mon dow", "s m h dom mon dow" or @daily and the like; see docs/guides/schedules.md
  std::optional<std::chrono::milliseconds> every{};           ///< whole seconds, 1 s to 366 days, from when it is added
  std::optional<std::chrono::system_clock::time_point> at{};  ///< once; in the past means now
  std::string time_zone = "UTC";                              ///< IANA name in its exact spelling; for cron
  /// queue, priority, headers (at most 16,000 bytes), max_attempts, timeout, expires_in (from the firing on),
  /// key, dedupe_key and what goes with it: a tick whose dedupe_key another job holds enqueues nothing; on_duplicate
  /// replace gives that job this payload and these headers unless it has started, reschedule is refused.
  EnqueueOptions options{};
  std::chrono::milliseconds jitter{0};  ///< each tick is fired up to this long later, 0 to 1 day
  Misfire misfire = Misfire::latest;
  int misfire_limit = 100;  ///< 1 to 1,000; for Misfire::all
  Overlap overlap = Overlap::allow;
  bool enabled = true;  ///< false: declared, but never fired
};

/// A schedule as it is in the database. Times are RFC 3339, UTC.
struct ScheduleInfo {
  Schedule schedule{};
  std::optional<std::string> owner{};  ///< the application that declares it; nullopt: made by hand
  bool paused = false;
  std::string headers = "{}";            ///< JSON object; in schedule.options values that are no texts are JSON
  std::optional<std::string> next_at{};  ///< the next tick; nullopt: none
  std::optional<std::string> due_at{};   ///< when that is fired: with its share of the jitter
  std::optional<std::string> last_tick{};
  std::optional<std::string> last_fired_at{};
  std::optional<std::int64_t> last_job{};
  std::optional<std::string> last_error{};  ///< of the newest tick; nullopt: it went well
};

struct ScheduleTick {
  std::string at{};     ///< RFC 3339, UTC
  std::string local{};  ///< as the clock of its time zone shows it: 2030-01-31 12:00:00
};

/// One tick of the past.
struct ScheduleFire {
  std::string tick{};
  std::string outcome{};  ///< fired, manual, skipped (overlap, dedupe_key), missed (misfire), failed
  std::optional<std::int64_t> job{};
  std::string note{};  ///< why, unless it fired
  std::string at{};
};

struct DeclaredSchedules {
  int added = 0;
  int changed = 0;
  int unchanged = 0;
  int removed = 0;
};

class Schedules {
 public:
  /// Opens no connection yet. Of the options it uses the database or the pool, pool_timeout and max_payload_bytes.
  explicit Schedules(ClientOptions options);
  ~Schedules();
  Schedules(Schedules&&) noexcept;
  Schedules& operator=(Schedules&&) noexcept;

  /// Makes the schedules of an application those of the list, in one transaction: adds, changes and removes. One that
  /// says the same already keeps its next tick. Pauses stay. Schedules of other applications and those made by hand are
  /// never touched; one of their names throws InvalidArgument.
  DeclaredSchedules declare(std::string_view application, std::span<Schedule const> schedules);

  void add(Schedule const& schedule);  ///< the name must be free
  /// `changes`: an object with the argument names of the SQL function add_schedule, as {"cron": "0 4 * * *"}; null
  /// takes an option away. False: it said the same already.
  bool set(std::string_view name, json const& changes);
  bool remove(std::string_view name);  ///< its jobs and history stay; false: there is none
  void pause(std::string_view name);   ///< until resume(); ticks that pass meanwhile are left out
  void resume(std::string_view name);
  std::int64_t run(std::string_view name);  ///< enqueues a job of it now, paused or not; the job's id

  [[nodiscard]] std::vector<ScheduleInfo> list();  ///< by name
  [[nodiscard]] std::optional<ScheduleInfo> find(std::string_view name);
  /// The next n ticks, 1 to 10,000.
  [[nodiscard]] std::vector<ScheduleTick> next(std::string_view name, int n = 10);
  [[nodiscard]] std::vector<ScheduleTick> preview(std::string_view cron, std::string_view time_zone = "UTC",
                                                  int n = 10);
  /// Newest first; n is 1 to 10,000.
  [[nodiscard]] std::vector<ScheduleFire> history(std::string_view name, int n = 10);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace posthouse
