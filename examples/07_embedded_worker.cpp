// SPDX-License-Identifier: Apache-2.0
// A worker inside a server program: started with the server, stopped with it, signals left to the server.
//
//   build/release/bin/example_07_embedded_worker postgresql://user@host/database
//
// Needs the schema (`posthouse install`). The "server" answers a hundred requests on two threads; each enqueues a job
// and answers at once. Ends with status 0 when every job has run once.
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <posthouse/posthouse.hpp>
#include <string>
#include <thread>

class Server {
 public:
  explicit Server(std::string const& url) : client_({.database_url = url, .pool_size = 2}), worker_(options(url)) {
    worker_.on("example.thumbnail", [this](posthouse::Job const& job) {
      // A handler that takes long looks at job.stop_token() now and then.
      if (!job.stop_token().stop_requested()) thumbnails_.fetch_add(1);
    });
  }

  void start() { worker_.start(); }  // returns when the worker is registered; throws when the database is out of reach
  /// Running handlers get stop_grace to end; unstarted jobs go back to the queue, for other processes.
  void stop() { worker_.stop(); }

  /// Called from any thread: a Client may be shared, a Worker's threads are its own.
  std::int64_t handle_upload(int image) {
    return client_.enqueue("example.thumbnail", posthouse::json{std::to_string(image)}).id;
  }
  [[nodiscard]] int thumbnails() const { return thumbnails_.load(); }
  [[nodiscard]] posthouse::WorkerStats stats() const { return worker_.stats(); }

 private:
  static posthouse::WorkerOptions options(std::string const& url) {
    posthouse::WorkerOptions options{.database_url = url, .concurrency = 2, .stop_grace = std::chrono::seconds(10)};
    options.logger = [](posthouse::LogRecord const& record) {  // into the server's own log
      if (record.level >= posthouse::LogLevel::warning) std::cerr << "[jobs] " << record.message << '\n';
    };
    return options;
  }

  posthouse::Client client_;
  posthouse::Worker worker_;
  std::atomic<int> thumbnails_{0};
};

int main(int argc, char** argv) try {
  char const* const variable = std::getenv("DATABASE_URL");
  std::string const url = argc > 1 ? argv[1] : variable != nullptr ? variable : "";
  constexpr int requests = 100;

  Server server(url);
  server.start();
  {
    auto const serve = [&](int from) {
      for (int i = from; i < requests; i += 2) server.handle_upload(i);
    };
    std::jthread const first(serve, 0);
    std::jthread const second(serve, 1);
  }
  auto const until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (server.thumbnails() < requests && std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  server.stop();

  auto const stats = server.stats();
  std::cout << "jobs run: " << stats.succeeded << ", claims that brought some: " << stats.claims - stats.empty_claims
            << ", statements: " << stats.statements << '\n';
  return server.thumbnails() == requests ? 0 : 1;
} catch (posthouse::Error const& error) {
  std::cerr << error.what() << '\n' << error.hint() << '\n';
  return 1;
}
