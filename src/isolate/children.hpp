// SPDX-License-Identifier: Apache-2.0
// The child processes of a worker: started, given jobs one at a time, replaced when they die or have grown old.
//
// A thread of its own starts children and buries them; a handler thread drives the child that runs its job. What a child
// does, to itself or to what it sends, costs the attempt that it runs and nothing else.
// Memory: the frames of one job a child.
// Thread safety: run() and hurry() from any thread; start() once, before run(). Destroy when no run() is under way.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <posthouse/job.hpp>
#include <set>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/event_fd.hpp"
#include "base/log.hpp"
#include "execute/run.hpp"
#include "isolate/child.hpp"

namespace posthouse::isolate {

inline constexpr std::chrono::milliseconds leave_wait{5000};  ///< for a child that gets no more jobs, to end by itself

class Children {
 public:
  using Clock = std::chrono::steady_clock;

  struct Options {
    int processes = 1;
    std::vector<std::string> argv{};
    std::vector<std::string> kinds{};             ///< a child without a handler for one of these is refused
    std::chrono::milliseconds kill_grace{5000};   ///< from the request to stop to SIGKILL
    std::int64_t max_jobs = 0;                    ///< of one child; 0: any number
    std::int64_t max_memory_mb = 0;               ///< a child that has more after a job is replaced; 0: any amount
    std::chrono::milliseconds start_wait{30000};  ///< a child that is not ready by then has failed
  };

  Children(Options options, base::Log const& log);
  /// Dismisses all, and kills those that are still there after leave_wait.
  ~Children();
  Children(Children const&) = delete;
  Children& operator=(Children const&) = delete;

  /// Returns when all children are ready. Throws Error with what the first one that failed has said.
  void start();

  /// Runs the job in a child. Never throws for anything that the child does.
  execute::Run run(Job const& job);

  /// From now on a child that was asked to stop is killed after a second at most.
  void hurry();

 private:
  using Held = std::shared_ptr<Child>;

  struct Drive;  // one job on one child

  Held take(Job const& job);
  void give_back(Held child);
  std::optional<execute::Run> drive(Child& child, Job const& job);
  execute::Run lost(Child& child, bool begun, bool killed, std::string_view nonsense);

  void keep(std::stop_token const& stop);
  void spawn_missing(Clock::time_point now);
  void look_at_starting(Clock::time_point now);
  void look_at_idle();
  void look_at_leaving(Clock::time_point now);
  void dismiss_all();
  void failed(std::string const& why);
  [[nodiscard]] std::size_t living() const { return starting_.size() + idle_.size() + busy_.size(); }

  Options const options_;
  base::Log const& log_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable_any changed_;
  std::list<Held> starting_{};  // the keeper alone adds to and takes from it
  std::list<Held> idle_{};
  std::set<Held> busy_{};
  std::list<Held> leaving_{};
  int failures_ = 0;  // starts that failed since the last that did not
  std::string last_failure_{};
  Clock::time_point next_spawn_{};

  std::atomic<bool> hurry_{false};
  base::EventFd wake_{};  // the keeper
  std::jthread keeper_;   // last
};

}  // namespace posthouse::isolate
