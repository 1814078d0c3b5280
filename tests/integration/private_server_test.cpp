// SPDX-License-Identifier: Apache-2.0
// The private server and the development server for real: start, stop, crashes, kills, stale files, many at once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <posthouse/error.hpp>
#include <string>
#include <thread>
#include <vector>

#include "dev/dev.hpp"
#include "dev/folder.hpp"
#include "dev/guard.hpp"
#include "dev/private_server.hpp"
#include "support/child_process.hpp"
#include "support/eventually.hpp"
#include "support/sql.hpp"

namespace posthouse::dev {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using test::ChildProcess;
using test::eventually;
using test::Sql;
using ::testing::HasSubstr;

/// A name below /tmp that nobody uses; what a test leaves there goes with the test.
class PrivateServerTest : public ::testing::Test {
 protected:
  PrivateServerTest() {
    std::string name = "/tmp/posthouse-it-XXXXXX";
    root = ::mkdtemp(name.data());
    ::chmod(root.c_str(), 0755);  // the server's user has to pass through
  }
  ~PrivateServerTest() override {
    PrivateServer({.folder = folder()}).destroy();
    fs::remove_all(root);
  }
  [[nodiscard]] fs::path folder() const { return root / "server"; }
  [[nodiscard]] pid_t postmaster() const { return PrivateServer({.folder = folder()}).status().pid; }

