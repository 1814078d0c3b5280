// SPDX-License-Identifier: Apache-2.0
// limits list, set, reset; limits of the configuration; a worker that is killed while it holds all that a limit allows.
#include <boost/json.hpp>

#include "integration/cli_fixture.hpp"
#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::HasSubstr;

class CliLimits : public CliDatabaseTest {
 protected:
  CliLimits() { prepare_session(sql); }
  boost::json::array list() { return boost::json::parse(run({"limits", "list", "--json"}).out).as_array(); }
};

TEST_F(CliLimits, SetListReset) {
  EXPECT_THAT(run({"limits", "list"}).out, HasSubstr("There are no limits"));
  EXPECT_EQ(run({"limits", "set", "kind", "k", "--concurrency", "2", "--rate", "0.5"}).status, 0);
  EXPECT_EQ(run({"limits", "set", "all", "--concurrency", "9"}).status, 0);
  auto const limits = list();
  ASSERT_EQ(limits.size(), 2U);
  EXPECT_EQ(limits[0].at("scope"), "all");
  EXPECT_EQ(limits[1].at("name"), "k");
  EXPECT_EQ(limits[1].at("origin"), "set");
  EXPECT_EQ(limits[1].at("concurrency"), 2);
  EXPECT_EQ(limits[1].at("per_second"), 0.5);
  EXPECT_EQ(limits[1].at("burst"), 1);
  EXPECT_EQ(limits[1].at("running"), 0);
  EXPECT_TRUE(limits[1].at("declared").is_null());
  EXPECT_THAT(run({"limits", "list"}).out, HasSubstr("kind"));
  EXPECT_EQ(run({"limits", "reset", "all"}).status, 0);
  EXPECT_EQ(run({"limits", "reset", "all"}).status, 1);
  EXPECT_EQ(list().size(), 1U);
}

TEST_F(CliLimits, BadArguments) {
  EXPECT_EQ(run({"limits", "set", "job", "k", "--concurrency", "2"}).status, 2);
  EXPECT_EQ(run({"limits", "set", "kind", "--concurrency", "2"}).status, 2);
  EXPECT_EQ(run({"limits", "set", "all", "k", "--concurrency", "2"}).status, 2);
  EXPECT_NE(run({"limits", "set", "kind", "k", "--concurrency", "0"}).status, 0);
  EXPECT_NE(run({"limits", "set", "kind", "k", "--burst", "2"}).status, 0);
  EXPECT_EQ(list().size(), 0U);
}

TEST_F(CliLimits, TheConfigurationDeclares) {
  auto const file =
      folder.write("limits.yaml",
                   "cluster_wide_cap: 7\nqueues:\n  slow: {max_concurrency: 3, requests_per_second: 1.5}\n"
                   "kinds:\n  k:\n    exec: [/bin/true]\n    concurrency_limit: 2\n    "
                   "requests_per_second: 10\n    burst: 20\n");
  EXPECT_EQ(run({"work", "--once", "--config", file}).status, 0);
  EXPECT_EQ(sql.column("select concat_ws(' ', scope, name, concurrency, per_second, burst, origin) from limits"),
            (std::vector<std::string>{"all  7 declared", "kind k 2 10 20 declared", "queue slow 3 1.5 2 declared"}));
  auto const bad = folder.write("bad.yaml", "queues:\n  slow: {burst: 3}\n");
  EXPECT_THAT(run({"config", "check", "--config", bad}).err, HasSubstr("requests_per_second"));
}

// Nobody takes its place before its lease has lapsed and its job was given back.
TEST_F(CliLimits, AKilledWorkerHoldsItsPlaceUntilItIsRescued) {
  auto const file =
      folder.write("limits.yaml",
                   "claim_lease_ms: 1000\nheartbeat_interval_ms: 100\nkinds:\n  k:\n    exec: [/bin/sleep, "
                   "'600']\n    concurrency_limit: 1\n");
  sql.exec("select enqueue('k') from generate_series(1, 3)");
  auto worker = start({"work", "--config", file});
  ASSERT_TRUE(eventually([&] { return sql.number("select limit_running('kind', 'k')") == 1; }));
  worker.kill();
  worker.wait();
  Hand other(sql);
  EXPECT_TRUE(other.claim(3).empty());
  EXPECT_TRUE(eventually([&] {
    other.beat();
    return sql.number("select reap()") > 0;
  }));
  EXPECT_EQ(other.claim(3).size(), 1U);
}

}  // namespace
}  // namespace posthouse::test
