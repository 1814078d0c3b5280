// SPDX-License-Identifier: Apache-2.0
// set_kind, reset_kind, `kinds set`, `kinds show`: what an operator says of a kind and of its keys.
#include <boost/json.hpp>

#include "integration/cli_fixture.hpp"
#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

template <class Call>
std::string refusal(Call call) {
  try {
    call();
  } catch (SqlError const& error) {
    return error.what();
  }
  return "accepted";
}

class KindSettings : public CliDatabaseTest {
 protected:
  KindSettings() { prepare_session(sql); }
  boost::json::object show(std::string const& kind = "k") {
    return boost::json::parse(run({"kinds", "show", kind, "--json"}).out).at(0).as_object();
  }
  std::string set_in_sql(std::string const& changes) {
    return refusal([&] { sql.rows("select set_kind('k', $1::jsonb)", changes); });
  }
  std::vector<std::string> rules() {
    return sql.column(
        "select concat_ws(' ', scope, origin, concurrency, per_second, burst) from limit_rule where name = 'k' order "
        "by "
        "scope, origin");
  }
};

TEST_F(KindSettings, ShowSaysTheDefaults) {
  auto const one = show();
  EXPECT_EQ(one.at("key_limit"), 1);
  EXPECT_EQ(one.at("key_limit_origin"), "default");
  EXPECT_TRUE(one.at("key_requests_per_second").is_null());
  EXPECT_TRUE(one.at("key_burst").is_null());
  EXPECT_EQ(one.at("key_rate_origin"), "default");
  EXPECT_EQ(one.at("serialized_dispatch"), false);
  EXPECT_EQ(one.at("serialized_dispatch_origin"), "default");
  auto const text = run({"kinds", "show", "k"}).out;
  EXPECT_THAT(text, HasSubstr("key_limit               1         default"));
  EXPECT_THAT(text, HasSubstr("key_requests_per_second none      default"));
  EXPECT_THAT(text, HasSubstr("serialized_dispatch     false     default"));
}

TEST_F(KindSettings, WhatIsSetHidesWhatWorkersDeclareUntilReset) {
  sql.exec(
      "select declare_limits('[{\"scope\": \"key\", \"name\": \"k\", \"concurrency\": 4}, {\"scope\": \"serialized\", "
      "\"name\": \"k\", \"concurrency\": 1}]', 'host:1')");
  EXPECT_EQ(show().at("key_limit"), 4);
  EXPECT_EQ(show().at("serialized_dispatch"), true);
  EXPECT_EQ(sql.number("select key_limit('k')"), 1) << "a serialized kind runs one of each key";
  auto const set = run({"kinds", "set", "k", "--key-limit", "2", "--key-rps", "5", "--key-burst", "3",
                        "--serialized-dispatch", "false"});
  EXPECT_EQ(set.status, 0) << set.err;
  auto const me = sql.one("select session_user");
  EXPECT_THAT(set.out, HasSubstr("key_limit               2         set by " + me + "; workers declare 4 at once"));
  EXPECT_THAT(set.out, HasSubstr("key_requests_per_second 5         set by " + me + "; no worker declares one"));
  EXPECT_THAT(set.out, HasSubstr("key_burst               3 "));
  EXPECT_THAT(set.out, HasSubstr("serialized_dispatch     false     set by " + me + "; workers declare true"));
  auto one = show();
  EXPECT_EQ(one.at("key_limit"), 2);
  EXPECT_EQ(one.at("key_limit_origin"), "set");
  EXPECT_EQ(one.at("key_limit_by").as_string(), me);
  EXPECT_EQ(one.at("key_limit_declared"), "4 at once");
  EXPECT_EQ(one.at("key_requests_per_second"), 5);
  EXPECT_EQ(one.at("key_burst"), 3);
  EXPECT_EQ(one.at("serialized_dispatch"), false);
  EXPECT_EQ(one.at("serialized_dispatch_declared"), "true");
  EXPECT_EQ(one.at("limit_origin"), "default") << "the kind as a whole is not limited";
  EXPECT_EQ(sql.number("select key_limit('k')"), 2);
  EXPECT_EQ(sql.one("select concat_ws(' ', per_second, burst) from key_rate('k')"), "5 3");

  EXPECT_EQ(run({"kinds", "set", "k", "--key-limit", "none", "--key-rps", "none"}).status, 0);
  one = show();
  EXPECT_TRUE(one.at("key_limit").is_null());
  EXPECT_TRUE(one.at("key_requests_per_second").is_null());
  EXPECT_EQ(one.at("serialized_dispatch"), false) << "what is not named stays";
  EXPECT_EQ(sql.one("select key_limit('k') is null"), "t");

  EXPECT_EQ(run({"kinds", "set", "k", "--reset"}).status, 0);
  one = show();
  EXPECT_EQ(one.at("key_limit"), 4);
  EXPECT_EQ(one.at("key_limit_origin"), "declared");
  EXPECT_EQ(one.at("key_limit_by"), "host:1");
  EXPECT_EQ(one.at("serialized_dispatch"), true);
  EXPECT_EQ(one.at("serialized_dispatch_origin"), "declared");
}

