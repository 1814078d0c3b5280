// SPDX-License-Identifier: Apache-2.0
// See signals.hpp.
#include "node/signals.hpp"

#include <poll.h>

#include <atomic>
#include <posthouse/error.hpp>

namespace posthouse::node {

namespace {

// The one watch of the process; a signal handler can use nothing else.
std::atomic<base::EventFd const*> watch{nullptr};
std::atomic<int> signals{0};
std::atomic<int> hangups{0};
std::atomic<int> latest_signal{0};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<base::EventFd const*>::is_always_lock_free);

void on_signal(int number) {
  if (number != SIGHUP) latest_signal = number;
  ++(number == SIGHUP ? hangups : signals);
  if (auto const* wake = watch.load()) wake->signal();
}

}  // namespace

SignalWatch::SignalWatch(bool hangup) : hangup_(hangup) {
  base::EventFd const* none = nullptr;
  if (!watch.compare_exchange_strong(none, &wake_)) {
    throw InvalidArgument("run() is already active in this process: use start() and stop() for further workers");
  }
  signals = 0;
  latest_signal = 0;
  hangups = 0;
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGTERM, &action, &before_term_);
  ::sigaction(SIGINT, &action, &before_int_);
  if (hangup_) ::sigaction(SIGHUP, &action, &before_hup_);
}

SignalWatch::~SignalWatch() {
  ::sigaction(SIGTERM, &before_term_, nullptr);
  ::sigaction(SIGINT, &before_int_, nullptr);
  if (hangup_) ::sigaction(SIGHUP, &before_hup_, nullptr);
  watch = nullptr;
}

void SignalWatch::wait(std::chrono::milliseconds most) const {
  pollfd item{wake_.fd(), POLLIN, 0};
  // EINTR is a signal too: the caller looks at count() either way.
  ::poll(&item, 1, static_cast<int>(most.count()));
  wake_.drain();
}

int SignalWatch::take_hangups() const noexcept { return hangups.exchange(0); }

int SignalWatch::count() const noexcept { return signals.load(); }

int SignalWatch::latest() const noexcept { return latest_signal.load(); }

}  // namespace posthouse::node
