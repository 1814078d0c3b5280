// SPDX-License-Identifier: Apache-2.0
// A worker for isolation_test: each kind does one thing, most of them to its own process.
#include <fcntl.h>
#include <libpq-fe.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <posthouse/adapter/libpq.hpp>
#include <posthouse/posthouse.hpp>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using posthouse::Job;

namespace {

bool prepared = false;
std::vector<std::unique_ptr<std::vector<char>>> hoard;

[[noreturn]] void hog() noexcept {
  rlimit const limit{1U << 30U, 1U << 30U};
  ::setrlimit(RLIMIT_AS, &limit);
  for (;;) hoard.push_back(std::make_unique<std::vector<char>>(16U << 20U, 'x'));
}

[[noreturn]] void loop() {
  for (unsigned volatile n = 0;;) n = n + 1;
}

// One byte for each process that ends in an orderly way.
void note_exit() {
  int const fd = ::open(std::getenv("TEST_LEFT_FILE"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || ::write(fd, "x", 1) != 1) std::abort();
}

void say(char const* bytes, std::size_t size) {
  constexpr int socket = 3;
  if (::write(socket, bytes, size) < 0) std::abort();
}

posthouse::json pid() { return posthouse::json{std::to_string(::getpid())}; }

void register_handlers(posthouse::Worker& worker) {
  std::string const url = std::getenv("POSTHOUSE_DATABASE_URL");
  posthouse::HandlerOptions again;
  again.backoff = posthouse::Backoff::fixed({0ms});
  posthouse::HandlerOptions once = again;
  once.max_attempts = 1;

  worker.on_child_start([] {
    if (std::getenv("TEST_START_FAILS") != nullptr) throw std::runtime_error("no licence for this machine");
    prepared = true;
    if (std::getenv("TEST_LEFT_FILE") != nullptr) std::atexit(note_exit);
  });
  worker.on("pid", [](Job const&) { return pid(); });
  worker.on("prepared", [](Job const&) { return posthouse::json{prepared ? "true" : "false"}; });
  worker.on("echo", [](Job const& job) { return posthouse::Success{job.payload(), {}}; });
  worker.on("facts", [](Job const& job) {
    return posthouse::json{"{\"queue\":\"" + job.queue() + "\",\"priority\":" + std::to_string(job.priority()) +
                           ",\"attempt\":" + std::to_string(job.attempt()) +
                           ",\"max\":" + std::to_string(job.max_attempts()) + ",\"h\":\"" + job.headers().at("h") +
                           "\",\"deadline\":" + (job.deadline() ? "true" : "false") + "}"};
  });
  worker.on("huge", [](Job const&) { return posthouse::bytes{std::string(2U << 20U, 'x')}; });
  worker.on("nothing", [](Job const&) {});
  if (std::getenv("TEST_MIXED") != nullptr) {
    posthouse::HandlerOptions child = once;
    child.isolation = posthouse::Isolation::process;
    worker.on("in_thread", {.isolation = posthouse::Isolation::thread}, [](Job const&) { return pid(); });
    worker.on("in_child", child, [](Job const&) { return pid(); });
    worker.on("dies_in_child", child, [](Job const&) { ::kill(::getpid(), SIGKILL); });
  }
  worker.on("throw", once, [](Job const&) { throw std::invalid_argument("bad \xff input"); });
  worker.on("discard", [](Job const&) { return posthouse::Discard{"not wanted"}; });
  worker.on("snooze", [](Job const&) { return posthouse::Snooze{1h}; });
  worker.on("later", [](Job const&) { return posthouse::RetryAfter{1h, "busy"}; });
  worker.on("decode", [](Job const&) { throw posthouse::DecodeError("$.a", "is no number"); });

  worker.on("segv", once, [](Job const&) {
    std::signal(SIGSEGV, SIG_DFL);
    std::raise(SIGSEGV);
  });
  worker.on("exit", once, [](Job const&) { ::_exit(0); });
  worker.on("hog", once, [](Job const&) { hog(); });
  worker.on("crash", again, [](Job const&) { ::kill(::getpid(), SIGKILL); });
  worker.on("crash_once", again, [](Job const& job) {
    if (job.attempt() == 1) ::kill(::getpid(), SIGKILL);
  });
  worker.on("loop", once, [](Job const& job) {
    job.progress(0.5, pid().text);
    loop();
  });
  posthouse::HandlerOptions limited = once;
  limited.timeout = 50ms;
  worker.on("limited_loop", limited, [](Job const&) { loop(); });
  worker.on("stubborn", limited, [](Job const& job) {
    while (!job.stop_token().stop_requested()) std::this_thread::sleep_for(1ms);
    throw std::runtime_error("stopped half way");
  });
  worker.on("patient", [](Job const& job) {
    job.heartbeat();
    for (int i = 0; i < 10'000; ++i) job.progress(i / 1e6, pid().text);
    while (!job.stop_token().stop_requested()) std::this_thread::sleep_for(1ms);
    throw posthouse::Cancelled();
  });
  worker.on("until_term", [](Job const& job) {
    // Ends when its worker has been told to stop, which it hears of from the test.
    job.progress(0.1, pid().text);
    std::string const file = std::getenv("TEST_GO_FILE");
    while (::access(file.c_str(), F_OK) != 0) std::this_thread::sleep_for(1ms);
  });
  worker.on("torn", once, [](Job const&) {
    say("\x40\0\0\0\x08half a message", 19);
    ::_exit(3);
  });
  worker.on("garbage", once, [](Job const&) {
    say("\xff\xff\xff\xff\xff", 5);
    loop();
  });
  worker.on("grow", [](Job const&) {
    hoard.push_back(std::make_unique<std::vector<char>>(400U << 20U, 'x'));
    return pid();
  });
  worker.on("enqueues", [url](Job const&) {
    static posthouse::Client client({.database_url = url});
    client.enqueue("nothing");
  });
  worker.on("commits", [url](Job const& job) {
    std::unique_ptr<PGconn, void (*)(PGconn*)> const connection(PQconnectdb(url.c_str()), PQfinish);
    PQclear(PQexec(connection.get(), "begin"));
    job.complete(connection.get(), posthouse::json{"\"inside\""});
    PQclear(PQexec(connection.get(), "commit"));
    if (job.headers().contains("die")) ::kill(::getpid(), SIGKILL);
    return posthouse::json{"\"outside\""};
  });
}

}  // namespace

int main(int argc, char** argv) { return posthouse::run_worker(argc, argv, register_handlers); }
