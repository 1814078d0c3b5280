// SPDX-License-Identifier: Apache-2.0
// The thread that starts children and buries them. See children.hpp.
#include <poll.h>
#include <pthread.h>

#include <algorithm>
#include <posthouse/error.hpp>
#include <system_error>
#include <utility>

#include "isolate/children.hpp"

namespace posthouse::isolate {

namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

constexpr milliseconds look_every{1000};  // idle children are looked at so often
constexpr int without_pidfd = 20;         // ms between two looks at a child that leaves
constexpr milliseconds first_pause{100};  // after a start that failed
constexpr milliseconds longest_pause{30'000};

}  // namespace

void Children::keep(std::stop_token const& stop) {
  pthread_setname_np(pthread_self(), "posthouse-kids");
  std::stop_callback const on_stop(stop, [this] { wake_.signal(); });
  while (!stop.stop_requested()) {
    auto now = Clock::now();
    spawn_missing(now);
    std::vector<pollfd> fds{{wake_.fd(), POLLIN, 0}};
    std::vector<Held> watched;  // so that none of these descriptors is another file's meanwhile
    auto until = now + look_every;
    {
      std::lock_guard const lock(mutex_);
      if (living() < static_cast<std::size_t>(options_.processes)) until = std::min(until, std::max(next_spawn_, now));
      for (auto const* list : {&starting_, &idle_, &leaving_}) {
        for (auto const& child : *list) {
          watched.push_back(child);
          fds.push_back({child->pidfd(), POLLIN, 0});
          if (list == &starting_) fds.push_back({child->socket(), POLLIN, 0});
          if (list != &idle_) until = std::min(until, child->deadline);
        }
      }
    }
    auto const left = std::chrono::ceil<milliseconds>(until - now).count();
    (void)::poll(fds.data(), fds.size(), static_cast<int>(std::max<decltype(left)>(left, 0)));
    wake_.drain();
    now = Clock::now();
    look_at_starting(now);
    look_at_idle();
    look_at_leaving(now);
  }
  dismiss_all();
}

// Here and not after this thread's end, with which the kernel kills the children that it has started.
void Children::dismiss_all() {
  std::lock_guard const lock(mutex_);
  leaving_.splice(leaving_.end(), idle_);
  leaving_.splice(leaving_.end(), starting_);
  for (auto const& child : leaving_) child->dismiss();
  auto const until = Clock::now() + leave_wait;
  for (auto const& child : leaving_) {
    while (!child->dead() && Clock::now() < until) {
      pollfd item{child->pidfd(), POLLIN, 0};
      auto const left = std::chrono::ceil<milliseconds>(until - Clock::now()).count();
      (void)::poll(&item, 1, child->pidfd() >= 0 ? static_cast<int>(std::max<decltype(left)>(left, 0)) : without_pidfd);
    }
    child->reap();
  }
  leaving_.clear();
}

void Children::spawn_missing(Clock::time_point now) {
  for (;;) {
    {
      std::lock_guard const lock(mutex_);
      if (living() >= static_cast<std::size_t>(options_.processes) || now < next_spawn_) return;
    }
    try {
      // This thread is the child's parent: should the worker be killed, the child is killed with it.
      auto child = std::make_shared<Child>(options_.argv);
      child->deadline = now + options_.start_wait;
      std::lock_guard const lock(mutex_);
      starting_.push_back(std::move(child));
    } catch (std::system_error const& error) {
      failed(error.what());
    }
  }
}

void Children::failed(std::string const& why) {
  {
    std::lock_guard const lock(mutex_);
    auto pause = first_pause;
    for (int i = 0; i < failures_ && pause < longest_pause; ++i) pause *= 2;
    ++failures_;
    next_spawn_ = Clock::now() + std::min(pause, longest_pause);
    last_failure_ = why;
  }
  log_.error("a child process did not become ready", {{"reason", why}});
  changed_.notify_all();
}

void Children::look_at_starting(Clock::time_point now) {
  std::vector<Held> all;
  {
    std::lock_guard const lock(mutex_);
    all.assign(starting_.begin(), starting_.end());
  }
  for (auto const& child : all) {
    std::string why;
    bool ready = false;
    try {
      bool const dead = child->dead();
      bool const open = child->receive();
      if (auto const frame = child->frames.next()) {
        FrameReader in(frame->body);
        if (frame->type == Type::refused) {
          why = in.text();
        } else if (frame->type == Type::hello) {
          std::set<std::string, std::less<>> kinds;
          for (auto left = in.number(); left > 0; --left) kinds.emplace(in.text());
          ready = true;
          for (auto const& kind : options_.kinds) {
            if (kinds.contains(kind)) continue;
            ready = false;
            why = "it has no handler for kind '" + kind + "': register the same handlers in every run of the program";
          }
        } else {
          why = "it begins with a message that only a parent sends";
        }
      } else if (dead || !open) {
        why = child->reap() + " before it was ready: does main() always call run_worker()?";
      } else if (now >= child->deadline) {
        why = "it was not ready after " + std::to_string(options_.start_wait.count() / 1000) + " s";
      } else {
        continue;
      }
    } catch (BadFrame const& error) {
      why = error.what();
    }
    if (!ready) child->reap();
    {
      std::lock_guard const lock(mutex_);
      starting_.remove(child);
      if (ready) {
        idle_.push_back(child);
        failures_ = 0;
      }
    }
    if (ready) {
      changed_.notify_all();
    } else {
      failed(why);
    }
  }
}

void Children::look_at_idle() {
  std::vector<Held> gone;
  {
    std::lock_guard const lock(mutex_);
    for (auto it = idle_.begin(); it != idle_.end();) {
      if ((*it)->dead()) {
        gone.push_back(*it);
        it = idle_.erase(it);
      } else {
        ++it;
      }
    }
  }
  for (auto const& child : gone) log_.warning("child process was lost between two jobs", {{"how", child->reap()}});
}

void Children::look_at_leaving(Clock::time_point now) {
  std::lock_guard const lock(mutex_);
  for (auto it = leaving_.begin(); it != leaving_.end();) {
    if ((*it)->dead() || now >= (*it)->deadline) {
      (*it)->reap();
      it = leaving_.erase(it);
    } else {
      ++it;
    }
  }
}

}  // namespace posthouse::isolate
