// SPDX-License-Identifier: Apache-2.0
// See interrupt.hpp.
#include "bench/interrupt.hpp"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <system_error>

namespace posthouse::bench {

namespace {

constexpr int cancel_every_ms = 200;
constexpr auto same_within = std::chrono::seconds(1);  // timeout(1) signals the process and then its group

}  // namespace

Interrupt::Interrupt() {
  sigset_t ours;
  ::sigemptyset(&ours);
  for (int const number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction now {};
    ::sigaction(number, nullptr, &now);
    if (now.sa_handler != SIG_IGN) ::sigaddset(&ours, number);
  }
  signals_.reset(::signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) throw std::system_error(errno, std::generic_category(), "signalfd");
  ::pthread_sigmask(SIG_BLOCK, &ours, &outer_);
  thread_ = std::thread([this] { watch(); });
}

Interrupt::~Interrupt() {
  over_.signal();
  thread_.join();
  ::pthread_sigmask(SIG_SETMASK, &outer_, nullptr);
}

void Interrupt::sleep(std::chrono::microseconds time) const {
  check();
  pollfd item{came_.fd(), POLLIN, 0};
  timespec const most{time.count() / 1'000'000, time.count() % 1'000'000 * 1000};
  ::ppoll(&item, 1, &most, nullptr);
  check();
}

void Interrupt::cancels(std::function<void()> cancel) {
  std::lock_guard const lock(mutex_);
  cancel_ = std::move(cancel);
}

void Interrupt::watch() {
  std::chrono::steady_clock::time_point first{};
  for (;;) {
    pollfd items[2] = {{signals_.get(), POLLIN, 0}, {over_.fd(), POLLIN, 0}};
    ::poll(items, 2, signal_ == 0 ? -1 : cancel_every_ms);
    if (items[1].revents != 0) return;
    signalfd_siginfo info{};
    if (::read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      auto const now = std::chrono::steady_clock::now();
      if (signal_ != 0 && now - first < same_within) continue;
      if (signal_ != 0) {
        constexpr std::string_view text = "bench: ended without cleaning up; the next run does\n";
        [[maybe_unused]] auto const written = ::write(STDERR_FILENO, text.data(), text.size());
        ::_exit(128 + static_cast<int>(info.ssi_signo));
      }
      first = now;
      signal_ = static_cast<int>(info.ssi_signo);
      came_.signal();
    }
    if (signal_ == 0) continue;
    std::lock_guard const lock(mutex_);
    if (cancel_) cancel_();
  }
}

}  // namespace posthouse::bench
