// SPDX-License-Identifier: Apache-2.0
// What the private server decides without a server: programs, folders, URLs, the development server's place.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <posthouse/error.hpp>
#include <string>

#include "dev/dev.hpp"
#include "dev/folder.hpp"
#include "dev/private_server.hpp"
#include "dev/process.hpp"
#include "dev/programs.hpp"

namespace posthouse::dev {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = "/tmp/posthouse-unit-XXXXXX";
    path_ = ::mkdtemp(name.data());
  }
  ~TemporaryFolder() { fs::remove_all(path_); }
  [[nodiscard]] fs::path path() const { return path_; }
  [[nodiscard]] fs::path operator/(std::string const& name) const { return path_ / name; }

 private:
  fs::path path_;
};

class Variable {
 public:
  Variable(char const* name, std::string const& value) : name_(name) {
    if (char const* old = std::getenv(name)) old_ = old;
    ::setenv(name, value.c_str(), 1);
  }
  ~Variable() { old_ ? ::setenv(name_, old_->c_str(), 1) : ::unsetenv(name_); }

 private:
  char const* name_;
  std::optional<std::string> old_;
};

void write_program(fs::path const& file, std::string const& body) {
  fs::create_directories(file.parent_path());
  std::ofstream(file) << "#!/bin/sh\n" << body << "\n";
  fs::permissions(file, fs::perms::owner_all | fs::perms::group_exec | fs::perms::others_exec);
}

SpawnOptions shell(std::string const& script) {
  SpawnOptions options;
  options.argv = {"/bin/sh", "-c", script};
  options.environment = plain_environment();
  return options;
}

template <class Call>
std::string message_of(Call call) {
  try {
    call();
  } catch (Error const& error) {
    return std::string(error.what()) + " | " + error.hint();
  }
  return "no error";
}

TEST(DevProcess, RunsAProgramAndReturnsItsOutputAndStatus) {
  auto const result = run(shell("echo out; echo err >&2; exit 3"), 10s);
  EXPECT_EQ(result.status, 3);
  EXPECT_EQ(result.output, "out\nerr\n");
}

TEST(DevProcess, KillsAtTheDeadline) {
  auto const before = std::chrono::steady_clock::now();
  EXPECT_EQ(run(shell("exec sleep 60"), 50ms).status, -1);
  EXPECT_LT(std::chrono::steady_clock::now() - before, 30s);
}

TEST(DevProcess, ReportsASignal) { EXPECT_EQ(run(shell("kill -TERM $$"), 10s).status, 128 + 15); }

TEST(DevProcess, InheritsNoDescriptorAndNoVariable) {
  Variable const pg("PGDATA", "/somewhere");
  int const leak = ::dup(1);  // without close-on-exec
  auto const result = run(shell("echo \"[$PGDATA]\"; ls /proc/self/fd | tr '\\n' ' '"), 10s);
  ::close(leak);
  EXPECT_EQ(result.output, "[]\n0 1 2 3 ");  // 3 is ls's own
}

TEST(DevProcess, NamesTheProgramThatIsNotThere) {
  SpawnOptions options;
  options.argv = {"/nowhere/postgres"};
  EXPECT_THAT(message_of([&] { run(options, 1s); }), HasSubstr("cannot start /nowhere/postgres: No such file"));
}

TEST(DevProcess, BecomesTheUnprivilegedUser) {
  auto const as = unprivileged_identity();
  if (!as) GTEST_SKIP() << "not root";
  auto options = shell("id -u; id -G; cat /etc/shadow >/dev/null 2>&1 && echo root");
  options.as = as;
  EXPECT_EQ(run(options, 10s).output, std::to_string(as->uid) + "\n" + std::to_string(as->gid) + "\n");
}

TEST(DevPrograms, TakesTheFirstThatIsNewEnough) {
  TemporaryFolder const folder;
  for (auto const& [name, version] : {std::pair{"a", "13.4"}, {"b", "16.1"}, {"c", "14.9"}}) {
    write_program(folder.path() / name / "postgres", std::string("echo 'postgres (PostgreSQL) ") + version + " (x)'");
    write_program(folder.path() / name / "initdb", "true");
  }
  std::vector<fs::path> const folders{folder / "none", folder / "a", folder / "b", folder / "c"};
  EXPECT_EQ(find_programs(std::nullopt, folders).folder, folder / "b");
  EXPECT_EQ(find_programs(std::nullopt, folders).major, 16);
  EXPECT_EQ(find_programs(14, folders).folder, folder / "c");
  EXPECT_THAT(message_of([&] { find_programs(15, folders); }),
              AllOf(HasSubstr("of version 15"), HasSubstr("13 in "), HasSubstr("apt-get install postgresql-15")));
}

