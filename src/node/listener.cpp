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
      possible_(!options.pgbouncer_transaction_mode || !options.session_database_url.empty() || options.listen),
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
      auto connection = pg::Connection::open_listener(options);
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
    proof_.begin(now, base::random_unit());
    proof_.asked(now, true);
    challenge_ = "l" + base::random_uuid();
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
  if (connection_) return proof_.due();
  if (!possible_) return std::nullopt;
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
    if (!proven_) {
      proven_ = news_ = std::find(payloads.begin(), payloads.end(), challenge_) != payloads.end();
      if (proven_) backoff_.reset();
    }
    if (proven_ && !payloads.empty()) proof_.heard(Clock::now());
  } else {
    auto const left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    pollfd items[2] = {{wake_.fd(), POLLIN, 0}, {other, POLLIN, 0}};
    ::poll(items, 2, static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 60'000)));
  }
  return payloads;
}

bool Listener::prove(Clock::time_point now) {
  if (!connection_) return false;
  switch (proof_.step(now)) {
    case core::ListenProof::Step::none:
      return false;
    case core::ListenProof::Step::ask: {
      bool const sent = store::Work(*connection_).notify_self();
      proof_.asked(Clock::now(), sent);
      return true;
    }
    case core::ListenProof::Step::deaf:
      break;
  }
  if (!proven_) {
    if (!std::exchange(told_, true)) {
      bool const given = !options_.session_database_url.empty();
      log_.warning(
          given
              ? "a NOTIFY did not arrive: session_database_url leads to a pooler in transaction mode, polling instead; "
                "set it to the server itself"
              : "a NOTIFY did not arrive: database_url leads to a pooler in transaction mode, polling instead; set "
                "pgbouncer_transaction_mode, and session_database_url to the server itself");
    }
    throw Unavailable("a notification to a new LISTEN connection has not arrived");
  }
  log_.warning("the LISTEN connection does not hear its own notification: it is opened anew",
               {{"hint", "is session_database_url a pooler in transaction mode?"}});
  throw Unavailable("a notification to itself has not come back");
}

void Listener::drop() {
  connection_.reset();
  proven_ = news_ = false;
  postpone();
}

}  // namespace posthouse::node
