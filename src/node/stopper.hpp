// SPDX-License-Identifier: Apache-2.0
// Ends the statements of jobs that are asked to stop: by a cancel, again and again since one that comes between two
// statements does nothing, and then by ending their server process, since SQL can catch a cancel.
//
// Its thread exists only while there is something to stop.
// Thread safety: any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>

namespace posthouse::node {

class Stopper {
 public:
  /// Each may block for a while and must not throw.
  struct Ways {
    std::function<void()> cancel{};
    std::function<void()> kill{};
    std::function<void()> sever{};  ///< the last resort: lets go of a connection that does not end
  };

  explicit Stopper(std::chrono::milliseconds kill_after) : kill_after_(kill_after) {}
  ~Stopper();
  Stopper(Stopper const&) = delete;
  Stopper& operator=(Stopper const&) = delete;

  class Watch;

 private:
  struct Target {
    Ways ways{};
    std::chrono::steady_clock::time_point asked{};
    bool busy = false;
  };
  using Targets = std::list<Target>;

  void ask(Ways const& ways, std::optional<Targets::iterator>& place);
  void forget(std::optional<Targets::iterator>& place);
  void loop(std::stop_token const& stop);

  std::chrono::milliseconds const kill_after_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  Targets targets_;
  bool running_ = false;
  std::jthread thread_;
};

/// While it lives, a stop is passed on; afterwards nothing is on its way any more, which would hit the next job.
class Stopper::Watch {
 public:
  Watch(Stopper& stopper, std::stop_token const& stop, Ways ways);
  Watch(Watch const&) = delete;
  Watch& operator=(Watch const&) = delete;
  ~Watch();

 private:
  Stopper& stopper_;
  Ways const ways_;
  std::optional<Targets::iterator> place_{};
  std::optional<std::stop_callback<std::function<void()>>> callback_;
};

}  // namespace posthouse::node