TEST_F(KindSettings, WeightAndFairBy) {
  auto one = show();
  EXPECT_EQ(one.at("weight"), 1);
  EXPECT_EQ(one.at("weight_origin"), "default");
  EXPECT_TRUE(one.at("fair_by").is_null());
  EXPECT_EQ(one.at("fair_by_origin"), "default");
  sql.exec(R"(select declare_kinds('[{"kind": "k", "weight": 2, "fair_by": "key"}]', 'host:1'))");
  EXPECT_THAT(run({"kinds", "show", "k"}).out,
              ::testing::AllOf(HasSubstr("weight                  2         declared by worker host:1"),
                               HasSubstr("fair_by                 key       declared by worker host:1")));
  auto const set = run({"kinds", "set", "k", "--weight", "3", "--fair-by", "header:tenant"});
  EXPECT_EQ(set.status, 0) << set.err;
  auto const me = sql.one("select session_user");
  EXPECT_THAT(set.out, HasSubstr("weight                  3         set by " + me + "; workers declare 2"));
  EXPECT_THAT(set.out, HasSubstr("fair_by                 header:tenant set by " + me + "; workers declare key"));
  one = show();
  EXPECT_EQ(one.at("weight"), 3);
  EXPECT_EQ(one.at("weight_origin"), "set");
  EXPECT_EQ(one.at("weight_by").as_string(), me);
  EXPECT_EQ(one.at("weight_declared"), "2");
  EXPECT_EQ(one.at("fair_by"), "header:tenant");
  EXPECT_EQ(one.at("fair_by_declared"), "key");
  EXPECT_EQ(run({"kinds", "set", "k", "--weight", "none", "--fair-by", "none"}).status, 0);
  one = show();
  EXPECT_EQ(one.at("weight"), 1);
  EXPECT_EQ(one.at("weight_origin"), "set");
  EXPECT_TRUE(one.at("fair_by").is_null());
  EXPECT_EQ(run({"kinds", "set", "k", "--reset"}).status, 0);
  one = show();
  EXPECT_EQ(one.at("weight"), 2);
  EXPECT_EQ(one.at("fair_by"), "key");
  EXPECT_EQ(one.at("fair_by_origin"), "declared");
  for (auto const* bad : {"0", "101", "many"}) EXPECT_EQ(run({"kinds", "set", "k", "--weight", bad}).status, 2) << bad;
  for (auto const* bad : {"tenant", "header:", ""}) EXPECT_EQ(run({"kinds", "set", "k", "--fair-by", bad}).status, 2);
}

TEST_F(KindSettings, AResetLeavesDeclarationsThatNothingHid) {
  sql.exec(
      "select declare_limits('[{\"scope\": \"key\", \"name\": \"k\", \"concurrency\": 4}, {\"scope\": \"kind\", "
      "\"name\": \"k\", \"concurrency\": 9}]', 'host:1')");
  EXPECT_EQ(run({"kinds", "set", "k", "--concurrency-limit", "2"}).status, 0);
  EXPECT_EQ(run({"kinds", "set", "k", "--reset"}).status, 0);
  EXPECT_THAT(rules(), ElementsAre("key declared 4", "kind declared 9"));
  EXPECT_EQ(sql.one("select reset_kind('k')"), "t") << "nothing was set: what is declared goes";
  EXPECT_THAT(rules(), IsEmpty());
  EXPECT_EQ(sql.one("select reset_kind('k')"), "f");
}

