// SPDX-License-Identifier: Apache-2.0
// One fault at a time: crashes of the server, and replies that never arrive.
#include <fstream>
#include <regex>
#include <sstream>

#include "concurrency/chaos_features.hpp"
#include "concurrency/chaos_world.hpp"

namespace posthouse::test::chaos {
namespace {

std::string text(std::int64_t number) { return std::to_string(number); }

class ChaosServer : public ::testing::Test {
 protected:
  /// Workers call prepared statements by name, and the name is all that a packet shows; the server's log knows them.
  std::string statement(std::string const& function) {
    std::ifstream file(durable_server().databases().control()->log());
    std::stringstream all;
    all << file.rdbuf();
    std::string const log = all.str();
    std::regex const line("execute (\\S+): [^\\n]*\"posthouse\"\\." + function + "\\(");
    std::string name;
    for (std::sregex_iterator it(log.begin(), log.end(), line), end; it != end; ++it) name = (*it)[1];
    return name;
  }
  void log_statements() {
    world.sql().exec(
        "do $$ begin execute format('alter database %I set log_statement = ''all''', current_database()); end $$");
  }
  void everybody_leaves(ChildProcess& worker) {
    EXPECT_EQ(leave(worker), 0) << worker.errors();
    world.expect_nothing_left();
    world.expect_consistent();
  }
  void once_each(std::vector<std::int64_t> const& all) {
    for (auto const u : all) {
      EXPECT_EQ(world.events("start", {{"u", text(u)}, {"attempt", "1"}}).size(), 1u) << u;
      EXPECT_EQ(world.events("start", {{"u", text(u)}}).size(), 1u) << u;
    }
    EXPECT_EQ(world.sql().number("select count(*) from posthouse.attempt_error"), 0);
  }

  World world{durable_server()};
};

TEST_F(ChaosServer, NothingIsLostByCrashesOfTheServerWhileWorkersDrain) {
  auto const client = world.client(7, 1'000'000, 2, 20);
  world.start_ticking();
  std::vector<std::unique_ptr<ChildProcess>> workers;
  for (int i = 0; i < 3; ++i) {
    workers.push_back(world.worker(
        {.name = "w" + text(i), .kinds = feature_kinds, .concurrency = 3, .prefetch = 20 * i, .lease = 10s}));
  }
  for (bool const immediate : {true, false}) {
    auto const begun = world.events("start").size();
    ASSERT_TRUE(eventually([&] { return world.events("start").size() > begun + 60; }, patient(20s)));
    auto const from = std::to_string(History::now());
    if (immediate) {
      durable_server().restart_immediate();
    } else {
      durable_server().crash();
      durable_server().start();
    }
    world.history().note("fault", {{"kind", immediate ? "immediate" : "crash"}, {"from", from}});
    world.reconnect();
  }
  auto const begun = world.events("start").size();
  EXPECT_TRUE(eventually([&] { return world.events("start").size() > begun + 30; }, patient(20s)))
      << "the workers did not come back by themselves";
  EXPECT_EQ(leave(*client), 0);
  EXPECT_TRUE(eventually([&] { return world.ticked_enough() && world.unfinished() == 0; }, patient(30s)));
  for (auto const& worker : workers) {
    EXPECT_EQ(leave(*worker), 0) << "the same processes that began: " << worker->errors();
  }
  world.expect_nothing_left();
  auto const verdict = world.expect_consistent();
  for (auto const* what : {"results", "ticks"})
    EXPECT_TRUE(verdict.counts.contains(what) && verdict.counts.at(what) > 0) << what;
  std::printf("[    CHAOS ] %s\n", verdict.summary().c_str());
}

TEST_F(ChaosServer, ClaimWhoseReplyIsLostIsGivenBackUnstarted) {
  log_statements();
  TcpGate gate(world.url());
  auto const worker = world.worker({.name = "w", .concurrency = 2, .prefetch = 20, .lease = 10s, .url = gate.url()});
  auto const first = world.enqueue("plain");
  ASSERT_TRUE(world.happens("end", {{"u", text(first)}}));
  ASSERT_TRUE(eventually([&] { return world.unfinished() == 0; }));
  std::string name;
  ASSERT_TRUE(eventually([&] { return !(name = statement("claim")).empty(); }));
  std::vector<std::int64_t> all{first};
  // The reply that is lost may be that of a claim that found nothing: then once more.
  for (int round = 0; round < 20; ++round) {
    auto const before = world.events("start").size();
    gate.lose_reply(name);
    // In one transaction, so that one claim takes them all.
    world.sql().exec("begin");
    for (int i = 0; i < 5; ++i) all.push_back(world.enqueue("plain"));
    world.sql().exec("commit");
    ASSERT_TRUE(world.happens("end", {}, before + 5));
    ASSERT_TRUE(eventually([&] { return world.unfinished() == 0; }, patient(20s)));
    if (gate.sprung() && world.logged("claims_whose_reply_was_lost_are_given_back")) break;
  }
  EXPECT_TRUE(gate.sprung());
  EXPECT_TRUE(world.logged("claims_whose_reply_was_lost_are_given_back"));
  everybody_leaves(*worker);
  once_each(all);
}

TEST_F(ChaosServer, FinishWhoseReplyIsLostDoesNotRunTheJobTwice) {
  log_statements();
  TcpGate gate(world.url());
  auto const worker = world.worker({.name = "w", .concurrency = 1, .lease = 10s, .url = gate.url()});
  std::vector<std::int64_t> all;
  auto const run = [&](std::string const& plan) {
    all.push_back(world.enqueue("plain", plan));
    return world.happens("end", {{"u", text(all.back())}}) &&
           eventually([&] { return world.unfinished() == 0; }, patient(20s));
  };
  ASSERT_TRUE(run(""));
  int sprung = 0;
  for (std::string const function : {"finish", "finish_and_claim", "finish_and_claim_one"}) {
    ASSERT_TRUE(run(""));
    auto const name = statement(function);
    if (name.empty()) continue;  // it has no use for this one
    gate.lose_reply(name);
    for (int i = 0; i < 10 && !gate.sprung(); ++i) ASSERT_TRUE(run("\"ms\": 20"));
    sprung += gate.sprung() ? 1 : 0;
  }
  EXPECT_GE(sprung, 1);
  everybody_leaves(*worker);
  once_each(all);
}

}  // namespace
}  // namespace posthouse::test::chaos
