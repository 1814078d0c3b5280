// SPDX-License-Identifier: Apache-2.0
#include "base/log.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <boost/json.hpp>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/unique_fd.hpp"

namespace posthouse::base {
namespace {

using std::chrono::milliseconds;
using std::chrono::system_clock;

std::string line(LogFormat format, std::string_view message, Log::Fields const& fields = {},
                 LogLevel level = LogLevel::info) {
  return format_event(format, {.level = level, .message = message, .fields = fields},
                      system_clock::time_point(milliseconds(1'763'711'880'005)));
}

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) throw std::runtime_error("pipe2");
    read = UniqueFd(ends[0]);
    write = UniqueFd(ends[1]);
  }
  std::string drain() const {
    std::string out;
    std::array<char, 4096> buffer{};
    for (ssize_t n = 0; (n = ::read(read.get(), buffer.data(), buffer.size())) > 0;) {
      out.append(buffer.data(), static_cast<std::size_t>(n));
    }
    return out;
  }
  UniqueFd read, write;
};

TEST(Log, TextLineHasUtcTimeLevelMessageAndFields) {
  EXPECT_EQ(line(LogFormat::text, "claimed", {{"jobs", "12"}, {"queue", "a b"}, {"note", ""}}),
            "2025-11-21T07:58:00.005Z info    claimed jobs=12 note=\"\" queue=\"a b\"");
}

TEST(Log, TextLineStaysOneLineAndSteersNoTerminal) {
  EXPECT_EQ(line(LogFormat::text, "a\nb\x1b[31m", {{"k\n", "say \"x\"\r"}}, LogLevel::error),
            "2025-11-21T07:58:00.005Z error   a\\x0ab\\x1b[31m k\\x0a=\"say \\\"x\\\"\\x0d\"");
}

TEST(Log, JsonLineIsValidAndKeepsFieldsApart) {
  auto const text = line(LogFormat::json, "x\n\"\\\x01", {{"level", "mine"}, {"z", "\xE2\x80\xAE\xff"}});
  EXPECT_EQ(text.find('\n'), std::string::npos);
  EXPECT_EQ(text.find("\xE2\x80\xAE"), std::string::npos);
  auto const value = boost::json::parse(text);
  EXPECT_EQ(value.at("time").as_string(), "2025-11-21T07:58:00.005Z");
  EXPECT_EQ(value.at("level").as_string(), "info");
  EXPECT_EQ(value.at("message").as_string(), "x\n\"\\\x01");
  EXPECT_EQ(value.at("fields").at("level").as_string(), "mine");
  EXPECT_EQ(value.at("fields").at("z").as_string(), "\xE2\x80\xAE\xEF\xBF\xBD");
}

TEST(Log, TimeBeforeTheEpochIsRight) {
  Log::Fields const none;
  EXPECT_TRUE(
      format_event(LogFormat::text, {.message = "m", .fields = none}, system_clock::time_point(milliseconds(-1)))
          .starts_with("1969-12-31T23:59:59.999Z"));
}

TEST(Log, LeastLevelIsHeldBack) {
  Pipe const pipe;
  Log const log(fd_logger(pipe.write.get(), LogFormat::text, LogLevel::warning));
  log.debug("one");
  log.info("two");
  log.warning("three");
  log.error("four", {{"a", "b"}});
  auto const out = pipe.drain();
  EXPECT_EQ(out.find("two"), std::string::npos);
  EXPECT_NE(out.find("warning three\n"), std::string::npos);
  EXPECT_NE(out.find("error   four a=b\n"), std::string::npos);
}

TEST(Log, LinesOfManyThreadsStayWhole) {
  Pipe const pipe;
  Log const log(fd_logger(pipe.write.get(), LogFormat::text, LogLevel::debug));
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 50; ++i) log.info("0123456789", {{"k", "v"}});
      });
    }
  }
  auto const out = pipe.drain();
  std::size_t lines = 0;
  for (std::size_t at = 0, end = 0; (end = out.find('\n', at)) != std::string::npos; at = end + 1, ++lines) {
    EXPECT_TRUE(out.substr(at, end - at).ends_with("Z info    0123456789 k=v"));
  }
  EXPECT_EQ(lines, 200U);
}

TEST(Log, UsersLoggerGetsTheRecordAndMayThrow) {
  std::string seen;
  Log const log([&](LogRecord const& record) {
    seen = std::string(to_string(record.level)) + ":" + std::string(record.message) + ":" + record.fields.at("k");
    throw std::runtime_error("no");
  });
  EXPECT_NO_THROW(log.debug("hello", {{"k", "v"}}));
  EXPECT_EQ(seen, "debug:hello:v");
}

}  // namespace
}  // namespace posthouse::base
