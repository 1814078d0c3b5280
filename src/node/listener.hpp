// SPDX-License-Identifier: Apache-2.0
// The LISTEN connection of a worker: opened in the background and again when it breaks, so that a session endpoint that
// is out of reach never holds up claims; and the place where the worker sleeps.
//
// Thread safety: one thread at a time.
#pragma once

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <posthouse/options.hpp>
#include <string>
#include <vector>

#include "base/event_fd.hpp"
#include "base/log.hpp"
#include "core/reconnect.hpp"
#include "pg/connection.hpp"

namespace posthouse::node {

class Listener {
 public:
  using Clock = std::chrono::steady_clock;

  /// `wake` is signalled when a connection has been opened or could not be.
  /// `retry`: the longest wait between two tries.
  Listener(DatabaseOptions const& options, base::EventFd const& wake, base::Log const& log,
           std::chrono::milliseconds retry = std::chrono::milliseconds{30'000});
  ~Listener();

  /// Starts and finishes connecting when it is time. True: there is a new connection, and it listens.
  bool maintain(Clock::time_point now);
  /// Sleeps until the deadline, `wake`, something to read at `other` (-1: none) or a notification; returns payloads. Leaves `wake` signalled: what it stands for
  /// has not been looked at yet. Throws Error when the connection breaks: call drop() then.
  std::vector<std::string> wait(Clock::time_point deadline, int other = -1);
  void drop();
  /// nullptr: none at this moment.
  [[nodiscard]] pg::Connection* connection() const noexcept { return connection_.get(); }
  /// When maintain() has something to do; nullopt: not before `wake`.
  [[nodiscard]] std::optional<Clock::time_point> due() const;

 private:
  void postpone();

  DatabaseOptions const options_;
  base::EventFd const& wake_;
  base::Log const& log_;
  bool const possible_;
  std::unique_ptr<pg::Connection> connection_;
  std::future<std::unique_ptr<pg::Connection>> opening_;
  core::ReconnectBackoff backoff_;
  Clock::time_point next_try_{};
};

}  // namespace posthouse::node
