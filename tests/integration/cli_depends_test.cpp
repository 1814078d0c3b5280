// SPDX-License-Identifier: Apache-2.0
// enqueue --depends-on, what jobs list and jobs show say of a blocked job, and the client.
#include <boost/json.hpp>
#include <posthouse/client.hpp>
#include <posthouse/testing.hpp>

#include "integration/cli_fixture.hpp"
#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CliDepends : public CliDatabaseTest {
 protected:
  CliDepends() { prepare_session(sql); }
};

TEST_F(CliDepends, EnqueueListShowRetry) {
  auto const first = std::stoll(run({"enqueue", "k"}).out);
  auto const second = std::stoll(run({"enqueue", "k"}).out);
  auto const added =
      run({"enqueue", "k", "--depends-on", std::to_string(first), "--depends-on", std::to_string(second)});
  ASSERT_EQ(added.status, 0) << added.err;
  auto const id = std::stoll(added.out);
  auto const list = boost::json::parse(run({"jobs", "list", "--state", "blocked", "--json"}).out).as_array();
  ASSERT_EQ(list.size(), 1U);
  EXPECT_EQ(std::string(list[0].at("id").as_string()), std::to_string(id));
  EXPECT_EQ(std::string(list[0].at("waits_for").as_array().at(1).as_string()), std::to_string(second));
  Hand hand(sql);
  auto const claimed = hand.claim(1);
  EXPECT_THAT(run({"jobs", "show", std::to_string(id)}).out,
              AllOf(HasSubstr("It waits for 2 jobs that have not ended."),
                    HasSubstr("Job " + std::to_string(first) + " (k) is running."),
                    HasSubstr("Job " + std::to_string(second) + " (k) is available."),
                    HasSubstr("jobs retry " + std::to_string(id))));
  hand.finish(claimed.at(0).token);
  auto const shown = boost::json::parse(run({"jobs", "show", std::to_string(id), "--json"}).out).as_array().at(0);
  EXPECT_EQ(shown.at("depends_on").as_array().size(), 2U);
  EXPECT_EQ(shown.at("waits_for").as_array().size(), 1U);
  EXPECT_EQ(run({"jobs", "retry", std::to_string(id)}).status, 0);
  EXPECT_THAT(run({"jobs", "show", std::to_string(id)}).out, HasSubstr("available"));

  EXPECT_EQ(run({"enqueue", "k", "--any-end"}).status, 2);
  EXPECT_EQ(run({"enqueue", "k", "--depends-on", "x"}).status, 2);
  auto const unknown = run({"enqueue", "k", "--depends-on", "123456789"});
  EXPECT_NE(unknown.status, 0);
  EXPECT_THAT(unknown.err, HasSubstr("is not known"));
  auto const strict = run({"enqueue", "k", "--depends-on", std::to_string(second)});
  auto const lenient = run({"enqueue", "k", "--depends-on", std::to_string(second), "--any-end"});
  EXPECT_EQ(run({"jobs", "cancel", std::to_string(second)}).status, 0);
  EXPECT_EQ(sql.one("select state from jobs where id = $1", std::stoll(lenient.out)), "available");
  EXPECT_THAT(run({"jobs", "show", std::to_string(std::stoll(strict.out))}).out,
              HasSubstr("It was cancelled: job " + std::to_string(second) + ", on which it depends, was cancelled"));
}

TEST_F(CliDepends, TheClient) {
  Client client({.database = database.options()});
  auto const parent = client.enqueue("k").id;
  auto const child = client.enqueue("k", json{"1"}, {.depends_on = {parent}}).id;
  auto const info = client.find(child);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->state, "blocked");
  EXPECT_THAT(info->depends_on, ElementsAre(parent));
  EXPECT_THAT(info->waits_for, ElementsAre(parent));
  EXPECT_THAT(client.find(parent)->depends_on, IsEmpty());
  std::vector<Request> requests(4, Request{.kind = "k"});
  requests[1].options.depends_on_elements = {0};
  requests[2].options.depends_on = {parent};
  requests[2].options.depends_on_elements = {0, 1};
  requests[3].options.depends_on = {child};
  requests[3].options.depends_on_all_ok = false;
  auto const made = client.enqueue_many(requests);
  EXPECT_THAT(client.find(made[2].id)->waits_for, ElementsAre(parent, made[0].id, made[1].id));
  client.cancel(parent);
  EXPECT_EQ(client.find(child)->state, "cancelled");
  EXPECT_EQ(client.find(made[2].id)->state, "cancelled");
  EXPECT_EQ(client.find(made[3].id)->state, "available");

  // More than one statement takes: the earlier element has its id by then. And a million would go by COPY.
  std::vector<Request> many(6000, Request{.kind = "k"});
  many[5999].options.depends_on_elements = {1, 5998};
  auto const outcomes = client.enqueue_many(many);
  EXPECT_THAT(client.find(outcomes[5999].id)->waits_for, ElementsAre(outcomes[1].id, outcomes[5998].id));

  EXPECT_THROW(client.enqueue("k", {}, {.depends_on_elements = {0}}), InvalidArgument);
  std::vector<Payload> const payloads(2);
  EXPECT_THROW(client.enqueue_many("k", payloads, {.depends_on_elements = {0}}), InvalidArgument);
  EXPECT_THROW(client.enqueue("k", {}, {.depends_on = std::vector<std::int64_t>(1001, parent)}), InvalidArgument);
  EXPECT_THROW(client.enqueue("k", {}, {.depends_on = {123456789}}), Error);
  requests[0].options.depends_on_elements = {0};
  EXPECT_THROW(client.enqueue_many(requests), Error);
  std::vector<Payload> const several(3, json{"2"});
  auto const ids = client.enqueue_many("k", several, {.depends_on = {made[0].id}});
  EXPECT_EQ(client.find(ids[2])->state, "blocked");
}

}  // namespace
}  // namespace posthouse::test