  fs::path root;
};

TEST_F(PrivateServerTest, StartsIsFoundByAnotherObjectAndStops) {
  PrivateServer server({.folder = folder()});
  EXPECT_TRUE(server.start());
  EXPECT_FALSE(server.start());
  Sql sql(server.url());
  EXPECT_EQ(sql.one("show fsync"), "on");
  EXPECT_EQ(sql.one("show synchronous_commit"), "on");
  EXPECT_EQ(sql.one("show listen_addresses"), "");
  EXPECT_EQ(sql.one("show max_prepared_transactions"), "20");
  EXPECT_EQ(sql.one("show max_connections"), "200");
  EXPECT_EQ(sql.one("show timezone"), "UTC");
  EXPECT_EQ(sql.one("select datcollate from pg_database where datname = current_database()"), "C.UTF-8");
  sql.exec("create table kept (x int); insert into kept values (42)");
  sql.close();

  PrivateServer other({.folder = folder()});
  EXPECT_EQ(other.url(), server.url());
  EXPECT_EQ(other.processes().front(), server.status().pid);
  EXPECT_TRUE(other.stop());
  EXPECT_EQ(server.status().state, ServerState::stopped);
  EXPECT_FALSE(server.stop());

  EXPECT_TRUE(server.start());
  EXPECT_EQ(Sql(server.url()).one("select x from kept"), "42");
  server.destroy();
  EXPECT_FALSE(fs::exists(folder()));
}

TEST_F(PrivateServerTest, OnlyItsOwnerGetsToTheSocket) {
  PrivateServer server({.folder = folder(), .fast = true});
  server.start();
  struct stat facts {};
  ASSERT_EQ(::stat(server.status().socket_folder.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777U, 0700U);
}

TEST_F(PrivateServerTest, FastAndFurtherSettings) {
  PrivateServer server({.folder = folder(), .fast = true, .settings = "work_mem = '7MB'"});
  server.start();
  EXPECT_EQ(Sql(server.url()).one("show fsync"), "off");
  EXPECT_EQ(Sql(server.url()).one("show work_mem"), "7MB");
}

TEST_F(PrivateServerTest, SurvivesKillAndImmediateStop) {
  PrivateServer server({.folder = folder()});
  server.start();
  Sql(server.url()).exec("create table kept (x int); insert into kept values (42)");
  Sql busy(server.url());
  PQsendQuery(busy.connection(), "select pg_sleep(600)");
  server.kill();
  EXPECT_EQ(server.status().state, ServerState::stopped);
  EXPECT_TRUE(server.start());
  EXPECT_EQ(Sql(server.url()).one("select x from kept"), "42");
  server.stop(StopMode::immediate);
  EXPECT_TRUE(server.start());
  EXPECT_EQ(Sql(server.url()).one("select x from kept"), "42");
}

TEST_F(PrivateServerTest, APostmasterKilledAloneIsReplaced) {
  PrivateServer server({.folder = folder(), .fast = true});
  server.start();
  Sql idle(server.url());
  ::kill(server.status().pid, SIGKILL);
  ASSERT_TRUE(eventually([&] { return server.status().state == ServerState::stopped; }));
  EXPECT_TRUE(server.start());
  EXPECT_EQ(Sql(server.url()).one("select 1"), "1");
}

TEST_F(PrivateServerTest, AStaleFileThatNamesALivingProcessIsNoServer) {
  PrivateServer server({.folder = folder(), .fast = true});
  server.start();
  server.stop();
  ChildProcess const other({"sleep", "600"});
  std::ofstream(server.data() / "postmaster.pid") << other.pid() << "\n"
                                                  << server.data().string() << "\n0\n5432\n"
                                                  << folder().string() << "\n\n1 2\nready   \n";
  EXPECT_EQ(server.status().state, ServerState::stopped);
  EXPECT_TRUE(server.start());
  EXPECT_NE(server.status().pid, other.pid());
  EXPECT_EQ(Sql(server.url()).one("select 1"), "1");
}

TEST_F(PrivateServerTest, AnInitdbThatWasKilledLeavesNothingInTheWay) {
  fs::create_directories(folder() / "data.new");
  std::ofstream(folder() / "data.new" / "PG_VERSION") << "15\n";
  if (auto const as = unprivileged_identity()) {
    ASSERT_EQ(::chown(folder().c_str(), as->uid, as->gid), 0);
  }
  PrivateServer server({.folder = folder(), .fast = true});
  EXPECT_EQ(server.status().state, ServerState::absent);
  EXPECT_TRUE(server.start());
}

TEST_F(PrivateServerTest, LongAndOddPathsGetAShortSocketFolder) {
  auto const odd = root / (std::string(80, 'x') + " it's") / "server";
  fs::create_directories(odd.parent_path());
  PrivateServer server({.folder = odd, .fast = true});
  server.start();
  auto const socket_folder = server.status().socket_folder;
  EXPECT_NE(socket_folder, odd);
  EXPECT_EQ(Sql(server.url()).one("select 1"), "1");
  server.kill();
  server.start();
  EXPECT_EQ(server.status().socket_folder, socket_folder);
  server.destroy();
  EXPECT_FALSE(fs::exists(socket_folder));
  EXPECT_FALSE(fs::exists(odd));
}

TEST_F(PrivateServerTest, TheReasonOfAFailedStartComesFromTheLog) {
  PrivateServer server({.folder = folder(), .fast = true, .settings = "no_such_setting = 1"});
  try {
    server.start();
    FAIL() << "it started";
  } catch (Unavailable const& error) {
    EXPECT_THAT(error.what(), HasSubstr("no_such_setting"));
    EXPECT_THAT(error.hint(), HasSubstr("server.log"));
  }
}

TEST_F(PrivateServerTest, AFolderOfAnotherVersionIsNotTouched) {
  PrivateServer server({.folder = folder(), .fast = true});
  server.start();
  server.stop();
  auto programs = find_programs();
  programs.major += 1;
  PrivateServer newer({.folder = folder(), .programs = programs});
  EXPECT_THROW(newer.start(), InvalidArgument);
}

TEST_F(PrivateServerTest, ManyStartsAtOnceMakeOneServer) {
  std::vector<std::jthread> threads;
  std::atomic<int> started{0};
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&] {
      if (PrivateServer({.folder = folder(), .fast = true}).start()) ++started;
    });
  }
  threads.clear();
  EXPECT_EQ(started, 1);
  EXPECT_EQ(Sql(PrivateServer({.folder = folder()}).url()).one("select 1"), "1");
}

// Run by the next test in a process of its own, which is killed.
TEST(PrivateServerHelper, DISABLED_RunsUntilItIsKilled) {
  char const* const where = std::getenv("POSTHOUSE_TEST_FOLDER");
  if (where == nullptr) GTEST_SKIP();
  PrivateServer server({.folder = where, .fast = true, .ephemeral = true});
  server.start();
  std::printf("started %d\n", server.status().pid);
  std::fflush(stdout);
  for (;;) ::pause();
}

