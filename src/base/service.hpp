// SPDX-License-Identifier: Apache-2.0
// A thread that can be started and stopped any number of times, in any order, from any thread.
//
// Thread safety: all members. stop() returns when the thread has ended; called from the thread itself it only asks,
// since a thread cannot wait for its own end.
#pragma once

#include <functional>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>

namespace posthouse::base {

class Service {
 public:
  using Body = std::function<void(std::stop_token)>;

  /// `name` is shown by ps and debuggers (15 bytes are kept). `wake` gets the body out of whatever it waits in; it is
  /// called once for each request to stop. Neither may throw: a service that ended unseen would be worse than an abort.
  Service(std::string name, Body body, std::function<void()> wake = {});
  ~Service();
  Service(Service const&) = delete;
  Service& operator=(Service const&) = delete;

  /// No effect while the body runs; a body that has ended is started again.
  void start();
  void stop() noexcept;
  void request_stop() noexcept;

  [[nodiscard]] bool running() const noexcept;

 private:
  void run(std::stop_token const& stop) noexcept;

  std::string const name_;
  Body const body_;
  std::function<void()> const wake_;

  std::mutex lifecycle_;      // held for the whole of start() and stop()
  mutable std::mutex state_;  // guards what follows, held shortly
  std::stop_source stop_{std::nostopstate};
  std::thread::id id_{};
  bool running_ = false;

  std::jthread thread_;  // last, so that it ends before the rest goes; guarded by lifecycle_
};

}  // namespace posthouse::base
