// SPDX-License-Identifier: Apache-2.0
// See heart.hpp.
#include "duties/heart.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "base/process_usage.hpp"
#include "base/random.hpp"

namespace posthouse::duties {

namespace {

using std::chrono::milliseconds;

constexpr std::int64_t full_round = 5'000;  // as many as one round promotes
constexpr milliseconds complain_every{60'000};
constexpr milliseconds after_refusal{1'000};
constexpr milliseconds progress_every{1'000};

}  // namespace

milliseconds next_round(store::DutiesReport const& report) {
  if (report.promoted >= full_round) return milliseconds{0};
  if (report.next_due_ms < 0) return round_every;
  return std::clamp(milliseconds{report.next_due_ms}, round_at_soonest, round_every);
}

milliseconds next_beat(milliseconds interval, milliseconds lease, Vitals const& vitals) {
  if (vitals.running > 0 || vitals.fleet < large_fleet) return interval;
  return std::max(interval, std::min(3 * interval, lease / 2));
}

Heart::Heart(Options options, base::Log const& log)
    : options_(std::move(options)),
      log_(log),
      upkeep_(options_.database, {}, log),
      service_("posthouse-beat", [this](std::stop_token const& stop) { run(stop); }) {}

void Heart::run(std::stop_token const& stop) {
  next_beat_ = Clock::now();
  while (!stop.stop_requested()) {
    try {
      round();
    } catch (std::exception const& error) {
      failed(error);
    }
    auto until = term_of_ != 0 ? std::min(next_beat_, next_round_) : next_beat_;
    if (options_.also) until = std::min(until, next_also_);
    std::unique_lock lock(mutex_);
    // The first report after a quiet second goes at once, others when their second is over.
    stopped_.wait_until(lock, stop, until, [this] { return progressed_ || asked_; });
    if (progressed_) stopped_.wait_until(lock, stop, std::min(until, next_progress_), [this] { return asked_; });
    // Not while the database is away: that has a pace of its own.
    if (std::exchange(asked_, false) && connection_) next_beat_ = Clock::now();
  }
  upkeep_.stop();
  connection_.reset();
  term_of_ = 0;
}

void Heart::round() {
  if (!connection_) {
    connection_ = pg::Connection::open(options_.database);
    // No statement may take so long that the lease lapses behind it.
    connection_->set_deadline(std::min(options_.database.statement_timeout, options_.lease / 3));
    backoff_.reset();
    next_also_ = {};
  }
  auto const now = Clock::now();
  if (now >= next_beat_) beat();
  if (options_.also && now >= next_also_) {
    next_also_ = now + also_every;
    options_.statement();
    options_.also(*connection_);
  }
  if (now >= next_progress_) tell_progress(now);
  if (term_of_ != 0 && now >= next_round_) duties();
}

void Heart::beat() {
  auto const vitals = options_.vitals();
  next_beat_ = Clock::now() + next_beat(options_.interval, options_.lease, vitals);
  if (vitals.worker == 0) return;
  store::Work work(*connection_);
  options_.statement();
  auto const beat =
      work.beat(vitals.worker, vitals.low_token, vitals.free, vitals.running, base::recent_process_usage());
  if (!beat.alive) {
    term_of_ = 0;
    options_.dead(vitals.worker);
    return;
  }
  options_.beaten();
  if (!beat.cancel.empty()) options_.cancel();
  if (!options_.duties || !beat.leader_vacant) return;
  options_.statement();
  if (work.lead(vitals.worker) != 0) {
    if (term_of_ == 0) log_.debug("this worker leads", {{"worker", std::to_string(vitals.worker)}});
    term_of_ = vitals.worker;
    next_round_ = Clock::now();
  }
}

void Heart::progressed() {
  {
    std::lock_guard const lock(mutex_);
    progressed_ = true;
  }
  stopped_.notify_all();
}

void Heart::beat_now() {
  {
    std::lock_guard const lock(mutex_);
    asked_ = true;
  }
  stopped_.notify_all();
}

void Heart::tell_progress(Clock::time_point now) {
  {
    std::lock_guard const lock(mutex_);
    if (!std::exchange(progressed_, false) && untold_.empty()) return;
  }
  auto reports = options_.progress();
  // And what a statement that failed has not told, unless there is something newer of the job.
  for (auto& old : std::exchange(untold_, {})) {
    bool const newer = std::any_of(reports.begin(), reports.end(), [&](store::ProgressReport const& report) {
      return report.token == old.token && report.position == old.position;
    });
    if (!newer) reports.push_back(std::move(old));
  }
  auto const worker = options_.vitals().worker;
  if (reports.empty() || worker == 0) return;
  next_progress_ = now + progress_every;
  options_.statement();
  untold_ = std::move(reports);
  store::Work(*connection_).report_progress(worker, untold_);
  untold_.clear();
}

void Heart::duties() {
  store::Work work(*connection_);
  next_round_ = Clock::now() + round_every;  // also when it throws
  options_.statement();
  auto const report = work.duties(term_of_);
  if (!report.leads) {
    term_of_ = 0;
    return;
  }
  if (report.rescued > 0) log_.info("jobs rescued from lost workers", {{"jobs", std::to_string(report.rescued)}});
  next_round_ = Clock::now() + next_round(report);
  if (options_.upkeep) upkeep_.start_round();
}

void Heart::failed(std::exception const& error) {
  auto const now = Clock::now();
  auto wait = after_refusal;
  // A server that refuses us as a whole (read-only, shutting down) is as good as gone.
  auto const* const typed = dynamic_cast<Error const*>(&error);
  bool const refused = typed != nullptr && typed->error_class() == ErrorClass::unavailable;
  if (!connection_ || !connection_->ok() || refused) {
    connection_.reset();
    wait = backoff_.next(base::random_unit());
  }
  next_beat_ = now + wait;
  next_progress_ = next_beat_;
  next_also_ = next_beat_;
  next_round_ = std::max(next_round_, next_beat_);
  if (options_.trouble) options_.trouble(error);
  if (now >= next_complaint_) {
    log_.warning("heartbeat failed, trying again", {{"error", error.what()}});
    next_complaint_ = now + complain_every;
  }
}

}  // namespace posthouse::duties
