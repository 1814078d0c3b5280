// SPDX-License-Identifier: Apache-2.0
// `schedules` of the configuration: what becomes of each key, and errors that come all at once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "node/config_keys.hpp"

namespace posthouse::node {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::Pair;
using testing::UnorderedElementsAre;

class ConfigSchedules : public testing::Test {
 protected:
  void SetUp() override {
    path_ = std::filesystem::temp_directory_path() / ("posthouse-schedules-" + std::to_string(::getpid()) + "-" +
                                                      testing::UnitTest::GetInstance()->current_test_info()->name());
  }
  void TearDown() override { std::filesystem::remove(path_); }
  Config load(std::string const& text) {
    std::ofstream(path_) << text;
    sources_.file = path_.string();
    return node::load(sources_);
  }
  std::string problems(std::string const& text) {
    try {
      load(text);
    } catch (ConfigError const& error) {
      return error.what();
    }
    return "no problem";
  }

  std::filesystem::path path_;
  Sources sources_;
};

TEST_F(ConfigSchedules, EveryKeyBecomesAnArgument) {
  auto const config = load(
      "application: shop\n"
      "schedules:\n"
      "  a:\n"
      "    kind: k\n    cron: '*/5 * * * *'\n    time_zone: Europe/Berlin\n    queue: q\n    priority: -3\n"
      "    payload: {n: 7, t: '7', b: true, z: null, l: [x, 1.5e3, -1, 007]}\n    headers: {h: 1}\n"
      "    max_attempts: 3\n    timeout: 90\n    expires_in: 1h\n    key: x\n    dedupe_key: d\n    on_duplicate: "
      "replace\n"
      "    dedupe_scope: until_claimed\n    dedupe_window: 2d\n    jitter: 5m\n    misfire: all\n"
      "    misfire_limit: 7\n    overlap: replace\n    enabled: false\n"
      "  b: {kind: k, every: 90, payload: '{\"x\": [1]}'}\n"
      "  c: {kind: k, at: 2030-01-31T12:00:00+01:00, payload_bytes: aGVsbG8=}\n");
  EXPECT_EQ(config.application, "shop");
  EXPECT_THAT(config.schedules.at("a").arguments,
              UnorderedElementsAre(
                  Pair("kind", "\"k\""), Pair("cron", "\"*/5 * * * *\""), Pair("time_zone", "\"Europe/Berlin\""),
                  Pair("queue", "\"q\""), Pair("priority", "-3"),
                  Pair("payload", R"({"n": 7, "t": "7", "b": true, "z": null, "l": ["x", 1.5e3, -1, "007"]})"),
                  Pair("headers", R"({"h":"1"})"), Pair("max_attempts", "3"), Pair("timeout", "\"90000 milliseconds\""),
                  Pair("expires_in", "\"3600000 milliseconds\""), Pair("dedupe_key", "\"d\""), Pair("key", "\"x\""),
                  Pair("on_duplicate", "\"replace\""), Pair("dedupe_scope", "\"until_claimed\""),
                  Pair("dedupe_window", "\"172800000 milliseconds\""), Pair("jitter", "\"300000 milliseconds\""),
                  Pair("misfire", "\"all\""), Pair("misfire_limit", "7"), Pair("overlap", "\"replace\""),
                  Pair("enabled", "false")));
  EXPECT_THAT(config.schedules.at("b").arguments,
              UnorderedElementsAre(Pair("kind", "\"k\""), Pair("every", "\"90000 milliseconds\""),
                                   Pair("payload", R"({"x": [1]})")));
  EXPECT_THAT(config.schedules.at("c").arguments,
              UnorderedElementsAre(Pair("kind", "\"k\""), Pair("at", "\"2030-01-31T11:00:00.000000Z\""),
                                   Pair("payload_bytes", "\"aGVsbG8=\"")));
}

TEST_F(ConfigSchedules, AllErrorsAtOnceWithKeyAndLine) {
  auto const what = problems(
      "schedules:\n"
      "  a:\n"
      "    cron: 61 * * * *\n"
      "    priority: high\n"
      "    croon: 1\n"
      "  'b c': {kind: k, every: 0.5s}\n"
      "  d: {kind: k, every: 1.5s, at: soon, payload: hello, payload_bytes: a, overlap: queue, on_duplicate: error}\n"
      "  e: {kind: k, every: 1s, dedupe_key: d, on_duplicate: reschedule, headers: [1], jitter: 2d, timeout: 0, "
      "misfire_limit: 0}\n");
  for (auto const* part : {":3: schedules.a.cron: the minute is \"61\"",
                           ":4: schedules.a.priority is \"high\"",
                           ":5: schedules.a.croon is not a key of posthouse; did you mean cron?",
                           ":6: schedule is \"b c\"",
                           "schedules.b c.every is \"0.5s\"; allowed: 1s to 366d",
                           "schedules.d.every is \"1.5s\"; allowed: whole seconds",
                           "schedules.d.at is \"soon\"",
                           "schedules.d.payload is not valid JSON",
                           "schedules.d.payload_bytes is \"a\"",
                           "schedules.d.overlap is \"queue\"; allowed: allow, skip or replace",
                           "schedules.e.headers is a list",
                           "schedules.e.on_duplicate is \"reschedule\"; allowed: skip, error or replace",
                           "schedules.e.jitter is \"2d\"",
                           "schedules.e.timeout is \"0\"",
                           "schedules.e.misfire_limit is \"0\"",
                           ":2: schedules.a has no kind",
                           "schedules.d has more than one of cron, every and at",
                           "schedules.d has both payload and payload_bytes",
                           "without dedupe_key",
                           "schedules are there but application is not"}) {
    EXPECT_THAT(what, HasSubstr(part));
  }
  EXPECT_THAT(what, Not(HasSubstr("schedules.a has none of"))) << "it has one, which is wrong";
}

TEST_F(ConfigSchedules, FromTheEnvironment) {
  sources_.environment = {{"POSTHOUSE_SCHEDULES__NIGHTLY__CRON", "0 4 * * *"},
                          {"POSTHOUSE_SCHEDULES__NIGHTLY__PAYLOAD", "{\"full\": true}"}};
  auto const config = load("application: shop\nschedules:\n  nightly: {kind: k, cron: '@daily'}\n");
  EXPECT_TRUE(config.warnings.empty());
  EXPECT_EQ(config.schedules.at("nightly").arguments.at("cron"), "\"0 4 * * *\"");
  EXPECT_EQ(config.schedules.at("nightly").arguments.at("payload"), "{\"full\": true}");
}

TEST_F(ConfigSchedules, ShownAsTheyCanBeReadBack) {
  std::string const text =
      "application: shop\nschedules:\n  a: {kind: k, every: 5m, payload: {l: [{x: 1}], t: 'true'}}\n";
  auto const first = load(text).schedules.at("a").arguments;
  auto const shown = show(sources_);
  EXPECT_EQ(load(shown).schedules.at("a").arguments.at("payload"), first.at("payload"));
}

}  // namespace
}  // namespace posthouse::node
