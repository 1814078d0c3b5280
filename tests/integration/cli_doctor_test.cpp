// SPDX-License-Identifier: Apache-2.0
// posthouse doctor: each finding appears when its cause is there, with what mends it, and goes with the cause.
#include <gmock/gmock.h>

#include <boost/json.hpp>

#include "integration/cli_fixture.hpp"

namespace posthouse::test {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class CliDoctor : public CliDatabaseTest {
 protected:
  /// "level subject: finding" of each; settings of the test's own server are left out.
  std::vector<std::string> findings(int status) {
    auto const ran = run({"doctor", "--json"});
    EXPECT_EQ(ran.status, status) << ran.out << ran.err;
    std::vector<std::string> list;
    auto const document = boost::json::parse(ran.out);
    for (auto const& value : document.as_array()) {
      auto const member = [&](char const* name) { return std::string(value.at(name).as_string()); };
      EXPECT_THAT(member("mend"), Not(IsEmpty()));
      if (member("subject").starts_with("setting ")) continue;
      list.push_back(member("level") + " " + member("subject") + ": " + member("finding"));
    }
    return list;
  }
  std::string first_of(std::vector<std::string> const& all, std::string const& subject) {
    for (auto const& one : all) {
      if (one.find(" " + subject + ":") != std::string::npos) return one;
    }
    return "";
  }
};

// The servers of the tests run without fsync.
constexpr int bad = 1;

TEST_F(CliDoctor, AHealthySchemaHasNoFindingsOfItsOwn) { EXPECT_THAT(findings(bad), IsEmpty()); }

TEST_F(CliDoctor, SettingsThatLoseJobsAreErrors) {
  auto const text = run({"doctor"});
  EXPECT_EQ(text.status, 1);
  EXPECT_THAT(text.out, HasSubstr("error    setting fsync: is off"));
  EXPECT_THAT(text.out, HasSubstr("mend: alter system set fsync = on"));
}

TEST_F(CliDoctor, JobsThatNobodyTakesAreNamed) {
  run({"enqueue", "lonely"});
  EXPECT_EQ(first_of(findings(bad), "workers"), "error workers: no worker is alive, and 1 jobs wait");
  auto worker = start(
      {"work", "--config", folder.write("k.yaml", "kinds: {other: {exec: [/bin/true]}}\n"), "--log-level", "info"});
  ASSERT_TRUE(worker.said("worker started")) << worker.errors();
  auto const found = findings(bad);
  EXPECT_EQ(first_of(found, "workers"), "");
  EXPECT_THAT(first_of(found, "kind lonely"), HasSubstr("warning kind lonely: 1 jobs wait in queue default since "));
  run({"kinds", "pause", "lonely"});
  EXPECT_THAT(findings(bad), ::testing::Contains("notice kind lonely: is paused, and 1 jobs wait"));
}

TEST_F(CliDoctor, OldTransactionsAreNamedWithTheirProcess) {
  auto const gid = "gone_" + database.name();
  sql.exec("begin; create table left_open (); prepare transaction '" + gid + "'");
  EXPECT_THAT(findings(bad), IsEmpty()) << "ten minutes are no long time";
  sql.exec("rollback prepared '" + gid + "'");
}

TEST_F(CliDoctor, AChangedSchemaIsAnError) {
  sql.exec("drop index posthouse.job_lane");
  EXPECT_THAT(first_of(findings(bad), "schema"), HasSubstr("error schema: differs from what this version expects in "));
}

TEST_F(CliDoctor, ACloneIsNamed) {
  sql.exec(
      "insert into posthouse.meta values ('identity', 'elsewhere') on conflict (key) do update set value = "
      "excluded.value");
  EXPECT_EQ(first_of(findings(bad), "identity"),
            "error identity: the schema belongs to another cluster or database: nothing is claimed");
}

TEST_F(CliDoctor, TheBudgetIsComputedAndComparedWithWhatIsFree) {
  auto const plain = run({"doctor"});
  EXPECT_THAT(plain.out, HasSubstr("a worker of this configuration takes up to 6 (worker_pool_size 3 + "
                                   "worker_max_overflow 2 + 1 to LISTEN), and "));
  EXPECT_THAT(plain.out, HasSubstr(" are free (max_connections "));
  EXPECT_THAT(plain.out, HasSubstr("a producer's pool takes up to 15 (pool_size 5 + max_overflow 10)"));
  auto const file = folder.write("children.yaml", "processes: 8\npool_size: 2\nmax_overflow: 1\n");
  auto const children = run({"doctor", "--config", file});
  EXPECT_THAT(children.out, HasSubstr("takes up to 22 (worker_pool_size 3 + worker_max_overflow 2 + 1 to LISTEN + 8 "
                                      "processes * worker_child_pool_max_size 2)"));
  EXPECT_THAT(children.out, HasSubstr("takes up to 3 (pool_size 2 + max_overflow 1)"));
}

TEST_F(CliDoctor, TheLimitOfTheDatabaseCounts) {
  sql.exec("alter database " + database.name() + " connection limit 3");
  auto const found = first_of(findings(bad), "connections");
  EXPECT_THAT(found, HasSubstr("warning connections: a worker of this configuration takes up to 6 ("));
  EXPECT_THAT(found, HasSubstr(" of 3 are free (connection limit of the database, "));
}

TEST_F(CliDoctor, NotEnoughConnectionsForTheConfiguration) {
  auto const file = folder.write("many.yaml", "processes: 1000\nkinds: {k: {exec: [/bin/true]}}\n");
  auto const ran = run({"doctor", "--config", file});
  EXPECT_THAT(ran.out, HasSubstr("warning  connections: a worker of this configuration takes up to 2,006 "
                                 "(worker_pool_size 3 + worker_max_overflow 2 + 1 to LISTEN + 1000 processes"));
}

}  // namespace
}  // namespace posthouse::test
