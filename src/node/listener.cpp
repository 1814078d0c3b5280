// SPDX-License-Identifier: Apache-2.0
// See listener.hpp.
#include "node/listener.hpp"

#include <poll.h>

#include <algorithm>
#include <utility>

#include "base/random.hpp"
#include "store/work.hpp"

namespace posthouse::node {

namespace {

constexpr std::chrono::milliseconds longest_statement{5'000};

}  // namespace

Listener::Listener(DatabaseOptions const& options, base::EventFd const& wake, base::Log const& log,
                   std::chrono::milliseconds retry)
    : options_(options),
      wake_(wake),
      log_(log),
      possible_(!options.pgbouncer_transaction_mode || !options.session_database_url.empty()),
      backoff_(std::chrono::milliseconds{100}, retry) {
  if (!possible_) {
    log_.info("no LISTEN through a transaction pooler: polling instead; set session_database_url for fast wake-ups");
  }
}

// Waits for an attempt to connect that is under way; it has a deadline of its own.
Listener::~Listener() = default;

bool Listener::maintain(Clock::time_point now) {
  if (connection_ || !possible_) return false;
  if (!opening_.valid()) {
    if (now < next_try_) return false;
    opening_ = std::async(std::launch::async, [options = options_, &wake = wake_] {
      struct Signal {
        base::EventFd const& fd;
        ~Signal() { fd.signal(); }
      } const signal{wake};
      auto connection = pg::Connection::open_session(options);
      store::Work(*connection).listen();
      return connection;
    });
    return false;
  }
  if (opening_.wait_for(std::chrono::seconds{0}) != std::future_status::ready) return false;
  try {
    connection_ = opening_.get();
    // A worker that waits for this connection does not claim meanwhile.
    connection_->set_deadline(std::min(options_.statement_timeout, longest_statement));
    backoff_.reset();
    return true;
  } catch (Error const& error) {
    if (backoff_.failures() == 0) {
      log_.warning("no LISTEN connection, polling until there is one", {{"error", error.what()}});
    }
    postpone();
    return false;
  }
}

void Listener::postpone() { next_try_ = Clock::now() + backoff_.next(base::random_unit()); }

std::optional<Listener::Clock::time_point> Listener::due() const {
  if (connection_ || !possible_) return std::nullopt;
  if (!opening_.valid()) return next_try_;
  // The signal comes a moment before the result is there.
  return Clock::now() +
         std::chrono::milliseconds{opening_.wait_for(std::chrono::seconds{0}) == std::future_status::ready ? 0 : 10};
}

std::vector<std::string> Listener::wait(Clock::time_point deadline, int other) {
  std::vector<std::string> payloads;
  if (connection_) {
    for (auto& notification : connection_->wait(wake_.fd(), deadline, other))
      payloads.push_back(std::move(notification.payload));
  } else {
    auto const left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    pollfd items[2] = {{wake_.fd(), POLLIN, 0}, {other, POLLIN, 0}};
    ::poll(items, 2, static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 60'000)));
  }
  return payloads;
}

void Listener::drop() {
  connection_.reset();
  postpone();
}

}  // namespace posthouse::node
