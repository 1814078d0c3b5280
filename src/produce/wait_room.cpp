// SPDX-License-Identifier: Apache-2.0
#include "produce/wait_room.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <iterator>
#include <mutex>
#include <span>
#include <stop_token>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <posthouse/error.hpp>

#include "base/event_fd.hpp"
#include "base/random.hpp"
#include "base/service.hpp"
#include "core/listen_proof.hpp"
#include "core/reconnect.hpp"
#include "core/sqlstate.hpp"
#include "pg/connection.hpp"
#include "store/watch.hpp"

namespace posthouse::produce {

namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds keep_open{5'000};
constexpr milliseconds long_time{3'600'000};
constexpr std::size_t ids_a_call = 1'000;

template <class Call>
void in_parts(std::vector<std::int64_t> const& ids, Call const& call) {
  for (std::size_t at = 0; at < ids.size(); at += ids_a_call) {
    call(std::span(ids).subspan(at, std::min(ids_a_call, ids.size() - at)));
  }
}

}  // namespace

struct WaitRoom::Entry {
  std::int64_t job = 0;
  bool watched = false;  // the server has its lock
  bool left = false;
  bool told = false;
};

struct WaitRoom::Impl {
  Impl(DatabaseOptions const& given, bool session)
      : options(given),
        possible(session && (!options.pgbouncer_transaction_mode || !options.session_database_url.empty() ||
                             options.listen != nullptr)) {}

  void run(std::stop_token const& stop) {
    while (!stop.stop_requested()) {
      try {
        turn();
      } catch (Error const& error) {
        connection.reset();
        std::lock_guard const lock(mutex);
        for (auto const& entry : entries) entry->watched = false;
        leaving.clear();
        next_try = Clock::now() + backoff.next(base::random_unit());
        // Without the right to watch, or in a schema that does not know it, there is nothing to try again.
        if (core::classify(error.sqlstate(), false) == core::Action::caller) possible = false;
      }
    }
    connection.reset();
  }

  void turn() {
    std::vector<std::shared_ptr<Entry>> fresh;
    std::vector<std::int64_t> gone;
    bool idle = false;
    {
      std::lock_guard const lock(mutex);
      idle = entries.empty();
      if (possible) {
        std::copy_if(entries.begin(), entries.end(), std::back_inserter(fresh),
                     [](auto const& entry) { return !entry->watched; });
      }
      gone.swap(leaving);
    }
    auto const now = Clock::now();
    if (!idle) last_used = now;
    if (!connection) {
      if (fresh.empty()) return rest(long_time);
      if (now < next_try) return rest(std::chrono::ceil<milliseconds>(next_try - now));
      connection = pg::Connection::open_listener(options);
      store::listen_done(*connection);
      proof.begin(Clock::now(), base::random_unit());
      backoff.reset();
      gone.clear();  // locks of an earlier session
    }
    if (idle && now >= last_used + keep_open) return connection.reset();
    in_parts(gone, [&](auto ids) { store::unwatch_jobs(*connection, ids); });
    watch(fresh);
    auto const step = proof.step(now);
    if (step == core::ListenProof::Step::deaf) throw Unavailable("a notification to itself has not come back");
    if (step == core::ListenProof::Step::ask) proof.asked(Clock::now(), store::notify_done_self(*connection));
    auto const heard = connection->wait(wake.fd(), idle ? std::min(last_used + keep_open, proof.due()) : proof.due());
    if (!heard.empty()) proof.heard(Clock::now());
    for (auto const& notification : heard) hear(notification.payload);
    wake.drain();
  }

  void watch(std::vector<std::shared_ptr<Entry>> const& fresh) {
    if (fresh.empty()) return;
    std::vector<std::int64_t> ids;
    ids.reserve(fresh.size());
    for (auto const& entry : fresh) ids.push_back(entry->job);
    in_parts(ids, [&](auto some) { store::watch_jobs(*connection, some); });
    {
      std::lock_guard const lock(mutex);
      for (auto const& entry : fresh) {
        if (entry->left) {
          leaving.push_back(entry->job);
        } else {
          entry->watched = true;
          entry->told = true;  // it may have ended before
        }
      }
      if (!leaving.empty()) wake.signal();
    }
    changed.notify_all();
  }

  void hear(std::string_view payload) {
    std::int64_t job = 0;
    auto const [end, error] = std::from_chars(payload.data(), payload.data() + payload.size(), job);
    if (error != std::errc{} || end != payload.data() + payload.size()) return;
    {
      std::lock_guard const lock(mutex);
      for (auto const& entry : entries) entry->told = entry->told || entry->job == job;
    }
    changed.notify_all();
  }

  void rest(milliseconds time) const {
    pollfd item{wake.fd(), POLLIN, 0};
    ::poll(&item, 1, static_cast<int>(time.count()));
    wake.drain();
  }

  DatabaseOptions const options;
  pid_t const owner = ::getpid();

  std::mutex mutex;  // guards the next four
  std::vector<std::shared_ptr<Entry>> entries;
  std::vector<std::int64_t> leaving;  // locks to give back
  bool possible;
  Clock::time_point next_try{};
  std::condition_variable changed;

  // The thread's own.
  std::unique_ptr<pg::Connection> connection;
  core::ReconnectBackoff backoff{milliseconds{100}, milliseconds{30'000}};
  core::ListenProof proof;
  Clock::time_point last_used{};

  base::EventFd wake;
  base::Service service{"posthouse-wait", [this](std::stop_token const& stop) { run(stop); },
                        [this] { wake.signal(); }};
};

WaitRoom::WaitRoom(DatabaseOptions const& options, bool session) : impl_(std::make_unique<Impl>(options, session)) {}

WaitRoom::~WaitRoom() {
  if (impl_ && impl_->owner != ::getpid()) (void)impl_.release();
}

WaitRoom::Watch::Watch(WaitRoom& room, std::int64_t job) : room_(*room.impl_), entry_(std::make_shared<Entry>()) {
  entry_->job = job;
  {
    std::lock_guard const lock(room_.mutex);
    if (!room_.possible || room_.entries.size() >= most_watched) return;
    room_.entries.push_back(entry_);
  }
  try {
    room_.service.start();
  } catch (std::system_error const&) {
    // No thread to be had: a plain pause, then.
    std::lock_guard const lock(room_.mutex);
    std::erase(room_.entries, entry_);
    return;
  }
  room_.wake.signal();
}

WaitRoom::Watch::~Watch() {
  {
    std::lock_guard const lock(room_.mutex);
    entry_->left = true;
    std::erase(room_.entries, entry_);
    if (entry_->watched) room_.leaving.push_back(entry_->job);
  }
  room_.wake.signal();
}

std::int64_t WaitRoom::Watch::job() const noexcept { return entry_->job; }

bool WaitRoom::Watch::sleep(milliseconds pause) {
  std::unique_lock lock(room_.mutex);
  room_.changed.wait_for(lock, pause, [this] { return entry_->told; });
  return std::exchange(entry_->told, false);
}

}  // namespace posthouse::produce