TEST(DevPrograms, SaysWhatToInstall) {
  EXPECT_THAT(message_of([] { find_programs(std::nullopt, {"/nowhere"}); }),
              AllOf(HasSubstr("14 or later"), HasSubstr("/nowhere"), HasSubstr("install the package postgresql-15")));
}

TEST(DevPrograms, LooksWherePgConfigPoints) {
  TemporaryFolder const folder;
  write_program(folder / "pg_config", "echo /made/up/bin");
  Variable const path("PATH", folder.path().string());
  Variable const none("POSTHOUSE_PG_BIN", "");
  EXPECT_EQ(program_folders().front(), "/made/up/bin");
  Variable const chosen("POSTHOUSE_PG_BIN", "/chosen");
  EXPECT_EQ(program_folders().front(), "/chosen");
}

TEST(DevFolder, RefusesAFolderWithSomethingElseInIt) {
  TemporaryFolder const folder;
  std::ofstream(folder / "letters.txt") << "mine";
  auto const none = [](std::string_view) { return false; };
  EXPECT_THAT(message_of([&] { make_private_folder(folder.path(), std::nullopt, none); }),
              AllOf(HasSubstr("letters.txt"), HasSubstr("empty folder")));
}

TEST(DevFolder, ClosesItToOthers) {
  TemporaryFolder const folder;
  auto const inner = folder.path() / "a" / "b";
  make_private_folder(inner, std::nullopt, [](std::string_view) { return false; });
  EXPECT_TRUE(is_private_folder(inner, std::nullopt));
  ::chmod(inner.c_str(), 0755);
  EXPECT_FALSE(is_private_folder(inner, std::nullopt));
}

TEST(DevFolder, LockKeepsOthersOutUntilItGoes) {
  TemporaryFolder const folder;
  auto const file = folder / "lock";
  {
    FolderLock const lock(file, std::nullopt, 1s);
    EXPECT_THROW(FolderLock(file, std::nullopt, 30ms), Timeout);
  }
  FolderLock const again(file, std::nullopt, 1s);
}

TEST(DevFolder, LastLinesComeInOrder) {
  EXPECT_EQ(last_lines("one\ntwo\n\nthree\n\n", 2), "two | three");
  EXPECT_EQ(last_lines("one", 5), "one");
  EXPECT_EQ(last_lines("", 5), "");
}

TEST(PrivateServer, TakesAbsoluteFoldersOnly) {
  EXPECT_THAT(message_of([] { PrivateServer({.folder = "here"}); }), HasSubstr("must be an absolute path, not 'here'"));
}

TEST(PrivateServer, SaysWhatIsNotRunning) {
  TemporaryFolder const folder;
  PrivateServer server({.folder = folder / "none"});
  EXPECT_EQ(server.status().state, ServerState::absent);
  EXPECT_FALSE(server.stop());
  EXPECT_THAT(message_of([&] { static_cast<void>(server.url()); }), HasSubstr("is not running"));
}

TEST(PrivateServer, UrlEscapesWhatLibpqWouldRead) {
  EXPECT_EQ(socket_url("/tmp/a b", 5432, "x/y?"), "postgresql://postgres@/x%2Fy%3F?host=%2Ftmp%2Fa%20b&port=5432");
}

TEST(DevServer, HomeFollowsTheVariables) {
  Variable const home("HOME", "/home/somebody");
  Variable const state("XDG_STATE_HOME", "");
  Variable const own("POSTHOUSE_DEV_HOME", "");
  EXPECT_EQ(dev_home(), "/home/somebody/.local/state/posthouse/dev");
  Variable const xdg("XDG_STATE_HOME", "/state");
  EXPECT_EQ(dev_home(), "/state/posthouse/dev");
  Variable const chosen("POSTHOUSE_DEV_HOME", "/mine/./dev");
  EXPECT_EQ(dev_home(), "/mine/dev");
}

TEST(DevServer, NothingRunsWhereNothingIs) {
  TemporaryFolder const folder;
  Variable const home("POSTHOUSE_DEV_HOME", folder.path().string());
  EXPECT_EQ(running_dev_url(), std::nullopt);
  EXPECT_FALSE(dev_stop());
  EXPECT_FALSE(dev_remove());
  EXPECT_THAT(message_of([] { dev_url(); }), HasSubstr("posthouse dev start"));
  std::ofstream(folder / "folder") << "not a path\n";
  EXPECT_EQ(running_dev_url(), std::nullopt);
}

}  // namespace
}  // namespace posthouse::dev
