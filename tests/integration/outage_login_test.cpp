// SPDX-License-Identifier: Apache-2.0
// The password is changed while workers and a producer go on: they say so, keep trying, and find back when the file that
// they read it from holds the new one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "pg/connection.hpp"
#include "support/database.hpp"
#include "support/outage.hpp"

namespace posthouse::test {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

class OutageLogin : public OutageTest {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "posthouse-login-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder = pattern;
    auto admin = Sql(database.url());
    admin.exec("set password_encryption = 'scram-sha-256'; create role app superuser login password 'one'");
    std::ifstream const file(hba());
    std::ostringstream all;
    all << file.rdbuf();
    before = all.str();
    std::ofstream(hba()) << "local all app scram-sha-256\n" << before;
    admin.exec("select pg_reload_conf()");
    ASSERT_TRUE(eventually([&] { return !lets_in("wrong") && lets_in("one"); }));
  }
  void TearDown() override {
    std::filesystem::remove_all(folder);
    if (!before.empty()) std::ofstream(hba()) << before;
    auto admin = Sql(database.url());
    admin.exec("select pg_reload_conf()");
    admin.exec("drop role app");
    OutageTest::TearDown();
  }
  [[nodiscard]] std::filesystem::path hba() const { return server.databases().control()->data() / "pg_hba.conf"; }

  [[nodiscard]] std::string url() const { return database.url() + "&user=app"; }
  [[nodiscard]] bool lets_in(std::string const& password) const {
    try {
      Sql const sql(url() + "&password=" + password);
      return true;
    } catch (SqlError const&) {
      return false;
    }
  }
  void write(std::string const& text) const {
    // As such files are replaced: in one step.
    std::ofstream(folder / "new") << text;
    ::chmod((folder / "new").c_str(), 0600);
    std::filesystem::rename(folder / "new", folder / "secret");
  }
  void rotate(DatabaseOptions const& options, std::string const& one, std::string const& two) {
    write(one);
    Load load({.database = options});
    load.start();
    ASSERT_TRUE(load.runs(60));
    auto admin = Sql(database.url());
    admin.exec("alter role app password 'two'");
    admin.exec("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'");
    EXPECT_TRUE(eventually([&] { return load.logged("password authentication failed for user"); }, 60s)) << load.log();
    EXPECT_TRUE(eventually([&] { return load.refused() >= 1; }, 60s));
    EXPECT_EQ(load.log().find("'one'"), std::string::npos);
    auto const written = Load::Clock::now();
    write(two);
    EXPECT_TRUE(load.recovers("password rotated", written));
    expect_once(load.finish(admin));
  }

  std::filesystem::path folder{};
  std::string before{};
};

TEST_F(OutageLogin, PasswordFileIsReadAtEachConnect) {
  DatabaseOptions options;
  options.database_url = url();
  options.password_file = (folder / "secret").string();
  rotate(options, "one\n", "two\nsecond line\n");
}

TEST_F(OutageLogin, PassFileOfLibpqToo) {
  if (!long_run()) GTEST_SKIP() << "with scripts/test --long";
  DatabaseOptions options;
  options.database_url = url() + "&passfile=" + (folder / "secret").string();
  rotate(options, "*:*:*:app:one\n", "*:*:*:app:two\n");
}

TEST_F(OutageLogin, PasswordFileThatIsNotThere) {
  DatabaseOptions options;
  options.database_url = url();
  options.password_file = (folder / "secret").string();
  auto const problem = [&] {
    try {
      pg::Connection::open(options);
    } catch (Unavailable const& error) {
      return std::string(error.what()) + " / " + error.hint();
    }
    return std::string("connected");
  };
  EXPECT_THAT(problem(), HasSubstr("password_file cannot be read or has no usable first line: " + folder.string()));
  write("\n");
  EXPECT_THAT(problem(), HasSubstr("its first line is the password"));
  write("one\r\n");
  EXPECT_EQ(problem(), "connected");
  // What the URL says is the more specific word.
  options.database_url += "&password=wrong";
  EXPECT_THAT(problem(), HasSubstr("password authentication failed"));
}

}  // namespace
}  // namespace posthouse::test