class EphemeralTest : public PrivateServerTest {
 protected:
  ChildProcess start_helper() {
    return ChildProcess(
        {.argv = {"/proc/self/exe", "--gtest_also_run_disabled_tests",
                  "--gtest_filter=PrivateServerHelper.DISABLED_RunsUntilItIsKilled"},
         .environment = {
             {"POSTHOUSE_TEST_FOLDER", folder().string()}, {"GTEST_TOTAL_SHARDS", "1"}, {"GTEST_SHARD_INDEX", "0"}}});
  }
};

TEST_F(EphemeralTest, GoesWithTheObject) {
  {
    PrivateServer server({.folder = folder(), .fast = true, .ephemeral = true});
    server.start();
    Sql(server.url()).exec("select 1");
  }
  EXPECT_FALSE(fs::exists(folder()));
}

TEST_F(EphemeralTest, DiesWithItsProcessAndLeavesNoFolder) {
  auto helper = start_helper();
  ASSERT_TRUE(helper.said("started ")) << helper.errors();
  pid_t const pid = postmaster();
  ASSERT_GT(pid, 0);
  helper.kill();
  EXPECT_TRUE(eventually([&] { return !alive(pid) && !fs::exists(folder()); }));
}

TEST_F(EphemeralTest, DiesEvenWhenItIsStopped) {
  auto helper = start_helper();
  ASSERT_TRUE(helper.said("started ")) << helper.errors();
  pid_t const pid = postmaster();
  ::kill(pid, SIGSTOP);
  helper.kill();
  EXPECT_TRUE(eventually([&] { return !alive(pid) && !fs::exists(folder()); }));
}

TEST_F(EphemeralTest, DiesInTheMiddleOfItsStart) {
  auto helper = start_helper();
  ASSERT_TRUE(eventually([&] { return fs::exists(folder() / "data.new"); }));
  helper.kill();
  EXPECT_TRUE(eventually([&] { return !fs::exists(folder()); }));
}

TEST_F(EphemeralTest, AForkedChildLeavesItAlone) {
  PrivateServer server({.folder = folder(), .fast = true, .ephemeral = true});
  server.start();
  pid_t const child = ::fork();
  if (child == 0) {
    { PrivateServer const moved(std::move(server)); }
    ::_exit(0);
  }
  EXPECT_TRUE(wait_gone(child, 20s));
  EXPECT_EQ(Sql(server.url()).one("select 1"), "1");
}

class DevServerTest : public PrivateServerTest {
 protected:
  DevServerTest() { ::setenv("POSTHOUSE_DEV_HOME", (root / "home").c_str(), 1); }
  ~DevServerTest() override {
    dev_remove();
    ::unsetenv("POSTHOUSE_DEV_HOME");
  }
};

TEST_F(DevServerTest, IsFoundWhileItRunsAndKeepsItsData) {
  auto const start = dev_start();
  EXPECT_TRUE(start.started);
  EXPECT_EQ(dev_url(), start.url);
  EXPECT_EQ(running_dev_url(), start.url);
  EXPECT_EQ(dev_psql_argv({"-X"}).at(1), start.url);
  Sql(start.url).exec("create table kept (x int)");
  auto const again = dev_start();
  EXPECT_FALSE(again.started);
  EXPECT_EQ(again.url, start.url);
  EXPECT_TRUE(dev_stop());
  EXPECT_EQ(running_dev_url(), std::nullopt);
  EXPECT_FALSE(dev_stop());
  EXPECT_TRUE(dev_start().started);
  EXPECT_EQ(Sql(dev_url()).one("select count(*) from kept"), "0");
}

TEST_F(DevServerTest, IsNotFoundAfterACrashAndComesBack) {
  auto const start = dev_start({.fast = true});
  PrivateServer({.folder = start.folder}).kill();
  EXPECT_EQ(running_dev_url(), std::nullopt);
  EXPECT_TRUE(dev_start({.fast = true}).started);
}

TEST_F(DevServerTest, OneAtATime) {
  auto const start = dev_start({.folder = root / "one", .fast = true});
  EXPECT_EQ(start.folder, root / "one");
  EXPECT_THROW(dev_start({.folder = root / "two", .fast = true}), InvalidArgument);
  dev_stop();
  EXPECT_EQ(dev_start({.folder = root / "two", .fast = true}).folder, root / "two");
  EXPECT_EQ(dev_start().folder, root / "two");
  PrivateServer({.folder = root / "one"}).destroy();
}

}  // namespace
}  // namespace posthouse::dev
