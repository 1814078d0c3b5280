// SPDX-License-Identifier: Apache-2.0
// The demo: leaves nothing, runs again whatever became of the one before, and what it says to try next works.
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <regex>

#include "integration/cli_fixture.hpp"

namespace posthouse::test {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

namespace fs = std::filesystem;

constexpr std::chrono::minutes kPatience{5};

class CliDemo : public CliTest {
 protected:
  CliDemo() {
    // The server's user has to get in when the tests run as root.
    fs::permissions(folder.path(), fs::perms(0755));
    fs::create_directory(folder.path() / "tmp");
    fs::permissions(folder.path() / "tmp", fs::perms(01777));
    environment["TMPDIR"] = (folder.path() / "tmp").string();
  }
  void TearDown() override { run({"dev", "stop", "--remove"}); }

  Ran demo(std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"demo", "--jobs", "10000"});
    auto child = start(more);
    auto const status = child.wait(kPatience);
    return {status.value_or(-1), child.output(), child.errors()};
  }
  /// Command lines that name our folder: servers of demos.
  [[nodiscard]] std::vector<std::string> servers() const {
    std::vector<std::string> found;
    std::error_code ignored;
    for (auto const& entry : fs::directory_iterator("/proc", ignored)) {
      std::ifstream file(entry.path() / "cmdline");
      std::string const line(std::istreambuf_iterator<char>(file), {});
      if (line.find((folder.path() / "tmp").string()) != std::string::npos) found.push_back(line);
    }
    return found;
  }
  [[nodiscard]] std::vector<std::string> left() const {
    std::vector<std::string> found;
    std::error_code ignored;
    for (auto const& entry : fs::directory_iterator(folder.path() / "tmp", ignored)) found.push_back(entry.path());
    return found;
  }
  void expect_nothing_left() {
    EXPECT_TRUE(eventually([&] { return servers().empty(); })) << ::testing::PrintToString(servers());
    EXPECT_TRUE(eventually([&] { return left().empty(); })) << ::testing::PrintToString(left());
  }
  /// Runs the lines in a shell that stops at the first that fails, in our folder.
  Ran shell(std::string const& lines) {
    environment["PATH"] = "/usr/bin:/bin";
    environment["POSTHOUSE_CONFIG"] = "";
    auto const script = folder.write("script.sh", "set -e -o pipefail\ncd '" + folder.path().string() + "'\n" + lines);
    ChildProcess child({.argv = {"/bin/bash", script}, .environment = environment});
    auto const status = child.wait(kPatience);
    return {status.value_or(-1), child.output(), child.errors()};
  }
};

TEST_F(CliDemo, LeavesNothingRunsAgainAndItsNextStepsWork) {
  std::string next;
  for (int i = 0; i < 2; ++i) {
    auto const ran = demo();
    ASSERT_EQ(ran.status, 0) << ran.err;
    EXPECT_THAT(ran.out, HasSubstr("\n10,000 jobs in "));
    EXPECT_THAT(ran.err, Not(HasSubstr("\x1b["))) << "no progress line without a terminal";
    expect_nothing_left();
    auto const heading = ran.out.find("What to try next:\n");
    ASSERT_NE(heading, std::string::npos);
    next = ran.out.substr(ran.out.find('\n', heading) + 1);
  }
  EXPECT_THAT(next, HasSubstr("export PATH='" + fs::path(posthouse_program()).parent_path().string() + "'"));
  auto const ran = shell(next);
  EXPECT_EQ(ran.status, 0) << ran.err << ran.out;
  auto const expected = std::regex("hello +2\n");
  EXPECT_TRUE(std::regex_search(ran.out, expected)) << ran.out;
  EXPECT_THAT(ran.out, HasSubstr("succeeded"));
  EXPECT_THAT(ran.out, HasSubstr("the data stay"));
}

TEST_F(CliDemo, SignalsUnwindThePrivateServer) {
  auto child = start({"demo", "--jobs", "1000000"});
  ASSERT_TRUE(child.said("Working 1,000,000 jobs", kPatience)) << child.errors();
  child.send(SIGINT);
  EXPECT_EQ(child.wait(kPatience), 130) << child.errors();
  EXPECT_THAT(child.errors(), HasSubstr("interrupted; nothing of it is left"));
  expect_nothing_left();
}

TEST_F(CliDemo, TheShellLinesOfTheReadmeWork) {
  std::ifstream file(std::string(POSTHOUSE_SOURCE_DIR) + "/README.md");
  std::string const readme(std::istreambuf_iterator<char>(file), {});
  auto const begin = readme.find("```sh\n", readme.find("In the shell, with handlers that need no code:"));
  ASSERT_NE(begin, std::string::npos);
  auto const lines = readme.substr(begin + 6, readme.find("```\n", begin + 6) - begin - 6);
  fs::create_directories(folder.path() / "build/release");
  fs::create_directory_symlink(fs::path(posthouse_program()).parent_path(), folder.path() / "build/release/bin");
  auto const ran = shell(lines);
  EXPECT_EQ(ran.status, 0) << ran.err << ran.out;
  EXPECT_THAT(ran.out, HasSubstr("succeeded"));
}

class CliDemoThere : public CliDemo {
 protected:
  /// A demo of so many jobs that it is at work for long, and the moment when it is.
  ChildProcess under_way() {
    auto child = start({"demo", "--jobs", "2000000", "--database-url", database.url()});
    EXPECT_TRUE(eventually(
        [&] {
          return sql.number(
                     "select count(*) from pg_class c join pg_namespace n on n.oid = relnamespace "
                     "where nspname = 'posthouse_demo' and relname = 'ledger'") == 1;
        },
        kPatience))
        << child.errors();
    return child;
  }
  bool there() { return sql.number("select count(*) from pg_namespace where nspname = 'posthouse_demo'") == 1; }

  TestDatabase database{TestDatabase::empty};
  Sql sql{database.url()};
};

TEST_F(CliDemoThere, ASignalTakesEverythingBack) {
  for (auto const& [signal, status] : {std::pair{SIGINT, 130}, std::pair{SIGTERM, 143}}) {
    auto child = under_way();
    child.send(signal);
    EXPECT_EQ(child.wait(kPatience), status) << child.errors();
    EXPECT_FALSE(there());
    EXPECT_EQ(child.output(), "");
  }
}

TEST_F(CliDemoThere, WhatAKilledOneLeftIsNotCounted) {
  {
    auto child = under_way();
    child.kill();
    child.wait();
  }
  ASSERT_TRUE(there());
  auto const ran = demo({"--database-url", database.url()});
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("Removed what an earlier demo left."));
  EXPECT_THAT(ran.out, HasSubstr("\n10,000 jobs in "));
  EXPECT_TRUE(std::regex_search(ran.out, std::regex("demo.quick +7,488 +0 "))) << ran.out;
  EXPECT_TRUE(std::regex_search(ran.out, std::regex("demo.broken +0 +2 "))) << ran.out;
  EXPECT_FALSE(there());
}

TEST_F(CliDemoThere, OneAtATime) {
  auto child = under_way();
  auto const second = demo({"--database-url", database.url()});
  EXPECT_EQ(second.status, 4);
  EXPECT_THAT(second.err, HasSubstr("another demo runs in this database"));
  EXPECT_TRUE(there()) << "the first one's";
  child.terminate();
  EXPECT_EQ(child.wait(kPatience), 143);
}

}  // namespace
}  // namespace posthouse::test
