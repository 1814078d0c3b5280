// SPDX-License-Identifier: Apache-2.0
// Running jobs in children. See children.hpp; keeper.cpp has their birth and death.
#include "isolate/children.hpp"

#include <poll.h>

#include <algorithm>
#include <array>
#include <exception>
#include <posthouse/error.hpp>
#include <utility>

#include "isolate/message.hpp"

namespace posthouse::isolate {

namespace {

using namespace std::chrono_literals;

constexpr auto hurried_grace = 1s;     // less than what a worker that stops at once waits for its handlers
constexpr auto child_wait = 10s;       // for a free child
constexpr auto snooze = 1s;            // of a job for which there is none
constexpr int tries = 3;               // children that die before they begin with the job
constexpr int without_pidfd_ms = 100;  // how often a child is looked at then
constexpr auto never = Children::Clock::time_point::max();

int wait_ms(Children::Clock::time_point until, int longest) {
  if (until == never) return longest;
  auto const left = std::chrono::ceil<std::chrono::milliseconds>(until - Children::Clock::now()).count();
  return static_cast<int>(std::clamp<decltype(left)>(left, 0, longest));
}

}  // namespace

Children::Children(Options options, base::Log const& log) : options_(std::move(options)), log_(log) {}

Children::~Children() { keeper_ = {}; }

void Children::start() {
  keeper_ = std::jthread([this](std::stop_token const& stop) { keep(stop); });
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return failures_ > 0 || idle_.size() == static_cast<std::size_t>(options_.processes); });
  if (failures_ == 0 && options_.max_memory_mb > 0) {
    std::int64_t most = 0;
    for (auto const& child : idle_) most = std::max(most, child->memory_mb());
    if (most >= options_.max_memory_mb) {
      throw InvalidArgument("max_memory_per_child_mb is " + std::to_string(options_.max_memory_mb) +
                                ", but a child process has " + std::to_string(most) + " MiB before its first job",
                            {.hint = "Each child would be replaced after each job. Allow more."});
    }
  }
  if (failures_ > 0) {
    throw ServerError("a child process did not become ready: " + last_failure_,
                      {.hint = "Child processes run this program from its beginning, with the same arguments. What "
                               "they print goes to standard error."});
  }
}

void Children::hurry() {
  hurry_ = true;
  std::lock_guard const lock(mutex_);
  for (auto const& child : busy_) child->wake.signal();
}

Children::Held Children::take(Job const& job) {
  std::unique_lock lock(mutex_);
  auto const until = Clock::now() + child_wait;
  if (!changed_.wait_until(lock, job.stop_token(), until, [this] { return !idle_.empty(); })) return nullptr;
  // The one that was used last, so that few stay warm.
  auto child = std::move(idle_.back());
  idle_.pop_back();
  busy_.insert(child);
  return child;
}

void Children::give_back(Held child) {
  ++child->jobs;
  std::string why;
  if (options_.max_jobs > 0 && child->jobs >= options_.max_jobs) {
    why = std::to_string(child->jobs) + " jobs";
  } else if (options_.max_memory_mb > 0) {
    auto const memory = child->memory_mb();
    if (memory > options_.max_memory_mb) why = std::to_string(memory) + " MiB";
  }
  {
    std::lock_guard const lock(mutex_);
    busy_.erase(child);
    if (why.empty()) {
      idle_.push_back(child);
    } else {
      child->dismiss();
      child->deadline = Clock::now() + leave_wait;
      leaving_.push_back(child);
    }
  }
  if (why.empty()) {
    changed_.notify_one();
  } else {
    log_.debug("child process is replaced", {{"child", std::to_string(child->pid())}, {"after", why}});
    wake_.signal();
  }
}

execute::Run Children::run(Job const& job) {
  for (int left = tries; left > 0; --left) {
    auto child = take(job);
    if (!child) break;
    std::optional<execute::Run> run;
    try {
      run = drive(*child, job);
    } catch (...) {
      // Ours, not the child's: no memory, or a job that no frame holds. The child may be in the middle of something.
      child->reap();
      run = execute::outcome_of(std::current_exception());
    }
    // A child that was reaped is dead, and its place free.
    if (!child->dead()) {
      give_back(std::move(child));
    } else {
      {
        std::lock_guard const lock(mutex_);
        busy_.erase(child);
      }
      wake_.signal();
    }
    if (run) return *std::move(run);
  }
  // It was not started, so no attempt is counted, whatever has asked it to stop meanwhile.
  if (!job.stop_token().stop_requested()) {
    log_.warning("no child process is free, the job is put off", {{"job", std::to_string(job.id())}});
  }
  return {Snooze{snooze}};
}

