// SPDX-License-Identifier: Apache-2.0
#include "monitor/measurer.hpp"

#include <pthread.h>

#include <posthouse/error.hpp>
#include <set>
#include <utility>

#include "pg/connection.hpp"

namespace posthouse::monitor {
namespace {

using namespace std::chrono_literals;

constexpr auto kMostWait = 2'000ms;  ///< for a connection, and for the statement
constexpr auto kLeaveAlone = 30s;    ///< after a failure

}  // namespace

Health health_of(Sources::Entry& entry) {
  std::lock_guard const lock(entry.gate);
  if (entry.removed) return {.state = State::stopping};
  return entry.source.health();
}

Measurer::Measurer(std::shared_ptr<Sources> sources, std::chrono::milliseconds fresh_for, std::function<void()> told,
                   base::Log log)
    : sources_(std::move(sources)), fresh_for_(fresh_for), told_(std::move(told)), log_(std::move(log)) {}

std::vector<std::shared_ptr<Sources::Entry>> Measurer::stale() const {
  auto const now = Clock::now();
  std::vector<std::shared_ptr<Sources::Entry>> list;
  for (auto const& entry : sources_->all()) {
    {
      std::lock_guard const lock(mutex_);
      auto const found = measurements_.find(entry->source.name);
      if (found != measurements_.end() && now < found->second.not_before) continue;
    }
    if (health_of(*entry).state == State::serving) list.push_back(entry);
  }
  return list;
}

bool Measurer::fresh() {
  if (stale().empty()) return true;
  std::lock_guard const lock(mutex_);
  want_ = true;
  if (!thread_.joinable()) {
    thread_ = std::jthread([this](std::stop_token const& stop) {
      pthread_setname_np(pthread_self(), "posthouse-meter");
      run(stop);
    });
  }
  wanted_.notify_one();
  return false;
}

std::optional<Measurement> Measurer::of(std::string const& database) const {
  std::lock_guard const lock(mutex_);
  auto const found = measurements_.find(database);
  if (found == measurements_.end()) return std::nullopt;
  return found->second;
}

void Measurer::run(std::stop_token const& stop) {
  while (!stop.stop_requested()) {
    {
      std::unique_lock lock(mutex_);
      if (!wanted_.wait(lock, stop, [this] { return want_; })) return;
      want_ = false;
    }
    for (auto const& entry : stale()) {
      if (stop.stop_requested()) return;
      measure(entry->source);
    }
    std::set<std::string> names;
    for (auto const& entry : sources_->all()) names.insert(entry->source.name);
    {
      std::lock_guard const lock(mutex_);
      std::erase_if(measurements_, [&](auto const& one) { return !names.contains(one.first); });
    }
    told_();
  }
}

void Measurer::measure(Source const& source) {
  auto options = source.database;
  options.connect_timeout = kMostWait;
  options.statement_timeout = kMostWait;
  options.application_name = "posthouse monitor";
  auto const begun = Clock::now();
  std::vector<store::Gauge> gauges;
  bool measured = false;
  try {
    auto const connection = pg::Connection::open(options);
    gauges = store::measure(*connection);
    measured = true;
  } catch (Error const& error) {
    log_.warning("cannot measure for /metrics", {{"database", source.name}, {"error", error.what()}});
  }
  auto const now = Clock::now();
  std::lock_guard const lock(mutex_);
  auto& one = measurements_[source.name];
  one.seconds = std::chrono::duration<double>(now - begun).count();
  if (measured) {
    one.at = now;
    one.gauges = std::move(gauges);
    one.measured = true;
    one.not_before = now + fresh_for_;
  } else {
    ++one.failures;
    one.not_before = now + kLeaveAlone;
  }
}

}  // namespace posthouse::monitor
