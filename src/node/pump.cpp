// SPDX-License-Identifier: Apache-2.0
// The loop of a worker. See pump.hpp.
#include "node/pump.hpp"

#include <algorithm>
#include <charconv>
#include <thread>
#include <utility>

#include "base/random.hpp"
#include "complete/verdict.hpp"
#include "core/job_options.hpp"
#include "node/completion.hpp"
#include "node/registration.hpp"

namespace posthouse::node {

namespace {

execute::Pool::Options pool_options(WorkerCore& core) {
  execute::Pool::Options options;
  options.threads = core.options.concurrency;
  options.around = core.options.around;
  options.max_result_bytes = core.options.max_result_bytes;
  options.complete = completion(core.log, core.options.database.schema);
  if (core.children) {
    options.run = [&core](Job const& job) { return core.children->run(job); };
    options.isolated = [&core](HandlerOptions const& kind) { return isolated(kind, core.options); };
  }
  options.timed = core.jobs != nullptr;
  options.wake = [&core] { core.wake.signal(); };
  options.progressed = [&core] {
    if (core.progressed) core.progressed();
  };
  return options;
}

monitor::JobMetrics::End end_of(std::string_view outcome) {
  using End = monitor::JobMetrics::End;
  if (outcome.empty()) return End::succeeded;
  switch (outcome[0]) {
    case 's':
      return End::snoozed;
    case 'c':
      return End::cancelled;
    case 'e':
      return End::expired;
    case 'f':
      return End::failed;
    default:
      return outcome == "release" ? End::released : End::retried;
  }
}

}  // namespace

Pump::Pump(WorkerCore& core, std::unique_ptr<pg::Connection> connection)
    : core_(core),
      connection_(std::move(connection)),
      listener_(core.options.database, core.wake, core.log, core.listen_retry),
      profile_(profile_of(core)),
      pacing_({.slots = core.options.concurrency,
               .prefetch = core.options.prefetch_buffer,
               .most = core.claim_most,
               .flush_interval = core.options.flush_interval},
              Clock::now()),
      pool_(std::make_unique<execute::Pool>(pool_options(core), core.log)) {
  publish();
}

Pump::~Pump() = default;

void Pump::run() {
  while (core_.stop.load() == Stop::no && !once_done_) {
    try {
      turn();
    } catch (Error const& error) {
      trouble(error);
    }
  }
  shut_down();
}

void Pump::turn() {
  collect(false);
  auto const now = Clock::now();
  bool const connected = connection_ || connect(now);
  bool const dead = core_.dead_incarnation.load() == core_.incarnation.load();
  if (!connected || (dead && !reborn(now))) {
    if (unresolved_.empty()) hand_out();
    publish();
    return sleep(std::max(next_connect_, now + std::chrono::milliseconds{1}), true, 0);
  }
  if (!flights_.empty()) land(false);
  if (listener_.maintain(now)) prove_listening();
  if (core_.cancel_asked.exchange(false)) cancels_due_ = true;
  // While some of them have not been found, again: a cancel may be over, and its job come back.
  if (cancels_due_ || !not_to_start_.empty()) read_cancels();
  if (!unresolved_.empty()) resolve_lanes();
  // With one kind there is nothing to take turns with.
  if (core_.handlers.size() > 1 && now >= next_turns_ && !lanes_.empty()) reread_turns();
  hand_out();
  publish();
  // The heart has a connection of its own; should it get none, ours keeps the lease alive.
  bool const silent = now - core_.beaten.load() > silent_too_long(core_.options);
  if ((doubt_from_ || silent) && now >= next_doubt_check_) check_open();
  try {
    if (listener_.prove(now)) core_.statement();
  } catch (Error const& error) {
    deaf(error);
  }
  if (listener_.hears() && now >= next_listen_) {
    // Not only while asleep: a lane may ring while others keep this worker busy.
    next_listen_ = now + listen_every;
    try {
      hear(listener_.wait(now));
    } catch (Error const& error) {
      deaf(error);
    }
  }
  if (cancels_due_) return;  // first of the next turn
  if (core_.options.prefetch_buffer > 0) mind_buffer(now);
  if (!unresolved_.empty()) return;

  auto const step = pacing_.step(now, load());
  if (step.what != claim::What::wait) return perform(step);
  if (sent_) return receive(true);
  if (!flights_.empty()) return await_flights(step.until);
  if (core_.options.once && drained()) return;
  auto until = step.until;
  if (doubt_from_) until = std::min(until, next_doubt_check_);
  if (auto const due = listener_.due()) until = std::min(until, *due);
  if (auto const due = buffer_due()) until = std::min(until, *due);
  sleep(until, step.any_end, step.low_water);
}

void Pump::collect(bool giving_back) {
  ended_.clear();
  pool_->harvest(ended_);
  int count = 0;
  for (auto& end : ended_) {
    if (end.late) {
      book_.ended(end.token, end.position, std::nullopt);
      ++core_.counters.lease_lost;
      core_.log.warning("a handler has ended after its job was given to others, which counts for nothing",
                        {{"job", std::to_string(end.id)}});
      continue;
    }
    std::optional<store::Move> move;
    bool const silent = end.otherwise && end.otherwise->silent;
    if (end.otherwise && giving_back) {
      // It ended because it was asked to: that is no attempt.
      move = store::Move{.token = end.token, .position = end.position, .id = end.id, .outcome = "release"};
    } else if (end.otherwise && end.otherwise->expired) {
      move = store::Move{.token = end.token, .position = end.position, .id = end.id, .outcome = "expire"};
    } else if (end.otherwise) {
      auto& other = *end.otherwise;
      if (other.timed_out) complete::name_timeout(other.run.outcome);
      complete::Ending const ending{.outcome = std::move(other.run.outcome),
                                    .decode_error = other.run.decode_error,
                                    .attempt = other.attempt,
                                    .max_attempts = other.max_attempts,
                                    .kind = &other.kind->options,
                                    .crashed = other.run.crashed,
                                    .crashes = other.crashes};
      move = complete::verdict(end.token, end.position, end.id, ending, base::random_unit());
      if (silent) move->delay_ms = 0;
      if (move && other.cancelled) {
        move->outcome = "cancel";
        core_.log.info("job cancelled", {{"job", std::to_string(end.id)}, {"kind", other.kind->kind}});
      } else if (move && (move->outcome == "retry" || move->outcome == "fail")) {
        base::Log::Fields const fields{{"job", std::to_string(end.id)},
                                       {"kind", other.kind->kind},
                                       {"attempt", std::to_string(other.attempt)},
                                       {"type", move->type},
                                       {"error", move->message.substr(0, 500)}};
        if (move->outcome == "retry") {
          core_.log.info("job failed, will be tried again", fields);
        } else {
          core_.log.warning("job failed for good", fields);
        }
      }
    }
    auto const outcome = move ? move->outcome : std::string_view{};
    auto& counters = core_.counters;
    std::optional<store::JobResult> result;
    if (end.result) {
      tell_problem(core_.log, end.id, *end.result);
      result = result_of(end.token, end.position, end.id, end.result.get());
      end.result.reset();
    }
    if (silent) {
      // Its handler still runs, and is counted again when it ends.
      if (!book_.abandoned(end.token, end.position, std::move(*move))) continue;
    } else if (!book_.ended(end.token, end.position, std::move(move), std::move(result))) {
      ++counters.lease_lost;
      continue;
    }
    ++count;
    if (core_.jobs && end.kind != nullptr) core_.jobs->ended(end.queue, end.kind->kind, end_of(outcome), end.ran);
    if (outcome.empty()) {
      counters.succeeded.fetch_add(1, std::memory_order_relaxed);
    } else if (outcome == "snooze") {
      ++counters.snoozed;
    } else if (outcome == "release") {
      ++counters.released;
    } else if (outcome == "expire") {
      ++counters.expired;
    } else if (outcome == "cancel") {
      ++counters.cancelled;
    } else {
      ++counters.failed;
    }
  }
  if (count > 0) pacing_.ended(count, Clock::now());
}

void Pump::hand_out() {
  if (book_.startable() == 0) return;
  tasks_.clear();
  Lane const* lane = nullptr;
  std::int64_t lane_id = 0;
  while (auto const* job = book_.next()) {
    if (lane == nullptr || lane_id != job->lane) {
      auto const it = lanes_.find(job->lane);
      lane = it == lanes_.end() ? nullptr : &it->second;
      lane_id = job->lane;
    }
    if (lane == nullptr || lane->kind == nullptr) {
      // The claim names only lanes of our kinds; should it ever not, the job is somebody else's.
      core_.log.error("claimed a job of a kind without handler", {{"job", std::to_string(job->id)}});
      release(job->token, job->position, job->id);
      continue;
    }
    if (!not_to_start_.empty() && not_to_start_.erase(job->id) > 0) {
      release(job->token, job->position, job->id);
      ++core_.counters.cancelled;
      continue;
    }
    tasks_.push_back(task_for(*job, *lane));
  }
  // Not with a buffer full of jobs: their threads and the server need the processors.
  handed_out_ = !tasks_.empty() && tasks_.size() <= static_cast<std::size_t>(core_.options.concurrency);
  pool_->push(tasks_, std::exchange(urgent_, false));
}

execute::Task Pump::task_for(store::ClaimedJob const& job, Lane const& lane) const {
  execute::Task task{.kind = lane.kind,
                     .worker = core_.incarnation.load(std::memory_order_relaxed),
                     .token = job.token,
                     .position = job.position,
                     .id = job.id,
                     .lane = job.lane,
                     .attempt = std::int64_t{job.attempt} + 1,
                     .max_attempts = lane.kind->options.max_attempts,
                     .timeout = lane.kind->options.timeout,
                     .queue = lane.queue,
                     .priority = lane.priority,
                     .is_null = job.is_null,
                     .is_bytes = job.is_bytes,
                     .payload = job.payload,
                     .headers = job.headers};
  if (!job.options.empty()) {
    try {
      auto own = core::parse_job_options(job.options);
      if (own.max_attempts) task.max_attempts = *own.max_attempts;
      if (own.timeout) task.timeout = *own.timeout;
      task.crashes = own.child_crashes;
      task.depends_on = std::move(own.depends_on);
      if (own.expires_in) task.expires = job.received + *own.expires_in;
    } catch (Error const& error) {
      core_.log.warning("options of a job cannot be read, using its kind's",
                        {{"job", std::to_string(job.id)}, {"error", error.what()}});
    }
  }
  return task;
}

claim::Load Pump::load() const {
  claim::Load load{.handed = book_.handed(),
                   .waiting = book_.waiting(),
                   .unreported = book_.unreported(),
                   .quick = quick_,
                   .claiming = sent_ ? sent_->step.jobs : 0};
  for (auto const& flight : flights_) {
    load.claiming += flight.claim.step.jobs;
    load.starting += flight.claim.start;
    load.urgent = load.urgent || flight.claim.step.urgent;
    load.reporting = load.reporting || flight.what == claim::What::finish;
  }
  // What ends meanwhile goes with the next one.
  load.unreported = load.unreported && !load.reporting;
  return load;
}

void Pump::publish() {
  auto low = token_ + claim::max_batches_a_claim;
  if (auto const lowest = book_.lowest()) low = std::min(low, *lowest);
  if (doubt_from_) low = std::min(low, *doubt_from_);
  if (sent_) low = std::min(low, sent_->token);
  for (auto const& flight : flights_) {
    if (flight.what == claim::What::claim) low = std::min(low, flight.claim.token);
  }
  core_.low_token.store(low, std::memory_order_relaxed);
  int const slots = core_.options.concurrency;
  core_.free.store(std::max(0, slots - book_.handed()), std::memory_order_relaxed);
  core_.running.store(std::min(slots, book_.handed()), std::memory_order_relaxed);
}

// A job that does next to nothing ends before this thread would be asleep, and waking it up again costs more than the
// job. So it watches for a moment; when that was in vain, it is longer until it does so again.
bool Pump::ends_at_once() {
  if (watch_again_ > 0) {
    --watch_again_;
    return false;
  }
  auto const end = Clock::now() + watch_for;
  do {
    if (pool_->any_ended()) {
      watch_rest_ = 1;
      quick_ = true;
      return true;
    }
    std::this_thread::yield();
  } while (Clock::now() < end);
  quick_ = false;
  watch_again_ = watch_rest_ = std::min(2 * watch_rest_, watch_rest_most);
  return false;
}

void Pump::sleep(Clock::time_point until, bool any_end, int low_water) {
  if (any_end && std::exchange(handed_out_, false) && ends_at_once()) return;
  if (!pool_->arm(any_end, static_cast<std::size_t>(low_water))) return;
  next_listen_ = Clock::now() + listen_every;
  try {
    hear(listener_.wait(until));
  } catch (Error const& error) {
    deaf(error);
  }
  core_.wake.drain();  // here alone: all that it may stand for is looked at before the next sleep
}

void Pump::hear(std::vector<std::string> const& payloads) {
  auto const now = Clock::now();
  if (listener_.newly_proven()) {
    pacing_.listening(now);
    next_turns_ = now;
  }
  for (std::string_view const payload : payloads) {
    if (payload == "new") {
      pacing_.new_lane(now);
      continue;
    }
    if (payload == "kinds") {
      next_turns_ = now;
      continue;
    }
    if (payload == "limit") {
      pacing_.limit_freed(now);
      continue;
    }
    if (payload == "keep") {
      pacing_.keeper_gone(now);
      continue;
    }
    bool const cancel = payload.starts_with('c');
    bool const ping = payload.starts_with('p');
    bool const idle = payload.starts_with('i');
    bool const named = cancel || ping || idle || payload.starts_with('w');
    auto const digits = payload.substr(named ? 1 : 0);
    std::int64_t number = 0;
    auto const [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (error != std::errc{} || end != digits.data() + digits.size()) continue;
    if (!named) {
      pacing_.rang(number, now);
    } else if (idle) {
      if (number != core_.incarnation.load(std::memory_order_relaxed)) idle_peer_ = number;
    } else if (number != core_.incarnation.load(std::memory_order_relaxed)) {
      continue;
    } else if (cancel) {
      cancels_due_ = true;
    } else if (ping) {
      core_.pinged();
    } else {
      pacing_.called(now);
    }
  }
}

bool Pump::drained() {
  if (sent_ || !flights_.empty() || book_.batches() > 0 || book_.unreported() || !pacing_.nothing_known()) return false;
  // Jobs and schedules that are due, and jobs of workers whose lease has lapsed, count as available, whoever leads.
  core_.statement();
  auto const available = work().promote_reap_and_fire();
  core_.statement();
  auto const lanes = work().look(core_.incarnation);
  pacing_.looked(lanes, Clock::now());
  once_done_ = lanes.empty() && available == 0;
  return true;
}

}  // namespace posthouse::node