// What one job needs while it runs.
struct Children::Drive {
  Drive(Children& the_children, Child& the_child, Job const& the_job)
      : children(the_children), child(the_child), job(the_job), number(the_child.jobs + 1) {}

  // The whole conversation. True: it has ended, and `end` says how.
  bool talk() {
    auto order = encode_order(number, job.facts());
    std::string_view rest = order;
    std::stop_callback const on_stop(job.stop_token(), [this] { child.wake.signal(); });
    bool open = true;
    while (true) {
      std::array<pollfd, 3> fds{pollfd{child.socket(), static_cast<short>(rest.empty() ? POLLIN : POLLIN | POLLOUT), 0},
                                pollfd{child.pidfd(), POLLIN, 0}, pollfd{child.wake.fd(), POLLIN, 0}};
      (void)::poll(fds.data(), fds.size(), wait_ms(kill_at, child.pidfd() >= 0 ? 60'000 : without_pidfd_ms));
      child.wake.drain();
      if (!stopping && job.stop_token().stop_requested()) {
        stopping = true;
        kill_at = Clock::now() + children.options_.kill_grace;
        order.erase(0, order.size() - rest.size());
        order += FrameWriter(Type::stop).number(number).take();
        rest = order;
      }
      // Before the socket is read: what it wrote before it died is then there.
      bool const dead = child.dead();
      if (open && !rest.empty() && !child.send_some(rest)) rest = {};
      open = child.receive();
      while (auto frame = child.frames.next()) {
        if (hear(*frame)) return true;
      }
      if (dead || !open) return false;
      if (stopping && children.hurry_) kill_at = std::min(kill_at, Clock::now() + hurried_grace);
      if (Clock::now() >= kill_at) {
        killed = true;
        child.kill();
        kill_at = never;
      }
    }
  }

  bool hear(Frame const& frame) {
    FrameReader in(frame.body);
    switch (frame.type) {
      case Type::begun:
        begun = begun || in.number() == number;
        return false;
      case Type::progress:
        if (in.number() == number) {
          double const fraction = in.real();
          job.progress(fraction, in.text());
        }
        return false;
      case Type::heartbeat:
        if (in.number() == number) job.heartbeat();
        return false;
      case Type::ended: {
        auto ending = decode_ending(frame.body);
        if (ending.number != number) return false;
        end = std::move(ending.run);
        return true;
      }
      default:
        throw BadFrame("a message that only a parent sends");
    }
  }

  Children& children;
  Child& child;
  Job const& job;
  std::int64_t const number;
  bool begun = false;
  bool stopping = false;
  bool killed = false;
  Clock::time_point kill_at = never;
  execute::Run end{};
};

// Nothing: the child died before it began with the job, which another one may have.
std::optional<execute::Run> Children::drive(Child& child, Job const& job) {
  Drive drive(*this, child, job);
  std::string nonsense;
  try {
    if (drive.talk()) return std::move(drive.end);
  } catch (BadFrame const& error) {
    nonsense = error.what();
  }
  if (!drive.begun && !drive.killed && nonsense.empty()) {
    auto const how = child.reap();
    log_.warning("child process was lost between two jobs", {{"how", how}});
    return std::nullopt;
  }
  return lost(child, drive.begun, drive.killed, nonsense);
}

execute::Run Children::lost(Child& child, bool begun, bool killed, std::string_view nonsense) {
  bool const torn = child.frames.torn();
  auto how = child.reap();
  if (killed) {
    how += ": it had not ended " + std::to_string(options_.kill_grace.count()) + " ms after it was asked to stop";
    if (hurry_) how = "the worker stops: " + how;
    log_.warning("child process was killed", {{"how", how}});
    return {Failure{.type = "Killed", .message = how}};
  }
  if (!nonsense.empty()) how += " after it had sent what cannot be read: " + std::string(nonsense);
  how += begun ? ", while it ran the handler" : ", before it ran the handler";
  if (torn) how += " and sent how that ended";
  log_.warning("child process was lost", {{"how", how}});
  return {.outcome = Failure{.type = std::string(execute::crashed_type), .message = how}, .crashed = true};
}

}  // namespace posthouse::isolate
