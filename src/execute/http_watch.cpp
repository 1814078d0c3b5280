// SPDX-License-Identifier: Apache-2.0
#include "execute/http_watch.hpp"

#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>

#include <cstddef>
#include <utility>

namespace posthouse::execute {
namespace {

using namespace std::chrono_literals;

constexpr auto kLookEvery = 50ms;

std::uint64_t received(int fd) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return 0;
  return size >= offsetof(tcp_info, tcpi_bytes_received) + sizeof info.tcpi_bytes_received ? info.tcpi_bytes_received
                                                                                           : 0;
}

}  // namespace

std::shared_ptr<HttpWatch> HttpWatch::shared() {
  static std::mutex mutex;
  static std::weak_ptr<HttpWatch> one;
  std::lock_guard const lock(mutex);
  auto watch = one.lock();
  if (!watch) one = watch = std::make_shared<HttpWatch>();
  return watch;
}

HttpWatch::HttpWatch()
    : thread_([this](std::stop_token const& stop) {
        pthread_setname_np(pthread_self(), "posthouse-http");
        run(stop);
      }) {}

void HttpWatch::run(std::stop_token const& stop) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    if (entries_.empty()) {
      changed_.wait(lock, stop, [this] { return !entries_.empty(); });
      continue;
    }
    auto const now = Clock::now();
    for (auto& entry : entries_) look(entry, now);
    (void)changed_.wait_for(lock, stop, kLookEvery, [] { return false; });
  }
}

void HttpWatch::look(Entry& entry, Clock::time_point now) {
  if (entry.why == Why::none) {
    if (entry.stop_asked) {
      entry.why = Why::stopped;
    } else if (now >= entry.deadline) {
      entry.why = Why::late;
    } else if (entry.socket && received(entry.socket.get()) > entry.most_bytes) {
      entry.why = Why::flooded;
    }
  }
  // Again and again: before a connection is made it does nothing.
  if (entry.why != Why::none && entry.socket) ::shutdown(entry.socket.get(), SHUT_RDWR);
}

HttpWatch::Watched::Watched(std::shared_ptr<HttpWatch> watch, Clock::time_point deadline, std::uint64_t most_bytes,
                            std::stop_token const& stop)
    : watch_(std::move(watch)) {
  {
    std::lock_guard const lock(watch_->mutex_);
    watch_->entries_.push_back({.deadline = deadline, .most_bytes = most_bytes});
    entry_ = std::prev(watch_->entries_.end());
  }
  watch_->changed_.notify_one();
  // At once, on the thread that asks.
  stop_.emplace(stop, [this] {
    std::lock_guard const lock(watch_->mutex_);
    entry_->stop_asked = true;
    look(*entry_, Clock::now());
  });
}

HttpWatch::Watched::~Watched() {
  stop_.reset();
  std::lock_guard const lock(watch_->mutex_);
  watch_->entries_.erase(entry_);
}

void HttpWatch::Watched::socket(int fd) {
  // Ours stays valid, and the same socket, whatever becomes of the caller's number.
  base::UniqueFd mine(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
  std::lock_guard const lock(watch_->mutex_);
  entry_->socket = std::move(mine);
}

HttpWatch::Why HttpWatch::Watched::why() const {
  std::lock_guard const lock(watch_->mutex_);
  return entry_->why;
}

}  // namespace posthouse::execute
