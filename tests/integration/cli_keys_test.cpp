// SPDX-License-Identifier: Apache-2.0
// keys list, pause, resume; enqueue --key; what jobs show says of a key; keys of the configuration and of the client.
#include <boost/json.hpp>
#include <posthouse/client.hpp>

#include "integration/cli_fixture.hpp"
#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class CliKeys : public CliDatabaseTest {
 protected:
  CliKeys() { prepare_session(sql); }
  boost::json::array list() { return boost::json::parse(run({"keys", "list", "--json"}).out).as_array(); }
};

TEST_F(CliKeys, PauseListResumeAndWhatHoldsAJob) {
  EXPECT_THAT(run({"keys", "list"}).out, HasSubstr("No key is busy"));
  EXPECT_EQ(run({"enqueue", "k", "1", "--key", "a"}).status, 0);
  EXPECT_EQ(run({"enqueue", "k", "2", "--key", "a"}).status, 0);
  EXPECT_EQ(run({"enqueue", "k", "3", "--key", ""}).status, 2);
  Hand hand(sql);
  auto const claimed = hand.claim(10);
  ASSERT_EQ(claimed.size(), 1U);
  auto const keys = list();
  ASSERT_EQ(keys.size(), 1U);
  EXPECT_EQ(keys[0].at("key"), "a");
  EXPECT_EQ(keys[0].at("limit"), 1);
  EXPECT_EQ(keys[0].at("parked"), 1);
  EXPECT_EQ(keys[0].at("holders").as_array().at(0), claimed[0].id);
  EXPECT_EQ(run({"keys", "pause", "k", "a"}).status, 0);
  EXPECT_TRUE(list()[0].at("paused").as_bool());
  EXPECT_THAT(run({"keys", "list"}).out, HasSubstr("paused"));
  EXPECT_THAT(run({"jobs", "show", std::to_string(claimed[0].id + 1)}).out,
              AllOf(HasSubstr("Its key a is paused since 2"),
                    HasSubstr("Its key a is held by job " + std::to_string(claimed[0].id) + " on worker"),
                    HasSubstr("lets 1 job run at once")));
  EXPECT_EQ(run({"keys", "resume", "k", "a"}).status, 0);
  EXPECT_FALSE(list()[0].at("paused").as_bool());
  EXPECT_EQ(run({"keys", "pause", "k", ""}).status, 2);
  EXPECT_EQ(run({"keys", "pause", "not a kind", "a"}).status, 2);
}

TEST_F(CliKeys, LimitsOfKeys) {
  EXPECT_EQ(run({"limits", "set", "key", "k", "--concurrency", "3"}).status, 0);
  EXPECT_EQ(run({"limits", "set", "serialized", "k", "--concurrency", "1"}).status, 0);
  EXPECT_EQ(sql.one("select key_limit('k')"), "1");
  EXPECT_EQ(run({"limits", "reset", "serialized", "k"}).status, 0);
  EXPECT_EQ(sql.one("select key_limit('k')"), "3");
}

TEST_F(CliKeys, TheClient) {
  Client client({.database = database.options()});
  client.enqueue("k", {}, {.key = "a"});
  client.pause_key("k", "a");
  EXPECT_EQ(sql.number("select count(*) from key_rule where paused"), 1);
  client.resume_key("k", "a");
  EXPECT_EQ(sql.number("select count(*) from key_rule"), 0);
  EXPECT_EQ(sql.one("select key from jobs"), "a");
  EXPECT_THROW(client.enqueue("k", {}, {.key = std::string(513, 'x')}), InvalidArgument);
  EXPECT_THROW(client.pause_key("k", ""), InvalidArgument);
  std::vector<Payload> const payloads(600, json{"1"});
  client.enqueue_many("k", payloads, {.key = "b"});
  EXPECT_EQ(sql.number("select count(*) from jobs where key = 'b'"), 600);
}

TEST_F(CliKeys, RatesAndHoldsOfKeys) {
  EXPECT_EQ(run({"limits", "set", "key_rate", "k", "--rate", "0.001", "--burst", "1"}).status, 0);
  EXPECT_EQ(run({"limits", "set", "key_rate", "k", "--concurrency", "1"}).status, 2);
  EXPECT_EQ(run({"limits", "set", "key", "k"}).status, 0);
  for (int i = 0; i < 2; ++i) sql.exec("select posthouse.enqueue('k', key => 'a')");
  sql.exec(
      "select posthouse.register_worker('w', 'h', 1, '0', null, '{k}', 600000, 4); select posthouse.claim(1, 16, "
      "null, 9, 9)");
  EXPECT_THAT(run({"jobs", "show", "2"}).out,
              HasSubstr("Its key a: its rate, 0.001 a second, is used up: the next job"));
  auto const rated = list();
  ASSERT_EQ(rated.size(), 1U);
  EXPECT_TRUE(rated.at(0).at("free_at").is_string());
  EXPECT_TRUE(rated.at(0).at("held_until").is_null());
  sql.exec("select posthouse.hold_key('k', 'a', '10 min')");
  EXPECT_THAT(run({"jobs", "show", "2"}).out, HasSubstr("Its key a: a handler was told to come back later"));
  EXPECT_TRUE(list().at(0).at("held_until").is_string());
  EXPECT_EQ(run({"keys", "resume", "k", "a"}).status, 0);
  EXPECT_TRUE(list().at(0).at("held_until").is_null());
}

}  // namespace
}  // namespace posthouse::test
