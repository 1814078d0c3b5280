// SPDX-License-Identifier: Apache-2.0
// The handler of `http` against servers that behave, and against those that do not. No database.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <latch>
#include <optional>
#include <posthouse/error.hpp>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "execute/http_handler.hpp"
#include "integration/cli_fixture.hpp"
#include "support/child_process.hpp"
#include "support/raw_server.hpp"

namespace posthouse::test {
namespace {

using namespace std::chrono_literals;
using execute::HttpOptions;
using ::testing::HasSubstr;
using ::testing::Not;

HttpOptions options_for(std::string url) {
  HttpOptions options;
  options.key = "kinds.k.http";
  options.url = std::move(url);
  options.allow_addresses = {"loopback"};
  return options;
}

Job job_with(std::string payload = R"({"n": 1})", std::stop_token stop = {}) {
  Job::Facts facts;
  facts.id = 42;
  facts.kind = "k";
  facts.payload = json{std::move(payload)};
  return {std::move(facts), std::move(stop), nullptr};
}

Outcome call(HttpOptions const& options, Job const& job = job_with()) { return execute::http_handler(options)(job); }

/// The type and the message of whatever is no success.
std::string told(Outcome const& outcome) {
  if (auto const* failure = std::get_if<Failure>(&outcome)) return failure->type + ": " + failure->message;
  if (auto const* discard = std::get_if<Discard>(&outcome)) return "discard: " + discard->reason;
  if (auto const* later = std::get_if<RetryAfter>(&outcome)) {
    return "later " + std::to_string(later->delay.count()) + ": " + later->reason;
  }
  if (std::holds_alternative<Snooze>(outcome)) return "snooze";
  return "success";
}

/// Answers everything with the same bytes.
class Says : public RawServer {
 public:
  explicit Says(std::string bytes) : RawServer([bytes](Connection const& c) { c.send(bytes); }) {}
};

TEST(HttpHandler, SendsTheJobAndKeepsTheAnswer) {
  Says server(http_answer("201 Created", R"({"id": 12.50})", "Content-Type: text/html\r\n"));
  auto options = options_for(server.url("/u/{{payload.n}}?x=y"));
  options.headers = {{"Authorization", "Bearer abc"}};
  auto const outcome = call(options);
  auto const* success = std::get_if<Success>(&outcome);
  ASSERT_NE(success, nullptr) << told(outcome);
  EXPECT_TRUE(success->result.is_json());
  EXPECT_EQ(success->result.data(), R"({"id": 12.50})");
  auto const request = server.requests().at(0);
  EXPECT_THAT(request, ::testing::StartsWith("POST /u/1?x=y HTTP/1.1\r\n"));
  EXPECT_THAT(request, HasSubstr("\r\nHost: 127.0.0.1:" + std::to_string(server.port()) + "\r\n"));
  EXPECT_THAT(request, HasSubstr("\r\nAuthorization: Bearer abc\r\n"));
  EXPECT_THAT(request, HasSubstr("\r\nIdempotency-Key: 42\r\n"));
  EXPECT_THAT(request, HasSubstr("\r\nX-Posthouse-Job-Id: 42\r\n"));
  EXPECT_THAT(request, HasSubstr("\r\nContent-Type: application/json\r\n"));
  EXPECT_THAT(request, HasSubstr("\r\nContent-Length: 8\r\n"));
  EXPECT_THAT(request, HasSubstr("\r\nUser-Agent: posthouse/"));
  EXPECT_THAT(request, ::testing::EndsWith("\r\n\r\n{\"n\": 1}"));
  auto const first = request.find("Host: ");
  EXPECT_EQ(request.find("Host: ", first + 1), std::string::npos) << request;
}

TEST(HttpHandler, TheAnswerDecides) {
  auto const end_of = [](std::string const& status, std::string const& headers = {}, bool retry = false) {
    Says server(http_answer(status, "because", headers));
    auto options = options_for(server.url());
    options.retry_client_errors = retry;
    return told(call(options));
  };
  EXPECT_EQ(end_of("200 OK"), "success");
  EXPECT_EQ(end_of("299 Fine"), "success");
  EXPECT_THAT(end_of("500 Internal Server Error"), HasSubstr("HTTP 500: http://127.0.0.1:"));
  EXPECT_THAT(end_of("500 Internal Server Error"), HasSubstr("answered 500 Internal Server Error: because"));
  EXPECT_THAT(end_of("503 Busy"), HasSubstr("HTTP 503: "));
  EXPECT_THAT(end_of("404 Not Found"), HasSubstr("discard: "));
  EXPECT_THAT(end_of("404 Not Found", "", true), HasSubstr("HTTP 404: "));
  EXPECT_THAT(end_of("408 Request Timeout"), HasSubstr("HTTP 408: "));
  EXPECT_THAT(end_of("429 Too Many"), HasSubstr("HTTP 429: "));
  EXPECT_THAT(end_of("429 Too Many", "Retry-After: 7\r\n"), HasSubstr("later 7000: "));
  EXPECT_THAT(end_of("503 Busy", "retry-after: 120\r\n"), HasSubstr("later 120000: "));
  EXPECT_THAT(end_of("503 Busy", "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), HasSubstr("later 0: "));
  EXPECT_THAT(end_of("503 Busy", "Retry-After: soon\r\n"), HasSubstr("HTTP 503: "));
  EXPECT_THAT(end_of("500 Oops", "Retry-After: 7\r\n"), HasSubstr("HTTP 500: "));
  EXPECT_THAT(end_of("302 Found", "Location: /\r\n"), HasSubstr("discard: "));
}

TEST(HttpHandler, KeepsTheStartOfALongAnswer) {
  Says server(http_answer("200 OK", std::string(100'000, 'x')));
  auto options = options_for(server.url());
  options.max_response_bytes = 1000;
  auto const outcome = call(options);
  auto const* success = std::get_if<Success>(&outcome);
  ASSERT_NE(success, nullptr) << told(outcome);
  EXPECT_EQ(success->result.data(), std::string(1000, 'x'));
  EXPECT_THAT(success->problem, HasSubstr("longer than 1000 bytes"));
}

// Neither its headers nor its body end: memory does not grow with what a server sends.
TEST(HttpHandler, EndsFloods) {
  auto const flood = [](std::string const& start, std::string const& more) {
    return [start, more](RawServer::Connection const& c) {
      bool there = c.send(start);
      while (there) there = c.send(more);
    };
  };
  {
    RawServer server(flood("HTTP/1.1 200 OK\r\n", "X-More: " + std::string(4000, 'x') + "\r\n"));
    EXPECT_THAT(told(call(options_for(server.url()))), HasSubstr("Answer: "));
  }
  {
    RawServer server(flood("HTTP/1.1 200 ", std::string(64 * 1024, 'x')));
    EXPECT_THAT(told(call(options_for(server.url()))),
                ::testing::AnyOf(HasSubstr("Answer: "), HasSubstr("Connection: ")));
  }
  {
    RawServer server(flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "5\r\nxxxxx\r\n"));
    auto const outcome = call(options_for(server.url()));
    ASSERT_EQ(told(outcome), "success");
    EXPECT_EQ(std::get<Success>(outcome).result.data().size(), 1024U * 1024U);
  }
}

TEST(HttpHandler, EndsWhatHasNoEnd) {
  auto options = options_for("");
  options.timeout = 200ms;
  {
    // Never a word.
    RawServer server([](RawServer::Connection const& c) { c.wait_closed(); });
    options.url = server.url();
    EXPECT_THAT(told(call(options)), HasSubstr("Timeout: http://127.0.0.1:"));
  }
  {
    // A byte at a time, each well within the read timeout.
    RawServer server([](RawServer::Connection const& c) {
      bool there = c.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
      while (there) {
        there = c.send("x");
        std::this_thread::sleep_for(5ms);
      }
    });
    options.url = server.url();
    EXPECT_THAT(told(call(options)), HasSubstr("Timeout: "));
  }
  {
    // A handshake that never comes to an end.
    RawServer server([](RawServer::Connection const& c) { c.wait_closed(); }, false);
    options.url = "https" + server.url().substr(4);
    EXPECT_THAT(told(call(options)), HasSubstr("Timeout: "));
  }
  {
    options.timeout = 60s;
    options.read_timeout = 100ms;
    RawServer server([](RawServer::Connection const& c) { c.wait_closed(); });
    options.url = server.url();
    EXPECT_THAT(told(call(options)), HasSubstr("Connection: "));
  }
}

TEST(HttpHandler, AStopEndsItAtOnce) {
  std::latch reached(1);
  RawServer server([&](RawServer::Connection const& c) {
    reached.count_down();
    c.wait_closed();
  });
  std::stop_source stop;
  auto running = std::async(std::launch::async,
                            [&] { return told(call(options_for(server.url()), job_with("{}", stop.get_token()))); });
  reached.wait();
  stop.request_stop();
  // Its own timeout is thirty seconds.
  ASSERT_EQ(running.wait_for(20s), std::future_status::ready);
  EXPECT_EQ(running.get(), "snooze");
}

TEST(HttpHandler, BrokenServersAreFailures) {
  for (auto const* bytes : {"", "HTTP/1.1", "nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"}) {
    Says server(bytes);
    EXPECT_THAT(told(call(options_for(server.url()))), HasSubstr("Connection: ")) << bytes;
  }
  int port = 0;
  {
    Says server("");
    port = server.port();
  }
  EXPECT_THAT(told(call(options_for("http://127.0.0.1:" + std::to_string(port) + "/"))),
              HasSubstr("no connection could be made"));
}

TEST(HttpHandler, RedirectsAreFollowedOnlyWhenAllowed) {
  std::atomic<int> hops{0};
  RawServer server([&](RawServer::Connection const& c) {
    bool const last = c.request().find(" /3 ") != std::string::npos;
    auto const next = "/" + std::to_string(++hops);
    c.send(last ? http_answer("200 OK", "\"there\"") : http_answer("307 Go", "", "Location: " + next + "\r\n"));
  });
  auto options = options_for(server.url("/0"));
  EXPECT_THAT(told(call(options)), HasSubstr("kinds.k.http.redirects is 0"));
  hops = 0;
  options.redirects = 2;
  EXPECT_THAT(told(call(options)), HasSubstr("redirected more than 2 times"));
  hops = 0;
  options.redirects = 3;
  EXPECT_EQ(told(call(options)), "success");
  EXPECT_THAT(server.requests().back(), ::testing::StartsWith("POST /3 HTTP/1.1\r\n"));
  EXPECT_THAT(server.requests().back(), ::testing::EndsWith("{\"n\": 1}"));
}

TEST(HttpHandler, ARedirectLoopEnds) {
  Says server(http_answer("302 Found", "", "Location: /again\r\n"));
  auto options = options_for(server.url());
  options.redirects = 10;
  EXPECT_THAT(told(call(options)), HasSubstr("redirected more than 10 times"));
  EXPECT_EQ(server.requests().size(), 11U);
}

TEST(HttpHandler, RedirectsAreCheckedAsTheFirstHop) {
  Says inside(http_answer("200 OK", "secret"));
  auto const redirect = [&](std::string const& location) {
    Says server(http_answer("302 Found", "", "Location: " + location + "\r\n"));
    auto options = options_for("http://outside.test:" + std::to_string(server.port()) + "/");
    options.allow_addresses = {"127.0.0.2"};
    options.redirects = 5;
    options.cross_host_redirects = true;
    options.headers = {{"Authorization", "Bearer canary"}};
    options.allow_addresses = {"127.0.0.1"};
    options.resolver = [](std::string const& host) -> std::vector<core::Address> {
      if (host == "outside.test") return {core::Address::v4(127, 0, 0, 1)};
      if (host == "inside.test") return {core::Address::v4(10, 0, 0, 1)};
      return {};
    };
    return told(call(options));
  };
  EXPECT_THAT(redirect("http://169.254.169.254/latest/meta-data/"),
              HasSubstr("is at 169.254.169.254, a link-local address"));
  EXPECT_THAT(redirect("http://inside.test/"), HasSubstr("is at 10.0.0.1, a private address"));
  EXPECT_THAT(redirect("http://[::ffff:10.0.0.1]/"), HasSubstr("a private address"));
  EXPECT_THAT(redirect("file:///etc/passwd"), HasSubstr("discard: "));
  EXPECT_EQ(redirect(inside.url()), "success");
  EXPECT_THAT(inside.requests().at(0), Not(HasSubstr("canary")));
  EXPECT_THAT(inside.requests().at(0), Not(HasSubstr("Idempotency-Key")));
}

TEST(HttpHandler, AddressesThatAreNotPublicAreRefused) {
  Says server(http_answer("200 OK"));
  auto options = options_for(server.url());
  options.allow_addresses.clear();
  EXPECT_THAT(told(call(options)), HasSubstr("is at 127.0.0.1, a loopback address; kinds.k.http.allow_addresses"));
  auto const port = ":" + std::to_string(server.port()) + "/";
  for (auto const* host : {"localhost", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "127.0.0.2"}) {
    options.url = std::string("http://") + host + port;
    EXPECT_THAT(told(call(options)), HasSubstr("discard: ")) << host;
  }
  options.url = "http://mixed.test" + port;
  options.resolver = [](std::string const&) {
    return std::vector{core::Address::v4(93, 184, 216, 34), core::Address::v4(127, 0, 0, 1)};
  };
  EXPECT_THAT(told(call(options)), HasSubstr("discard: ")) << "one address that is not allowed spoils the name";
  EXPECT_TRUE(server.requests().empty());
}

// A name that is public when it is checked and private when it is used: it is asked once, and what was checked is used.
TEST(HttpHandler, ANameIsResolvedOnce) {
  Says server(http_answer("200 OK"));
  std::atomic<int> asked{0};
  auto options = options_for("http://rebind.test:" + std::to_string(server.port()) + "/");
  options.resolver = [&](std::string const&) {
    return std::vector{++asked == 1 ? core::Address::v4(127, 0, 0, 1) : core::Address::v4(10, 0, 0, 1)};
  };
  EXPECT_EQ(told(call(options)), "success");
  EXPECT_EQ(asked, 1);
  EXPECT_THAT(server.requests().at(0), HasSubstr("\r\nHost: rebind.test:"));
}

TEST(HttpHandler, TriesTheNextAddress) {
  Says server(http_answer("200 OK"));
  auto options = options_for("http://two.test:" + std::to_string(server.port()) + "/");
  options.resolver = [](std::string const&) {
    return std::vector{core::Address::v4(127, 9, 9, 9), core::Address::v4(127, 0, 0, 1)};
  };
  EXPECT_EQ(told(call(options)), "success");
  options.resolver = [](std::string const&) { return std::vector<core::Address>{}; };
  EXPECT_THAT(told(call(options)), HasSubstr("Resolve: "));
}

TEST(HttpHandler, WhatCannotBeFilledEndsTheJob) {
  Says server(http_answer("200 OK"));
  EXPECT_THAT(told(call(options_for(server.url("/{{payload.missing}}")))), HasSubstr("has no \"payload.missing\""));
  EXPECT_TRUE(server.requests().empty());
}

TEST(HttpHandler, SecretsAreNotTold) {
  ::setenv("POSTHOUSE_TEST_SECRET", "s3cret-canary", 1);
  RawServer server([](RawServer::Connection const& c) { c.send(http_answer("500 s3cret-canary", c.request())); });
  auto options = options_for(server.url("/?key=${POSTHOUSE_TEST_SECRET}"));
  options.headers = {{"X-Key", "${POSTHOUSE_TEST_SECRET}"}, {"Authorization", "Bearer literal-canary"}};
  auto const text = told(call(options));
  EXPECT_THAT(server.requests().at(0), HasSubstr("s3cret-canary"));
  EXPECT_THAT(text, HasSubstr("answered 500"));
  EXPECT_THAT(text, Not(HasSubstr("canary")));
  ::unsetenv("POSTHOUSE_TEST_SECRET");
}

/// `openssl s_server` with a certificate for good.test, signed by an authority of our own.
class HttpTls : public ::testing::Test {
 protected:
  static void run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "openssl");
    ChildProcess child(std::move(arguments));
    ASSERT_EQ(child.wait(), 0) << child.errors();
  }
  [[nodiscard]] std::string in(std::string const& name) const { return (folder_.path() / name).string(); }

  /// Says https://HOST:PORT/ when it is there.
  std::string serve(std::string const& host, std::vector<std::string> const& more = {}) {
    std::vector<std::string> arguments{"openssl",   "s_server", "-accept",   "127.0.0.1:0", "-cert",
                                       in("s.pem"), "-key",     in("s.key"), "-www"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    server_.emplace(ChildProcess::Options{.argv = std::move(arguments)});
    EXPECT_TRUE(server_->said("ACCEPT 127.0.0.1:")) << server_->errors();
    auto const text = server_->output();
    auto const at = text.find("ACCEPT 127.0.0.1:") + 17;
    return "https://" + host + ":" + text.substr(at, text.find_first_not_of("0123456789", at) - at) + "/";
  }
  HttpOptions options(std::string url) const {
    auto options = options_for(std::move(url));
    options.method = "GET";
    options.ca_file = in("ca.pem");
    options.resolver = [](std::string const&) { return std::vector{core::Address::v4(127, 0, 0, 1)}; };
    return options;
  }

  void SetUp() override {
    run({"req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", in("ca.key"), "-out", in("ca.pem"), "-days", "2",
         "-subj", "/CN=an authority"});
    run({"req", "-newkey", "rsa:2048", "-nodes", "-keyout", in("s.key"), "-out", in("s.csr"), "-subj",
         "/CN=good.test"});
    run({"x509", "-req", "-in", in("s.csr"), "-CA", in("ca.pem"), "-CAkey", in("ca.key"), "-CAcreateserial", "-days",
         "2", "-extfile", folder_.write("ext", "subjectAltName=DNS:good.test\n"), "-out", in("s.pem")});
  }

  TemporaryFolder folder_{};
  std::optional<ChildProcess> server_{};
};

TEST_F(HttpTls, TrustsWhomItIsToldTo) {
  auto const url = serve("good.test");
  EXPECT_EQ(told(call(options(url))), "success");
  auto stranger = options(url);
  stranger.ca_file.clear();
  EXPECT_THAT(told(call(stranger)), HasSubstr("TLS: " + url.substr(0, url.size() - 1) + " cannot be trusted"));
  EXPECT_EQ(told(call(options(url))), "success") << "works again";
}

TEST_F(HttpTls, RefusesAnotherName) {
  EXPECT_THAT(told(call(options(serve("bad.test")))), HasSubstr("cannot be trusted"));
  EXPECT_THAT(told(call(options(serve("127.0.0.1")))), HasSubstr("cannot be trusted"));
  EXPECT_THAT(told(call(options(serve("sub.good.test")))), HasSubstr("cannot be trusted"));
}

TEST_F(HttpTls, RefusesOldProtocols) {
  EXPECT_THAT(told(call(options(serve("good.test", {"-tls1_1", "-cipher", "ALL:@SECLEVEL=0"})))), HasSubstr("TLS: "));
  EXPECT_EQ(told(call(options(serve("good.test", {"-tls1_2"})))), "success");
}

TEST_F(HttpTls, NeedsCertificatesInTheFile) {
  auto wrong = options("https://good.test/");
  wrong.ca_file = in("none.pem");
  EXPECT_THROW((void)execute::http_handler(wrong), InvalidArgument);
  wrong.ca_file = folder_.write("empty.pem", "nothing\n");
  EXPECT_THROW((void)execute::http_handler(wrong), InvalidArgument);
}

}  // namespace
}  // namespace posthouse::test
