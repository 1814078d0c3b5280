// SPDX-License-Identifier: Apache-2.0
// No room left where the jobs are kept, and none in the server's queue of notifications: producers get a typed error,
// workers wait, and everything goes on when there is room.
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "dev/folder.hpp"
#include "support/database.hpp"
#include "support/outage.hpp"

namespace posthouse::test {
namespace {

using namespace std::chrono_literals;

/// A small file system in memory that can grow; unmounted with the object.
class Tmpfs {
 public:
  explicit Tmpfs(std::optional<dev::Identity> const& owner) : folder_(dev::make_short_folder(owner)) {
    if (owner) {
      options_ = ",uid=" + std::to_string(owner->uid) + ",gid=" + std::to_string(owner->gid) + ",mode=0700";
    }
    if (::mount("tmpfs", folder_.c_str(), "tmpfs", 0, ("size=48m" + options_).c_str()) != 0) {
      problem_ = std::strerror(errno);
    }
  }
  ~Tmpfs() {
    if (problem_.empty()) ::umount2(folder_.c_str(), MNT_DETACH);
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  Tmpfs(Tmpfs const&) = delete;
  Tmpfs& operator=(Tmpfs const&) = delete;

  void grow() const {
    if (::mount("tmpfs", folder_.c_str(), "tmpfs", MS_REMOUNT, ("size=256m" + options_).c_str()) != 0)
      throw std::runtime_error(std::strerror(errno));
  }
  [[nodiscard]] std::string const& problem() const noexcept { return problem_; }
  [[nodiscard]] std::string folder() const { return folder_.string(); }

 private:
  std::filesystem::path folder_;
  std::string options_{};
  std::string problem_{};
};

TEST(OutageStorageLong, DiskFull) {
  if (!long_run()) GTEST_SKIP() << "mounts a file system: with scripts/test --long";
  TestServer server(TestServer::durable, "autovacuum = off\n");
  Tmpfs const disk(dev::owner_identity(server.databases().control()->data()));
  if (!disk.problem().empty()) GTEST_SKIP() << "no tmpfs can be mounted here: " << disk.problem();
  TestDatabase const database("posthouse", server);
  Sql admin(server.url());
  admin.exec("create tablespace small location '" + disk.folder() + "'");
  admin.exec("alter database " + database.name() + " set tablespace small");
  Sql sql(database.url());
  Load load({.database = database.options(), .backlog = 300});
  load.start();
  ASSERT_TRUE(load.runs(30));
  sql.exec("create table filler (x text); alter table filler alter x set storage plain");
  std::string state;
  while (state.empty())
    state = sql.sqlstate_of("insert into filler select repeat('x', 4000) from generate_series(1, 50)");
  EXPECT_EQ(state, "53100");
  EXPECT_TRUE(eventually([&] { return load.refused() >= 3; }, 60s)) << "the enqueue is refused";
  EXPECT_GT(load.storage_full(), 0) << "with a type of its own";
  auto const grown = Load::Clock::now();
  disk.grow();
  load.pile_up(200);
  EXPECT_TRUE(load.recovers("disk full", grown));
  expect_once(load.finish(sql));
}

TEST(OutageStorageLong, NotifyQueueFull) {
  if (!long_run()) GTEST_SKIP() << "writes 2 GB: with scripts/test --long";
  TestServer server(TestServer::durable);
  TestDatabase const database("posthouse", server);
  Sql sql(database.url());
  Load load({.database = database.options(), .backlog = 100, .between = 50ms});
  load.start();
  ASSERT_TRUE(load.runs(30));
  Sql idle(database.url());  // a listener that reads nothing keeps all that comes
  idle.exec("listen elsewhere");
  idle.exec("begin; select 1");
  Sql filler(database.url());
  while (!sql.truth("select pg_notification_queue_usage() > 0.26")) {
    filler.exec("select count(pg_notify('elsewhere', i || repeat('x', 7900))) from generate_series(1, 5000) i");
  }
  ASSERT_TRUE(load.runs(60)) << "without notifications";
  idle.exec("commit");
  auto const emptied = Load::Clock::now();
  load.pile_up(200);
  EXPECT_TRUE(load.recovers("NOTIFY queue a quarter full", emptied));
  expect_once(load.finish(sql));
  EXPECT_EQ(load.refused(), 0);
}

}  // namespace
}  // namespace posthouse::test
