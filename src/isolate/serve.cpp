// SPDX-License-Identifier: Apache-2.0
// See serve.hpp.
#include "isolate/serve.hpp"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string_view>
#include <thread>
#include <utility>
#include <variant>

#include "isolate/child.hpp"
#include "isolate/message.hpp"

namespace posthouse::isolate {

namespace {

constexpr int lost_parent = 70;  // exit status; nobody is left to read it
constexpr std::size_t progress_text_bytes = 1000;

void nothing(int) {}

// A handler and not SIG_IGN, which programs that a handler starts would inherit.
void leave_signals_to_the_parent() {
  struct sigaction action {};
  action.sa_handler = nothing;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigset_t blocked;
  sigemptyset(&blocked);
  for (int const signal : parents_signals) {
    ::sigaction(signal, &action, nullptr);
    sigaddset(&blocked, signal);
  }
  ::pthread_sigmask(SIG_UNBLOCK, &blocked, nullptr);
}

// Should memory run out, the kernel is to take the child that uses it up, and not its parent or the database.
void volunteer_for_the_oom_killer() {
  int const fd = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  [[maybe_unused]] auto const written = ::write(fd, "1000", 4);
  ::close(fd);
}

struct Current {
  Order order{};
  std::stop_source stop{};
};

class Server final : Job::Link {
 public:
  Server(base::UniqueFd socket, Service const& service, base::Log const& log)
      : socket_(std::move(socket)), service_(service), log_(log) {}

  int go() {
    try {
      if (service_.on_start) service_.on_start();
    } catch (...) {
      auto const run = execute::outcome_of(std::current_exception());
      auto const* const failure = std::get_if<Failure>(&run.outcome);
      auto const why = failure == nullptr ? "an outcome" : failure->type + ": " + failure->message;
      send(FrameWriter(Type::refused).text("on_child_start has thrown " + why).take());
      return 1;
    }
    FrameWriter hello(Type::hello);
    hello.number(static_cast<std::int64_t>(service_.handlers.size()));
    for (auto const& [kind, registered] : service_.handlers) hello.text(kind);
    send(hello.take());
    reader_ = std::jthread([this](std::stop_token const& stop) { read(stop); });
    while (auto const current = next()) {
      auto const run = work(*current);
      send(encode_ending(current->order.number, run));
    }
    return 0;
  }

 private:
  std::shared_ptr<Current> next() {
    std::unique_lock lock(mutex_);
    ended_ = true;
    changed_.wait(lock, [this] { return closed_ || waiting_; });
    if (closed_) return nullptr;
    ended_ = false;
    waiting_ = false;
    reported_.reset();
    alive_ = false;
    completed_ = false;
    return current_;
  }

  execute::Run work(Current& current) {
    auto const number = current.order.number;
    send(FrameWriter(Type::begun).number(number).take());
    auto const kind = service_.handlers.find(current.order.facts.kind);
    if (kind == service_.handlers.end()) return {Failure{.type = "no handler", .message = "the child has none"}};
    Job const job(std::move(current.order.facts), current.stop.get_token(), this);
    auto run = execute::run(kind->second.handler, service_.around, job);
    {
      std::lock_guard const lock(mutex_);
      ended_ = true;
    }
    if (auto* const success = std::get_if<Success>(&run.outcome)) {
      // What cannot be stored need not be sent.
      auto const kept = execute::kept(*success, service_.max_result_bytes);
      if (completed_ || !kept) {
        *success = {};
      } else if (!kept->has_value) {
        *success = {{}, kept->problem};
      }
    }
    return run;
  }

  // The reader's thread.
  void read(std::stop_token const& stop) {
    pthread_setname_np(pthread_self(), "posthouse-child");
    std::stop_callback const on_stop(stop, [this] { wake_.signal(); });
    FrameStream frames;
    std::array<char, 64 * 1024> buffer;  // NOLINT(cppcoreguidelines-pro-type-member-init)
    while (!stop.stop_requested()) {
      std::array<pollfd, 2> fds{pollfd{socket_.get(), POLLIN, 0}, pollfd{wake_.fd(), POLLIN, 0}};
      (void)::poll(fds.data(), fds.size(), -1);
      if (wake_.drain()) report();
      if (fds[0].revents == 0) continue;
      auto const got = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (got < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK)) continue;
      if (got <= 0) return closed();
      try {
        frames.add(std::string_view(buffer.data(), static_cast<std::size_t>(got)));
        while (auto frame = frames.next()) hear(*frame);
      } catch (std::exception const& error) {
        log_.error("the worker sends what cannot be read", {{"error", error.what()}});
        ::_exit(lost_parent);
      }
    }
  }

