// SPDX-License-Identifier: Apache-2.0
#include "base/service.hpp"

#include <pthread.h>

#include <utility>

#include "base/leave_signals.hpp"

namespace posthouse::base {

Service::Service(std::string name, Body body, std::function<void()> wake)
    : name_(name.substr(0, 15)), body_(std::move(body)), wake_(std::move(wake)) {}

Service::~Service() { stop(); }

void Service::start() {
  std::lock_guard const whole(lifecycle_);
  {
    std::lock_guard const lock(state_);
    if (running_) return;
  }
  if (thread_.joinable()) thread_.join();
  std::lock_guard const lock(state_);
  // The thread takes state_ first thing, so it sees all that is set here.
  thread_ = std::jthread([this](std::stop_token const& stop) { run(stop); });
  stop_ = thread_.get_stop_source();
  id_ = thread_.get_id();
  running_ = true;
}

void Service::run(std::stop_token const& stop) noexcept {
  { std::lock_guard const lock(state_); }
  leave_signals_to_others();
  ::pthread_setname_np(::pthread_self(), name_.c_str());
  body_(stop);
  std::lock_guard const lock(state_);
  running_ = false;
}

void Service::request_stop() noexcept {
  std::stop_source stop{std::nostopstate};
  {
    std::lock_guard const lock(state_);
    if (!running_) return;
    stop = stop_;
  }
  if (stop.request_stop() && wake_) wake_();
}

void Service::stop() noexcept {
  request_stop();
  {
    std::lock_guard const lock(state_);
    if (id_ == std::this_thread::get_id()) return;
  }
  std::lock_guard const whole(lifecycle_);
  // Again: start() may have come in between.
  request_stop();
  if (thread_.joinable()) thread_.join();
  std::lock_guard const lock(state_);
  id_ = {};
}

bool Service::running() const noexcept {
  std::lock_guard const lock(state_);
  return running_;
}

}  // namespace posthouse::base
