// SPDX-License-Identifier: Apache-2.0
// What the monitor reads and writes, without a socket.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <limits>
#include <posthouse/error.hpp>
#include <string>

#include "monitor/exposition.hpp"
#include "monitor/job_metrics.hpp"
#include "monitor/request.hpp"
#include "monitor/scrape.hpp"
#include "monitor/server.hpp"

namespace posthouse::monitor {
namespace {

using namespace std::chrono_literals;

TEST(MonitorRequest, ReadsWhatIsInOrder) {
  auto const head = parse_head("GET /metrics?x=1 HTTP/1.1\r\nHost: localhost:9187\r\nAccept: */*\r\n\r\n", {});
  EXPECT_EQ(head.refused, 0);
  EXPECT_EQ(head.path, "/metrics");
  EXPECT_TRUE(parse_head("HEAD / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n", {}).head_only);
  EXPECT_EQ(parse_head("GET / HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 0\r\n\r\n", {}).refused, 0);
  EXPECT_EQ(parse_head("GET / HTTP/1.1\r\nhost: Metrics.Internal:9187\r\n\r\n", {"metrics.internal"}).refused, 0);
}

TEST(MonitorRequest, RefusesWhatIsNot) {
  struct Case {
    std::string text;
    int status;
  };
  std::string const host = "Host: localhost\r\n";
  for (auto const& [text, status] : {
           Case{"GET /\r\n" + host + "\r\n", 400},
           Case{"GET  / HTTP/1.1\r\n" + host + "\r\n", 400},
           Case{"GET / HTTP/1.1 x\r\n" + host + "\r\n", 400},
           Case{"GET / HTTP/2.0\r\n" + host + "\r\n", 505},
           Case{"GET / http/1.1\r\n" + host + "\r\n", 400},
           Case{" GET / HTTP/1.1\r\n" + host + "\r\n", 400},
           Case{"GET http://localhost/ HTTP/1.1\r\n" + host + "\r\n", 400},
           Case{"GET * HTTP/1.1\r\n" + host + "\r\n", 400},
           Case{"GET /\\x HTTP/1.1\r\n" + host + "\r\n", 400},
           Case{"GET /#x HTTP/1.1\r\n" + host + "\r\n", 400},
           Case{std::string("GET /\0 HTTP/1.1\r\n", 17) + host + "\r\n", 400},
           Case{"GET / HTTP/1.1\r\n\r\n", 400},
           Case{"GET / HTTP/1.1\r\n" + host + host + "\r\n", 400},
           Case{"GET / HTTP/1.1\r\n" + host + " folded\r\n\r\n", 400},
           Case{"GET / HTTP/1.1\r\n" + host + "X : y\r\n\r\n", 400},
           Case{"GET / HTTP/1.1\r\n" + host + ": y\r\n\r\n", 400},
           Case{"GET / HTTP/1.1\r\n" + host + "X: a\nb\r\n\r\n", 400},
           Case{"GET / HTTP/1.1\r\n" + host + "Content-Length: 1\r\n\r\n", 413},
           Case{"GET / HTTP/1.1\r\n" + host + "Content-Length: -1\r\n\r\n", 400},
           Case{"GET / HTTP/1.1\r\n" + host + "Content-Length: 0\r\nContent-Length: 0\r\n\r\n", 400},
           Case{"GET / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n", 501},
           Case{"GET / HTTP/1.1\r\n" + host + "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
           Case{"POST / HTTP/1.1\r\n" + host + "\r\n", 405},
           Case{"GET / HTTP/1.1\r\nHost: evil.com\r\n\r\n", 421},
           Case{"GET / HTTP/1.1\r\nHost: localhost.evil.com\r\n\r\n", 421},
           Case{"GET / HTTP/1.1\r\nHost: evil.com:80@localhost\r\n\r\n", 421},
           Case{"GET / HTTP/1.1\r\nHost: 127.1\r\n\r\n", 421},
           Case{"GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", 421},
           Case{"GET / HTTP/1.1\r\nHost:\r\n\r\n", 421},
       }) {
    EXPECT_EQ(parse_head(text, {}).refused, status) << text;
  }
}

TEST(MonitorExposition, EscapesLabels) {
  Exposition out;
  out.family("x_total", "counter", "Help with \\ and\nlines.");
  out.sample({{"a", "q\"\\\n\x1b\xff"}}, 1.5);
  out.sample({}, std::numeric_limits<double>::infinity(), "_bucket");
  EXPECT_EQ(out.text(),
            "# HELP x_total Help with \\\\ and\\nlines.\n# TYPE x_total counter\n"
            "x_total{a=\"q\\\"\\\\\\n\x1b\xEF\xBF\xBD\"} 1.5\nx_total_bucket +Inf\n");
}

TEST(MonitorJobMetrics, CountsAndStaysBounded) {
  JobMetrics metrics;
  metrics.ended("q", "k", JobMetrics::End::succeeded, 30ms);
  metrics.ended("q", "k", JobMetrics::End::retried, 2h);
  metrics.ended("q", "k", JobMetrics::End::expired, 0ms);
  auto const numbers = metrics.read().at({"q", "k"});
  EXPECT_EQ(numbers.by_end[0], 1);
  EXPECT_EQ(numbers.buckets[2], 1);  // up to 0.1 s
  EXPECT_EQ(numbers.buckets.back(), 1);
  EXPECT_DOUBLE_EQ(numbers.seconds, 7200.03);
  for (int i = 0; i < 10'000; ++i) metrics.ended("q" + std::to_string(i), "k", JobMetrics::End::failed, 1ms);
  auto const all = metrics.read();
  EXPECT_EQ(all.size(), JobMetrics::max_pairs + 1);
  EXPECT_EQ(all.at({std::string(other_name), std::string(other_name)}).by_end[2], 10'000 - (300 - 1));
}

TEST(MonitorListen, StaysLocalUnlessToldOtherwise) {
  for (auto const* local : {"127.0.0.1:9187", "localhost:0", "[::1]:9187", "127.0.0.2:1"}) {
    EXPECT_NO_THROW(check(Listen{.address = local})) << local;
  }
  for (auto const* remote : {"0.0.0.0:9187", "[::]:9187", "10.0.0.1:9187", "[::ffff:10.0.0.1]:9187", "192.0.2.1:80"}) {
    EXPECT_THROW(check(Listen{.address = remote}), InvalidArgument) << remote;
    EXPECT_NO_THROW(check(Listen{.address = remote, .allow_remote = true})) << remote;
  }
  for (auto const* wrong : {"", "9187", ":9187", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536",
                            "example.com:80", "::1:9187", "127.0.0.1:-1", "127.1:80"}) {
    EXPECT_THROW(check(Listen{.address = wrong, .allow_remote = true}), InvalidArgument) << wrong;
  }
}

TEST(MonitorReadiness, OneServedDatabaseIsEnough) {
  Sources sources;
  EXPECT_FALSE(readiness(sources).ready);
  sources.add({.name = "b", .health = [] { return Health{.state = State::down, .problem = "no \"route\"\n"}; }});
  auto const down = readiness(sources);
  EXPECT_FALSE(down.ready);
  EXPECT_EQ(down.json,
            "{\"ready\": false, \"databases\": [{\"name\": \"b\", \"state\": \"down\", \"problem\": \"no "
            "\\\"route\\\"\\u000a\"}]}\n");
  sources.add({.name = "a", .health = [] { return Health{.state = State::serving}; }});
  EXPECT_TRUE(readiness(sources).ready);
  EXPECT_THAT(readiness(sources).json, testing::HasSubstr("\"a\", \"state\": \"serving\", \"problem\": null}, {"));
  sources.remove("a");
  EXPECT_FALSE(readiness(sources).ready);
}

}  // namespace
}  // namespace posthouse::monitor
