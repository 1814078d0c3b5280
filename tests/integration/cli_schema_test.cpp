// SPDX-License-Identifier: Apache-2.0
// verify, upgrade and adopt as a user meets them: what they say is so.
#include <filesystem>

#include "dev/programs.hpp"
#include "integration/cli_fixture.hpp"

namespace posthouse::test {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::string program(char const* name) { return (dev::find_programs().folder / name).string(); }

class CliSchema : public CliDatabaseTest {
 protected:
  Ran psql(std::string const& text) {
    ChildProcess child({.argv = {program("psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", database.url()},
                        .environment = environment,
                        .input = text});
    auto const status = child.wait();
    return {status.value_or(-1), child.output(), child.errors()};
  }
  void change_fence() {
    sql.exec("create or replace function posthouse.fence() returns xid8 language sql as 'select null::xid8'");
  }
};

TEST_F(CliSchema, UpgradeMendsWhatVerifySaysItMends) {
  change_fence();
  sql.exec("drop index posthouse.dead_ended");
  auto const found = run({"verify"});
  EXPECT_EQ(found.status, 3);
  EXPECT_THAT(found.out, HasSubstr("function fence() has a changed body"));
  EXPECT_THAT(found.out, HasSubstr("index dead_ended is missing"));
  EXPECT_THAT(found.err, HasSubstr("`posthouse upgrade` mends "));
  EXPECT_THAT(found.err, HasSubstr("  1 to be mended by hand: tables"));
  auto const json = run({"verify", "--json"});
  EXPECT_EQ(json.status, 3);
  EXPECT_THAT(json.out, HasSubstr(R"({"difference": "function fence() has a changed body", "mend": "upgrade"})"));
  EXPECT_THAT(json.out, HasSubstr(R"({"difference": "index dead_ended is missing", "mend": "hand"})"));
  EXPECT_THAT(run({"doctor"}).out, HasSubstr("what posthouse upgrade mends and what only a hand"));
  EXPECT_THAT(run({"upgrade", "--print-sql"}).out, HasSubstr("function fence()"));

  auto const upgraded = run({"upgrade"});
  EXPECT_EQ(upgraded.status, 0) << upgraded.err;
  EXPECT_THAT(upgraded.out, HasSubstr("is ready (functions)"));
  EXPECT_THAT(upgraded.err, HasSubstr("index dead_ended is missing"));
  auto const left = run({"verify"});
  EXPECT_EQ(left.status, 3);
  EXPECT_EQ(left.out, "index dead_ended is missing\n");
  EXPECT_THAT(left.err, Not(HasSubstr("posthouse upgrade")));
  auto const again = run({"upgrade"});
  EXPECT_THAT(again.out, HasSubstr("nothing changed"));
  EXPECT_THAT(again.out, Not(HasSubstr("up to date")));
  EXPECT_EQ(run({"upgrade", "--print-sql"}).out, "-- nothing to do\n");
}

TEST_F(CliSchema, InstallMendsToo) {
  change_fence();
  EXPECT_THAT(run({"doctor"}).out, HasSubstr("mend: posthouse upgrade mends it."));
  EXPECT_THAT(run({"install"}).out, HasSubstr("is ready (functions)"));
  EXPECT_EQ(run({"verify"}).status, 0);
  EXPECT_THAT(run({"install"}).out, HasSubstr("is up to date; nothing changed"));
}

TEST_F(CliSchema, PrintedVerificationFindsTheSame) {
  auto const text = run({"verify", "--print-sql"});
  ASSERT_EQ(text.status, 0) << text.err;
  auto const clean = psql(text.out);
  EXPECT_EQ(clean.status, 0) << clean.err;
  EXPECT_EQ(chomp(clean.out), "");
  change_fence();
  sql.exec("drop index posthouse.dead_ended; grant select on posthouse.job to public");
  sql.exec("create table posthouse.extra (a int); update posthouse.migration set checksum = 'x' where version = 1");
  auto const found = psql(text.out);
  EXPECT_EQ(found.status, 0) << found.err;
  EXPECT_THAT(found.out, HasSubstr("function fence()|body|"));
  EXPECT_THAT(found.out, HasSubstr("index dead_ended|definition|CREATE INDEX dead_ended"));
  EXPECT_THAT(found.out, HasSubstr("table job|rights of PUBLIC||SELECT"));
  EXPECT_THAT(found.out, HasSubstr("table extra|definition||"));
  EXPECT_THAT(found.out, HasSubstr("migration 0001_engine.sql|checksum|"));
  EXPECT_EQ(sql.number("select count(*) from pg_namespace where nspname like '%verify%'"), 0) << "nothing stays";
  auto const missing = psql(run({"verify", "--print-sql", "--schema", "we\"ird"}).out);
  EXPECT_NE(missing.status, 0);
  EXPECT_THAT(missing.err, HasSubstr("we\"ird.migration\" does not exist"));
}

TEST_F(CliSchema, ARestoredDumpRunsAfterAdoptAndNotBefore) {
  auto const config = folder.write("work.yaml", "kinds: {k: {exec: [/bin/cat]}}\n");
  std::vector<std::string> const work{"work", "--once", "--config", config};
  ASSERT_EQ(run({"enqueue", "k", "0"}).status, 0);
  ASSERT_EQ(run(work).status, 0) << "the schema knows its database from now on";
  ASSERT_EQ(run({"enqueue", "k", "--lines"}, "1\n2\n3\n").status, 0);
  ASSERT_EQ(run({"enqueue", "k", "4", "--delay", "1h"}).status, 0);

  TestDatabase other(TestDatabase::empty);
  auto const file = (folder.path() / "dump.sql").string();
  ChildProcess dump({program("pg_dump"), "--no-owner", "-f", file, "-d", database.url()});
  ASSERT_EQ(dump.wait(), 0) << dump.errors();
  ChildProcess load({program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", file, "-d", other.url()});
  ASSERT_EQ(load.wait(), 0) << load.errors();
  environment["POSTHOUSE_DATABASE_URL"] = other.url();
  Sql there(other.url());
  auto const in_state = [&](char const* state) {
    return there.number("select count(*) from posthouse.jobs where state = $1", std::string(state));
  };

  auto const before = run(work);
  EXPECT_NE(before.status, 0);
  EXPECT_THAT(before.err, HasSubstr("posthouse adopt"));
  EXPECT_EQ(in_state("succeeded"), 1);
  auto const adopted = run({"adopt"});
  EXPECT_EQ(adopted.status, 0) << adopted.err;
  auto const after = run(work);
  EXPECT_EQ(after.status, 0) << after.err;
  EXPECT_EQ(in_state("succeeded"), 4);
  EXPECT_EQ(in_state("scheduled"), 1);
  EXPECT_EQ(there.number("select count(*) from posthouse.jobs"), 5);
  EXPECT_EQ(sql.number("select count(*) from posthouse.jobs where state = 'available'"), 3) << "the first is as it was";
}

}  // namespace
}  // namespace posthouse::test
