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
#include <utility>
#include <vector>

#include "base/event_fd.hpp"
#include "base/log.hpp"
#include "core/listen_proof.hpp"
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

  /// Starts and finishes connecting when it is time. True: there is a new connection, which says that it listens. Until
  /// it has heard what challenge() says, sent over another one, nothing else may be asked of it: behind a pooler in
  /// transaction mode session locks would stay with a server connection that others get.
  bool maintain(Clock::time_point now);
  /// The payload of the notification to send to a new connection.
  [[nodiscard]] std::string const& challenge() const noexcept { return challenge_; }
  /// True, once: a connection has heard it. A keeper's bells and the like may be asked of it from now on.
  bool newly_proven() noexcept { return std::exchange(news_, false); }
  /// Sleeps until the deadline, `wake`, something to read at `other` (-1: none) or a notification; returns payloads. Leaves
  /// `wake` signalled: what it stands for has not been looked at yet. Throws Error when the connection breaks: call drop()
  /// then.
  std::vector<std::string> wait(Clock::time_point deadline, int other = -1);
  void drop();
  /// When the connection has been silent for half a minute: it notifies itself. Throws Error when it is deaf; call
  /// drop() then. True: a statement was sent.
  bool prove(Clock::time_point now);
  /// The database is there again: no longer wait to try.
  void hurry() noexcept { next_try_ = {}; }
  /// nullptr: none at this moment, or none that has been proven.
  [[nodiscard]] pg::Connection* connection() const noexcept { return proven_ ? connection_.get() : nullptr; }
  /// There may be notifications to read.
  [[nodiscard]] bool hears() const noexcept { return connection_ != nullptr; }
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
  core::ListenProof proof_;
  std::string challenge_{};
  bool proven_ = false;
  bool news_ = false;
  bool told_ = false;  // that a pooler is in between
  Clock::time_point next_try_{};
};

}  // namespace posthouse::node
