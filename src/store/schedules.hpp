// SPDX-License-Identifier: Apache-2.0
// One verb a function of sql/functions/13_schedule.sql and 14_schedule_fire.sql.
//
// Thread safety: as the Connection behind it, one thread at a time; definition() is pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <posthouse/schedules.hpp>

#include "pg/connection.hpp"

namespace posthouse::store {

/// The JSON object that add_schedule's arguments make, without the name.
std::string definition(Schedule const& schedule);

std::string_view name_of(Misfire misfire) noexcept;
std::string_view name_of(Overlap overlap) noexcept;

/// What declare() would refuse of an element.
struct ScheduleProblem {
  std::size_t index = 0;
  std::string problem{};
  std::string hint{};
};

class ScheduleBook {
 public:
  explicit ScheduleBook(pg::Connection& connection) noexcept : connection_(connection) {}

  DeclaredSchedules declare(std::string_view application, std::span<Schedule const> schedules);
  /// `list`: a JSON array of definitions with "name".
  DeclaredSchedules declare(std::string_view application, std::string_view list);
  std::vector<ScheduleProblem> problems(std::string_view application, std::string_view list);
  void add(std::string_view name, std::string_view definition);
  bool set(std::string_view name, std::string_view changes);
  bool remove(std::string_view name);
  void pause(std::string_view name);
  void resume(std::string_view name);
  std::int64_t run(std::string_view name);
  std::vector<ScheduleInfo> list();
  std::optional<ScheduleInfo> find(std::string_view name);
  /// From `from` (RFC 3339), else from now.
  std::vector<ScheduleTick> next(std::string_view name, int n, std::optional<std::string> const& from = {});
  std::vector<ScheduleTick> preview(std::string_view cron, std::string_view time_zone, int n,
                                    std::optional<std::string> const& from = {});
  std::vector<ScheduleFire> history(std::string_view name, int n);

 private:
  std::string schema() const { return connection_.quoted_schema() + "."; }
  std::vector<ScheduleInfo> read(std::string const& condition, pg::Params const& params);
  pg::Connection& connection_;
};

}  // namespace posthouse::store