TEST_F(KindSettings, AResetEndsAHold) {
  sql.exec("select hold_kind('k', '10 minutes'); select set_limit('key', 'k', 2)");
  EXPECT_TRUE(show().at("held_until").is_string());
  EXPECT_EQ(run({"kinds", "set", "k", "--reset"}).status, 0);
  EXPECT_TRUE(show().at("held_until").is_null());
  EXPECT_THAT(rules(), IsEmpty());
}

TEST_F(KindSettings, AllOfItOrNothing) {
  EXPECT_THAT(set_in_sql(R"({"concurrency_limit": 3, "key_burst": 3})"), HasSubstr("burst is 3"));
  EXPECT_THAT(rules(), IsEmpty());
  EXPECT_EQ(run({"kinds", "set", "k", "--concurrency-limit", "3", "--key-limit", "0"}).status, 2);
  EXPECT_THAT(rules(), IsEmpty());
}

TEST_F(KindSettings, ValuesAreChecked) {
  for (auto const& [changes, said] : std::vector<std::pair<std::string, std::string>>{
           {R"({"key_limit": 0})", "key_limit is 0"},
           {R"({"key_limit": 1000001})", "key_limit is 1000001"},
           {R"({"key_limit": 2.5})", "key_limit is 2.5"},
           {R"({"key_limit": "2"})", "key_limit is \"2\""},
           {R"({"concurrency_limit": 2147483648})", "concurrency_limit is 2147483648"},
           {R"({"requests_per_second": 0})", "requests_per_second is 0"},
           {R"({"key_requests_per_second": 1e7})", "key_requests_per_second is 10000000"},
           {R"({"key_burst": 0, "key_requests_per_second": 1})", "key_burst is 0"},
           {R"({"serialized_dispatch": null})", "serialized_dispatch is null"},
           {R"({"serialized_dispatch": 1})", "serialized_dispatch is 1"},
           {R"({"concurency_limit": 1})", "changes has 'concurency_limit'"},
           {"{}", "changes is '{}'"},
           {"[1]", "changes is '[1]'"},
           {"null", "changes is 'null'"}}) {
    EXPECT_THAT(set_in_sql(changes), HasSubstr(said));
  }
  EXPECT_THAT(refusal([&] { sql.exec("select set_kind('k', null)"); }), HasSubstr("changes is null"));
  EXPECT_THAT(refusal([&] { sql.exec("select set_kind('a b', '{\"key_limit\": 2}')"); }),
              HasSubstr("kind 'a b' is not a name"));
  EXPECT_THAT(refusal([&] { sql.exec("select reset_kind(null)"); }), HasSubstr("kind null is not a name"));
  for (auto const& arguments : std::vector<std::vector<std::string>>{{"--key-limit", "many"},
                                                                     {"--key-limit", "0"},
                                                                     {"--key-rps", "fast"},
                                                                     {"--key-burst", "3"},
                                                                     {"--serialized-dispatch", "yes"},
                                                                     {"--serialized-dispatch", "true", "--reset"}}) {
    auto command = std::vector<std::string>{"kinds", "set", "k"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    EXPECT_EQ(run(command).status, 2) << arguments.at(0) << " " << arguments.at(1);
  }
  EXPECT_EQ(run({"queues", "set", "q", "--key-limit", "2"}).status, 2) << "keys are of kinds";
  EXPECT_THAT(rules(), IsEmpty());
}

// Neither of two that change different values of one rule undoes the other.
TEST_F(KindSettings, TwoAtOnceKeepBothChanges) {
  auto first = engine_session(database.url());
  auto second = engine_session(database.url());
  first.exec("begin; select set_kind('k', '{\"concurrency_limit\": 3}')");
  auto const pid = second.backend_pid();
  auto later =
      std::async(std::launch::async, [&] { second.exec("select set_kind('k', '{\"requests_per_second\": 7}')"); });
  ASSERT_TRUE(waits_for_lock(sql, pid));
  first.exec("commit");
  later.get();
  EXPECT_THAT(rules(), ElementsAre("kind set 3 7"));
}

}  // namespace
}  // namespace posthouse::test
