// SPDX-License-Identifier: Apache-2.0
// Jobs that are HTTP requests, without a handler in C++: the configuration says what is sent, the answer decides.
//
//   example_23_http --config posthouse.yaml                  a service, as `posthouse work` is
//
// Without flags it serves a small API on a free port, enqueues jobs for it, runs itself with --once and a configuration
// that it has written, and ends with status 0 when each job came out as it should. Needs the schema (`posthouse install`).
#include <arpa/inet.h>
#include <netinet/in.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <posthouse/posthouse.hpp>
#include <string>
#include <thread>
#include <vector>

namespace {

/// As much of an HTTP server as the example needs: /users/7 is there, /busy wants to be left alone for an hour.
class Api {
 public:
  Api() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const name = reinterpret_cast<sockaddr*>(&address);
    if (::bind(listener_, name, size) != 0 || ::listen(listener_, 8) != 0) std::abort();
    ::getsockname(listener_, name, &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  Api(Api const&) = delete;
  Api& operator=(Api const&) = delete;
  ~Api() {
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
  }
  [[nodiscard]] std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }

 private:
  void serve() const {
    for (int socket = 0; (socket = ::accept(listener_, nullptr, nullptr)) >= 0; ::close(socket)) {
      std::string request;
      std::array<char, 4096> buffer{};
      // The body of these jobs ends with a brace.
      while (request.find("\r\n\r\n") == std::string::npos || !request.ends_with('}')) {
        auto const n = ::recv(socket, buffer.data(), buffer.size(), 0);
        if (n <= 0) break;
        request.append(buffer.data(), static_cast<std::size_t>(n));
      }
      bool const busy = request.find(" /busy ") != std::string::npos;
      std::string const body = busy ? "" : R"({"user": 7, "known": true})";
      auto const answer =
          std::string(busy ? "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3600" : "HTTP/1.1 200 OK") +
          "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
      (void)::send(socket, answer.data(), answer.size(), MSG_NOSIGNAL);
    }
  }

  int listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int port_ = 0;
  std::thread thread_{};
};

/// Starts this program as a worker; its exit status.
int run_worker_once(std::string const& config) {
  std::vector<std::string> arguments{"/proc/self/exe", "--config", config, "--once"};
  std::vector<char*> argv;
  for (auto& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_t pid = 0;
  int status = 0;
  if (::posix_spawn(&pid, argv[0], nullptr, nullptr, argv.data(), environ) != 0) return -1;
  return ::waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int show(std::string const& url) {
  Api const api;
  auto const config = std::filesystem::temp_directory_path() / ("example_23_" + std::to_string(::getpid()) + ".yaml");
  std::ofstream(config) << "kinds:\n"
                           "  example.tell:\n"
                           "    http:\n"
                           "      url: "
                        << api.url()
                        << "/users/{{payload.id}}\n"
                           "      headers: {Authorization: \"Bearer ${EXAMPLE_TOKEN}\"}\n"
                           "      body: {name: \"{{payload.name}}\", job: \"{{job.id}}\"}\n"
                           "      allow_addresses: loopback\n"
                           "  example.busy:\n"
                           "    http: {url: '"
                        << api.url()
                        << "/busy', allow_addresses: loopback}\n"
                           "  example.inside:\n"
                           "    http: {url: '"
                        << api.url() << "/users/7'}\n";
  ::setenv("EXAMPLE_TOKEN", "secret", 1);
  posthouse::Client client({.database_url = url});
  auto const enqueue = [&](char const* kind) {
    return client.enqueue(kind, posthouse::json{R"({"id": 7, "name": "Ada"})"}).id;
  };
  auto const tell = enqueue("example.tell");
  auto const busy = enqueue("example.busy");
  auto const inside = enqueue("example.inside");
  bool right = run_worker_once(config) == 0;
  std::filesystem::remove(config);

  auto const expect = [&](std::int64_t id, std::string const& state) {
    auto const job = client.find(id).value_or(posthouse::JobInfo{});
    std::cout << job.kind << ": " << job.state << "\n  " << job.last_error.value_or("") << '\n';
    right = right && job.state == state;
  };
  expect(tell, "succeeded");
  expect(busy, "retryable");  // in an hour, as the API has asked; no other job of the kind starts before
  expect(inside, "failed");   // the machine's own address, and nothing in the configuration allows it
  std::array const ids{tell};
  for (auto const& outcome : client.wait_many(ids, std::chrono::seconds(1))) {
    std::cout << "result: " << outcome.result.data() << '\n';
  }
  return right ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && argv[1][0] == '-') return posthouse::run_worker(argc, argv, {});
  try {
    // To the worker the URL goes in the environment: a command line is visible to every user of the machine.
    if (argc > 1) ::setenv("POSTHOUSE_DATABASE_URL", argv[1], 1);
    char const* const variable = std::getenv("DATABASE_URL");
    return show(argc > 1 ? argv[1] : variable != nullptr ? variable : "");
  } catch (posthouse::Error const& error) {
    std::cerr << error.what() << '\n' << error.hint() << '\n';
    return 1;
  }
}