  void closed() {
    std::lock_guard const lock(mutex_);
    // In the middle of a job it is the parent that has died, and the job is somebody else's.
    if (!ended_ || waiting_) ::_exit(lost_parent);
    closed_ = true;
    changed_.notify_all();
  }

  void hear(Frame const& frame) {
    if (frame.type == Type::order) {
      auto current = std::make_shared<Current>();
      current->order = decode_order(frame.body);
      std::lock_guard const lock(mutex_);
      number_ = current->order.number;
      current_ = std::move(current);
      waiting_ = true;
      changed_.notify_all();
    } else if (frame.type == Type::stop) {
      std::shared_ptr<Current> current;
      {
        std::lock_guard const lock(mutex_);
        if (number_ == FrameReader(frame.body).number()) current = current_;
      }
      // Callbacks of users run in there.
      if (current) current->stop.request_stop();
    } else {
      throw BadFrame("a message that only a child sends");
    }
  }

  // What the handler has said since the last time; a handler that says much is not slowed down by the socket.
  void report() {
    std::string message;
    {
      std::lock_guard const lock(mutex_);
      told_ = false;
      if (ended_) return;
      if (auto const last = std::exchange(reported_, std::nullopt)) {
        message = FrameWriter(Type::progress).number(number_).real(last->first).text(last->second).take();
      }
      if (std::exchange(alive_, false)) message += FrameWriter(Type::heartbeat).number(number_).take();
    }
    send(message);
  }

  void progress(double fraction, std::string_view text) override {
    std::lock_guard const lock(mutex_);
    reported_.emplace(fraction, text.substr(0, progress_text_bytes));
    if (!std::exchange(told_, true)) wake_.signal();
  }
  void heartbeat() override {
    std::lock_guard const lock(mutex_);
    alive_ = true;
    if (!std::exchange(told_, true)) wake_.signal();
  }
  void complete(Job const& job, Transaction const& transaction, Payload const& result) override {
    auto const stored = execute::kept(Success{result, {}}, service_.max_result_bytes);
    service_.complete(job, transaction, stored.get());
    completed_ = !result.is_null();
  }

  void send(std::string_view message) {
    std::lock_guard const lock(send_mutex_);
    while (!message.empty()) {
      auto const sent = ::send(socket_.get(), message.data(), message.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0) return;  // the reader sees it too
      message.remove_prefix(static_cast<std::size_t>(sent));
    }
  }

  base::UniqueFd socket_;
  Service const& service_;
  base::Log const& log_;

  std::mutex send_mutex_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  bool closed_ = false;
  bool waiting_ = false;  // current_ is to be run
  bool ended_ = true;     // no handler runs
  std::shared_ptr<Current> current_{};
  std::int64_t number_ = 0;
  std::optional<std::pair<double, std::string>> reported_{};
  bool alive_ = false;
  bool told_ = false;

  bool completed_ = false;  // with a result; the handler's thread alone
  base::EventFd wake_{};
  std::jthread reader_;  // last
};

}  // namespace

std::optional<base::UniqueFd> parent_socket() {
  char const* const given = std::getenv(child_variable);  // NOLINT(concurrency-mt-unsafe)
  if (given == nullptr) return std::nullopt;
  std::string_view const text = given;
  auto const colon = std::min(text.find(':'), text.size());
  int fd = -1;
  pid_t parent = -1;
  std::from_chars(text.data(), text.data() + colon, fd);
  if (colon < text.size()) std::from_chars(text.data() + colon + 1, text.data() + text.size(), parent);
  ::unsetenv(child_variable);  // NOLINT(concurrency-mt-unsafe)
  int type = 0;
  socklen_t size = sizeof type;
  if (fd < 0 || parent != ::getppid() || ::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0) {
    // The worker has died meanwhile. What it started must not become a worker of its own.
    constexpr std::string_view message = "posthouse: this child process has lost its worker\n";
    [[maybe_unused]] auto const written = ::write(STDERR_FILENO, message.data(), message.size());
    ::_exit(lost_parent);
  }
  base::UniqueFd socket(fd);
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  leave_signals_to_the_parent();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(lost_parent);
  volunteer_for_the_oom_killer();
  return socket;
}

int serve(base::UniqueFd socket, Service const& service, base::Log const& log) {
  return Server(std::move(socket), service, log).go();
}

}  // namespace posthouse::isolate
