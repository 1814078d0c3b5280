// SPDX-License-Identifier: Apache-2.0
// Jobs that are claimed ahead and not started: when they go back to the others.
#include "integration/worker_fixture.hpp"

namespace posthouse::test {
namespace {

class WorkerBuffer : public WorkerTest {
 protected:
  /// One handler thread and a buffer; its jobs wait for the gate.
  WorkerOptions one_with(int prefetch) {
    auto options = quick();
    options.concurrency = 1;
    options.with_prefetch(prefetch, 30s);
    return options;
  }
  void TearDown() override {
    open_gate();  // else a failure would wait for ever
    WorkerTest::TearDown();
  }
  void open_gate() {
    if (!gate_.exchange(true)) gate_.notify_all();
  }
  void pass_gate() { gate_.wait(false); }
  void note(std::string what) {
    std::lock_guard const lock(mutex_);
    order_.push_back(std::move(what));
  }
  std::vector<std::string> order() {
    std::lock_guard const lock(mutex_);
    return order_;
  }

 private:
  std::atomic<bool> gate_{false};
  std::mutex mutex_;
  std::vector<std::string> order_;
};

TEST_F(WorkerBuffer, AnIdlePeerGetsWhatIsNotStarted) {
  Client client{{.database = options()}};
  client.enqueue_many("k", std::vector<Payload>(21, json{"1"}));
  Worker holder(one_with(20));
  holder.on("k", [this](Job const&) { pass_gate(); });
  holder.start();
  ASSERT_TRUE(eventually([&] { return holder.stats().claimed == 21; }));
  // By halves, until the one that runs is all that the holder has.
  auto free = quick();
  Worker peer(free);
  peer.on("k", [](Job const&) {});
  peer.start();
  EXPECT_TRUE(eventually([&] { return peer.stats().succeeded == 20; }));
  open_gate();
  EXPECT_TRUE(eventually([&] { return holder.stats().succeeded == 1; }));
  holder.stop();
  peer.stop();
  EXPECT_GE(holder.stats().released, 20);
  EXPECT_EQ(sql.number("select count(*) from attempt_error"), 0);
  EXPECT_EQ(sql.number("select count(*) from held()"), 0);
}

TEST_F(WorkerBuffer, APeerGetsOnlyWhatItServes) {
  Client client{{.database = options()}};
  client.enqueue_many("mine", std::vector<Payload>(5, json{"1"}));
  client.enqueue_many("ours", std::vector<Payload>(5, json{"1"}));
  Worker holder(one_with(20));
  holder.on("mine", [this](Job const&) { pass_gate(); });
  holder.on("ours", [this](Job const&) { pass_gate(); });
  holder.start();
  ASSERT_TRUE(eventually([&] { return holder.stats().claimed == 10; }));
  Worker peer(quick());
  peer.on("ours", [](Job const&) {});
  peer.start();
  // The one that runs is of either kind.
  EXPECT_TRUE(eventually([&] { return peer.stats().succeeded >= 4; }));
  open_gate();
  EXPECT_TRUE(eventually([&] { return holder.stats().succeeded + peer.stats().succeeded == 10; }));
  EXPECT_GE(holder.stats().succeeded, 5);
  // A peer that is slow to come may find that its own have been claimed again; the others never move.
  EXPECT_EQ(sql.number("select sum(b.n) from batch b join lane l using (lane) where l.kind = 'mine'"), 5);
}

TEST_F(WorkerBuffer, AHigherPriorityGoesFirstAndPushesOutTheLast) {
  Client client{{.database = options()}};
  Worker holder(one_with(5));
  holder.on("low", [this](Job const&) {
    pass_gate();
    note("low");
  });
  holder.on("high", [this](Job const&) { note("high"); });
  holder.start();
  client.enqueue_many("low", std::vector<Payload>(12, json{"1"}));
  ASSERT_TRUE(eventually([&] { return holder.stats().claimed == 6; }));
  auto const before = holder.stats();
  // The buffer is full.
  client.enqueue("high", {}, {.priority = 5});
  EXPECT_TRUE(eventually([&] {
    return sql.number(
               "select count(*) from batch b join lane l using (lane) where "
               "l.kind = 'high' and b.n > 0") == 1;
  }));
  EXPECT_TRUE(eventually([&] { return holder.stats().released > before.released; }));
  open_gate();
  EXPECT_TRUE(eventually([&] { return holder.stats().succeeded == 13; }));
  holder.stop();
  auto const ran = order();
  ASSERT_GE(ran.size(), 2U);
  EXPECT_EQ(ran[0], "low");  // it ran already
  EXPECT_EQ(ran[1], "high");
  EXPECT_LE(holder.stats().released, 2);
}

TEST_F(WorkerBuffer, AnEqualPriorityPushesNobodyOut) {
  Client client{{.database = options()}};
  Worker holder(one_with(5));
  holder.on("a", [this](Job const&) { pass_gate(); });
  holder.on("b", [](Job const&) {});
  holder.start();
  client.enqueue_many("a", std::vector<Payload>(6, json{"1"}));
  ASSERT_TRUE(eventually([&] { return holder.stats().claimed == 6; }));
  client.enqueue("b");
  open_gate();
  EXPECT_TRUE(eventually([&] { return holder.stats().succeeded == 7; }));
  EXPECT_EQ(holder.stats().released, 0);
}

TEST_F(WorkerBuffer, AnEmptyClaimSaysSoOnlyWhileSomebodyHolds) {
  Sql listener = engine_session(url());
  listener.exec("listen " + sql.one("select quote_ident(channel())"));
  Sql holder = engine_session(url());
  Hand idle(sql);
  Hand other(sql);
  auto const heard = [&] {
    listener.one("select 1");
    std::vector<std::string> messages;
    while (PGnotify* const message = PQnotifies(listener.connection())) {
      if (message->extra[0] == 'i') messages.emplace_back(message->extra);
      PQfreemem(message);
    }
    return messages;
  };
  EXPECT_TRUE(idle.claim(1).empty());
  EXPECT_TRUE(heard().empty());
  holder.rows("select buffer_bell($1, true)", other.id());
  EXPECT_TRUE(idle.claim(1).empty());
  EXPECT_EQ(heard(), std::vector<std::string>{"i" + std::to_string(idle.id())});
  // Who has jobs waiting itself is not idle.
  EXPECT_TRUE(other.claim(1).empty());
  EXPECT_TRUE(heard().empty());
  holder.rows("select buffer_bell($1, false)", other.id());
  EXPECT_TRUE(idle.claim(1).empty());
  EXPECT_TRUE(heard().empty());
}

}  // namespace
}  // namespace posthouse::test
