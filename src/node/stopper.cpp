// SPDX-License-Identifier: Apache-2.0
#include "node/stopper.hpp"

#include <pthread.h>

#include <algorithm>
#include <utility>

namespace posthouse::node {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kAgain = 100ms;
/// Of kill_after: when the server process has not ended by then, the connection is given up.
constexpr int kSeverAfter = 4;

}  // namespace

Stopper::~Stopper() {
  std::unique_lock lock(mutex_);
  auto thread = std::move(thread_);
  lock.unlock();
  if (thread.joinable()) {
    thread.request_stop();
    thread.join();
  }
}

void Stopper::ask(Ways const& ways, std::optional<Targets::iterator>& place) {
  std::jthread ended;
  std::lock_guard const lock(mutex_);
  place = targets_.insert(targets_.end(), {.ways = ways, .asked = Clock::now(), .busy = false});
  if (running_) {
    changed_.notify_all();
    return;
  }
  running_ = true;
  ended = std::exchange(thread_, std::jthread([this](std::stop_token const& stop) { loop(stop); }));
}

void Stopper::forget(std::optional<Targets::iterator>& place) {
  std::unique_lock lock(mutex_);
  if (!place) return;
  changed_.wait(lock, [&] { return !(*place)->busy; });
  targets_.erase(*place);
  place.reset();
  changed_.notify_all();
}

void Stopper::loop(std::stop_token const& stop) {
  pthread_setname_np(pthread_self(), "posthouse-stop");
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested() && !targets_.empty()) {
    for (auto it = targets_.begin(); it != targets_.end();) {
      auto const age = Clock::now() - it->asked;
      auto const& ways = it->ways;
      auto const& way = age < kill_after_ ? ways.cancel : age < kSeverAfter * kill_after_ ? ways.kill : ways.sever;
      it->busy = true;
      lock.unlock();
      if (way) way();
      lock.lock();
      it->busy = false;
      ++it;
      changed_.notify_all();
    }
    changed_.wait_for(lock, stop, std::min<std::chrono::milliseconds>(kAgain, kill_after_),
                      [this] { return targets_.empty(); });
  }
  running_ = false;
}

Stopper::Watch::Watch(Stopper& stopper, std::stop_token const& stop, Ways ways)
    : stopper_(stopper), ways_(std::move(ways)) {
  callback_.emplace(stop, [this] { stopper_.ask(ways_, place_); });
}

Stopper::Watch::~Watch() {
  callback_.reset();
  stopper_.forget(place_);
}

}  // namespace posthouse::node
