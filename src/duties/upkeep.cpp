// SPDX-License-Identifier: Apache-2.0
#include "duties/upkeep.hpp"

#include <functional>
#include <utility>

namespace posthouse::duties {

namespace {

constexpr std::chrono::seconds between_rounds{60};
constexpr std::chrono::seconds between_tries{10};
constexpr int prune_rows = 5000;                     // a statement
constexpr int prune_statements = 200;                // a round
constexpr std::chrono::minutes statement_limit{60};  // a freeze of a large partition takes its time

}  // namespace

UpkeepReport upkeep_round(DatabaseOptions const& database, store::Retention const& retention,
                          std::stop_token const& stop) {
  auto connection = pg::Connection::open_session(database);
  connection->set_deadline(statement_limit);
  std::stop_callback<std::function<void()>> const on_stop(stop, connection->canceller());
  store::Upkeep upkeep(*connection);
  UpkeepReport report;
  upkeep.keep(retention);
  report.partitions_made = upkeep.rotate_ahead();
  for (auto const& name : upkeep.detaching()) upkeep.finish_detach(name);
  for (auto const& name : upkeep.droppable()) upkeep.detach(name);
  for (auto const& name : upkeep.detached()) {
    if (upkeep.drop_detached(name)) ++report.partitions_dropped;
  }
  for (int i = 0; i < prune_statements; ++i) {
    auto const rows = upkeep.prune(prune_rows);
    report.rows_pruned += rows;
    if (rows < prune_rows || stop.stop_requested()) break;
  }
  for (auto const& name : upkeep.unfrozen()) {
    if (stop.stop_requested()) break;
    upkeep.freeze(name);
    ++report.partitions_frozen;
  }
  return report;
}

void UpkeepThread::start_round() {
  auto const now = std::chrono::steady_clock::now();
  if (running_ || now < last_ + (busy_ ? between_tries : between_rounds)) return;
  if (thread_.joinable()) thread_.join();
  last_ = now;
  running_ = true;
  thread_ = std::jthread([this](std::stop_token const& stop) {
    try {
      auto const report = upkeep_round(database_, retention_, stop);
      busy_ = report.partitions_made < 0;
      if (report.partitions_made > 0 || report.partitions_dropped > 0) {
        log_.info("partitions rotated", {{"made", std::to_string(report.partitions_made)},
                                         {"dropped", std::to_string(report.partitions_dropped)}});
      }
    } catch (std::exception const& error) {
      if (!stop.stop_requested()) log_.warning("upkeep failed, will be tried again", {{"error", error.what()}});
    }
    running_ = false;
  });
}

void UpkeepThread::stop() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
}

}  // namespace posthouse::duties
