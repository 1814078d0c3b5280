// SPDX-License-Identifier: Apache-2.0
// Producers that do all that transactions can do (savepoints, two-phase commits, early ids, long ones, claims of their
// own inside, COPY) beside claimers that finish, retry, release and give back. What must be true is known from the
// clients' own ledger, never from the engine's tables: each committed job succeeds once, no other is ever seen, and each
// claim of it says how many attempts were used before.
//
// POSTHOUSE_TEST_SEEDS: how many seeds (3; 20 with POSTHOUSE_TEST_LONG), some 5 s each; POSTHOUSE_TEST_SEED: the first
// one, to run it again.
#include <gmock/gmock.h>

#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "support/engine.hpp"
#include "support/seed.hpp"

namespace posthouse::test {
namespace {

using namespace std::chrono_literals;
using ::testing::IsEmpty;

constexpr int lanes = 3;

/// What the clients know. Thread-safe.
class Ledger {
 public:
  void committed(Ids const& jobs) {
    std::lock_guard const lock(mutex_);
    committed_.insert(jobs.begin(), jobs.end());
  }
  /// A claim whose transaction has committed.
  void claimed(std::vector<Claimed> const& jobs) {
    std::lock_guard const lock(mutex_);
    for (auto const& job : jobs) {
      auto& life = lives_[job.id];
      if (life.held) complain(job.id, "claimed while another holds it");
      if (life.succeeded) complain(job.id, "claimed after its success");
      if (life.retries != job.attempt) {
        complain(job.id, "claimed with attempt " + std::to_string(job.attempt) + " after " +
                             std::to_string(life.retries) + " retries");
      }
      life.held = true;
    }
  }
  /// To be called before the statement that lets others have it, since they may be faster than we.
  void let_go(std::int64_t job, bool counts, bool success) {
    std::lock_guard const lock(mutex_);
    auto& life = lives_[job];
    life.held = false;
    if (counts) ++life.retries;
    if (success) {
      if (life.succeeded) complain(job, "succeeded twice");
      life.succeeded = true;
      ++successes_;
    }
  }
  void error(std::string text) {
    std::lock_guard const lock(mutex_);
    complaints_.push_back(std::move(text));
  }
  bool all_done() {
    std::lock_guard const lock(mutex_);
    return successes_ >= committed_.size();
  }
  std::vector<std::string> verdict() {
    std::lock_guard const lock(mutex_);
    for (auto const id : committed_) {
      if (auto const found = lives_.find(id); found == lives_.end()) {
        complain(id, "missing: committed and never claimed");
      } else if (!found->second.succeeded) {
        complain(id, "claimed and never finished");
      }
    }
    for (auto const& [id, life] : lives_) {
      if (committed_.count(id) == 0) complain(id, "phantom: claimed and never committed");
    }
    if (complaints_.size() > 20) complaints_.resize(20);
    return complaints_;
  }
  void clear() {
    std::lock_guard const lock(mutex_);
    committed_.clear();
    lives_.clear();
    complaints_.clear();
    successes_ = 0;
  }
  std::size_t size() {
    std::lock_guard const lock(mutex_);
    return committed_.size();
  }
  std::size_t retries() {
    std::lock_guard const lock(mutex_);
    std::size_t all = 0;
    for (auto const& [id, life] : lives_) all += static_cast<std::size_t>(life.retries);
    return all;
  }

 private:
  struct Life {
    bool held = false;
    bool succeeded = false;
    int retries = 0;
  };
  void complain(std::int64_t job, std::string const& what) {
    complaints_.push_back("job " + std::to_string(job) + ": " + what);
  }

  std::mutex mutex_;
  std::set<std::int64_t> committed_;
  std::map<std::int64_t, Life> lives_;
  std::vector<std::string> complaints_;
  std::size_t successes_ = 0;
};

class Dice {
 public:
  explicit Dice(Seed::Generator generator) : generator_(generator) {}
  int from(int low, int high) { return std::uniform_int_distribution<int>(low, high)(generator_); }
  bool chance(double probability) { return std::bernoulli_distribution(probability)(generator_); }
  void pause(int at_most_us) { std::this_thread::sleep_for(std::chrono::microseconds(from(0, at_most_us))); }

 private:
  Seed::Generator generator_;
};

class Torture : public EngineTest {
 protected:
  static std::string kind(int lane) { return "t" + std::to_string(lane); }
  std::string some_lane(Dice& dice) { return array({lanes_[static_cast<std::size_t>(dice.from(0, lanes - 1))]}); }
  [[nodiscard]] bool producing() const { return std::chrono::steady_clock::now() < produce_until_; }

  void produce(int number, Dice dice);
  void copy(Dice dice);
  void claim(Dice dice);
  void one_by_one(Hand& worker, Dice& dice);
  void fused(Sql& session, Hand& worker, Dice& dice);
  void tend();
  void sleep_and_listen(Dice dice);
  /// Ends jobs of one committed claim in one of the ways.
  void end(Hand& worker, std::vector<Claimed> const& jobs, Dice& dice);

  template <class Work>
  void start(Work work) {
    threads_.emplace_back([this, work] {
      try {
        work();
      } catch (std::exception const& error) {
        ledger_.error(error.what());
      }
    });
  }

  Ledger ledger_;
  Ids lanes_;
  std::chrono::steady_clock::time_point produce_until_;
  std::atomic<bool> stop_{false};
  std::atomic<int> notified_{0};
  std::vector<std::thread> threads_;
};

void put(Sql& session, Ids& jobs, Dice& dice, int n) {
  for (int i = 0; i < n; ++i)
    jobs.push_back(session.number("select enqueue($1)", "t" + std::to_string(dice.from(0, lanes - 1))));
}

void Torture::produce(int number, Dice dice) {
  auto session = open();
  Hand own(session, {.kinds = "{t0,t1,t2}"});
  for (int round = 0; producing(); ++round) {
    Ids jobs;
    std::vector<Claimed> claimed;
    session.exec("begin");
    bool const two_phase = dice.chance(0.2);
    if (two_phase) session.exec("set local posthouse.wake = off");  // what has notified cannot be prepared
    if (dice.chance(0.3)) {
      session.one("select pg_current_xact_id()");
      dice.pause(30'000);
    }
    for (int i = dice.from(1, 3); i > 0; --i) {
      if (dice.chance(0.4)) {
        Ids inner;
        session.exec("savepoint a");
        put(session, inner, dice, dice.from(1, 4));
        if (dice.chance(0.4)) {
          session.exec("rollback to a");
        } else {
          session.exec("savepoint b");
          put(session, inner, dice, 1);
          session.exec("release a");
          jobs.insert(jobs.end(), inner.begin(), inner.end());
        }
      } else {
        put(session, jobs, dice, dice.from(1, 4));
      }
      if (dice.chance(0.5)) dice.pause(20'000);
    }
    if (!two_phase && dice.chance(0.3)) {
      claimed = dice.chance(0.3) ? own.claim_one(lanes_[static_cast<std::size_t>(dice.from(0, lanes - 1))])
                                 : own.claim(dice.from(1, 20), -1, some_lane(dice));
      put(session, jobs, dice, 2);
    }
    if (dice.chance(0.02)) std::this_thread::sleep_for(1500ms);  // open over many windows
    if (dice.chance(0.1)) {
      session.exec("rollback");
      continue;
    }
    if (two_phase) {
      std::string const name = "'" + database.name() + "_" + std::to_string(number) + "'";
      session.exec("prepare transaction " + name);
      dice.pause(100'000);
      if (dice.chance(0.2)) {
        session.exec("rollback prepared " + name);
      } else {
        session.exec("commit prepared " + name);
        ledger_.committed(jobs);
      }
      continue;
    }
    session.exec("commit");
    ledger_.committed(jobs);
    ledger_.claimed(claimed);
    end(own, claimed, dice);
  }
}

void Torture::copy(Dice dice) {
  auto session = open();
  while (producing()) {
    auto const jobs = numbers(session.column("select unnest(reserve_ids($1))", dice.from(200, 1500)));
    auto const lane_id = session.one("select open_lane($1)", kind(dice.from(0, lanes - 1)));
    session.exec("begin");
    PQclear(PQexec(session.connection(), "copy job (id, lane, payload) from stdin"));
    for (auto const id : jobs) {
      std::string const row = std::to_string(id) + "\t" + lane_id + "\t{\"n\": 1}\n";
      PQputCopyData(session.connection(), row.data(), static_cast<int>(row.size()));
    }
    PQputCopyEnd(session.connection(), nullptr);
    while (PGresult* const result = PQgetResult(session.connection())) {
      if (PQresultStatus(result) != PGRES_COMMAND_OK)
        ledger_.error(std::string("COPY: ") + PQresultErrorMessage(result));
      PQclear(result);
    }
    dice.pause(50'000);
    if (dice.chance(0.1)) {
      session.exec("rollback");
    } else {
      session.one("select ring($1)::text", lane_id);
      session.exec("commit");
      ledger_.committed(jobs);
    }
    dice.pause(200'000);
  }
}

void Torture::end(Hand& worker, std::vector<Claimed> const& jobs, Dice& dice) {
  std::map<std::int64_t, std::vector<Claimed>> batches;
  for (auto const& job : jobs) batches[job.token].push_back(job);
  for (auto const& [token, members] : batches) {
    if (dice.chance(0.08)) {  // as if the reply to the claim had been lost
      for (auto const& job : members) ledger_.let_go(job.id, false, false);
      if (worker.give_back({token}) != static_cast<std::int64_t>(members.size()))
        ledger_.error("give_back: not all came back");
      continue;
    }
    std::string moves;
    std::string bits(members.size(), '0');
    auto const half = dice.chance(0.3) ? members.size() / 2 : members.size();
    for (std::size_t i = 0; i < members.size(); ++i) {
      auto const way = dice.from(1, 100);
      ledger_.let_go(members[i].id, way <= 6, way > 10);
      if (way <= 10) moves += (moves.empty() ? "[" : ",") + move_of(members[i], way <= 6 ? "retry" : "release", 0);
      bits[i] = '1';
      if (i + 1 != half && i + 1 != members.size()) continue;
      if (!moves.empty()) moves += "]";
      for (int sent = dice.chance(0.1) ? 2 : 1; sent > 0; --sent) {  // sometimes twice
        if (!worker.finish(token, bits, static_cast<int>(members.size()), moves).empty())
          ledger_.error("a lease was lost");
      }
      moves.clear();
    }
  }
}

// Each call ends the job before and claims the next one; some are sent twice.
void Torture::one_by_one(Hand& worker, Dice& dice) {
  auto const from = lanes_[static_cast<std::size_t>(dice.from(0, lanes - 1))];
  auto jobs = worker.claim_one(from);
  ledger_.claimed(jobs);
  for (auto left = dice.from(0, 20); left > 0 && !jobs.empty(); --left) {
    auto const done = jobs.at(0);
    ledger_.let_go(done.id, false, true);
    jobs = worker.claim_one(from, done.token);
    ledger_.claimed(jobs);
    if (!jobs.empty() && dice.chance(0.1) && !worker.finish(done.token).empty()) ledger_.error("a lease was lost");
    if (jobs.empty()) return;
  }
  end(worker, jobs, dice);
}

// Each call ends a batch, some members by a move that appends to express lanes, and claims from lanes and their twins;
// sometimes in a transaction that has had its id for a while, or with two calls in one.
void Torture::fused(Sql& session, Hand& worker, Dice& dice) {
  auto jobs = worker.claim(dice.from(1, 30));
  ledger_.claimed(jobs);
  for (auto left = dice.from(1, 8); left > 0 && !jobs.empty(); --left) {
    std::map<std::int64_t, std::vector<Claimed>> batches;
    for (auto const& job : jobs) batches[job.token].push_back(job);
    jobs.clear();
    // Seldom with several calls, which hold one lane and wait for the next.
    bool const together = dice.chance(batches.size() == 1 ? 0.4 : 0.03);
    if (together) {
      session.exec("begin; select pg_current_xact_id()");
      dice.pause(5'000);
    }
    for (auto const& [token, members] : batches) {
      std::string moves;
      for (auto const& job : members) {
        auto const way = dice.from(1, 100);
        ledger_.let_go(job.id, way <= 10, way > 35);
        if (way <= 35) moves += (moves.empty() ? "[" : ",") + move_of(job, way <= 10 ? "retry" : "release", 0);
      }
      if (!moves.empty()) moves += "]";
      std::string const bits(members.size(), '1');
      auto const& from = lanes_[static_cast<std::size_t>(dice.from(0, lanes - 1))];
      auto const twin = session.number("select express_of($1)", from);
      auto const got =
          worker.finish_and_claim(token, bits, moves, dice.from(1, 30),
                                  dice.chance(0.3) ? "" : array(dice.chance(0.5) ? Ids{twin} : Ids{twin, from}));
      jobs.insert(jobs.end(), got.begin(), got.end());
    }
    if (together) session.exec("commit");
    ledger_.claimed(jobs);
  }
  end(worker, jobs, dice);
}

// Somebody sleeps on some lane now and then, so that producers and releases do notify.
void Torture::sleep_and_listen(Dice dice) {
  auto session = open();
  session.exec("listen \"" + session.one("select channel()") + "\"");
  while (!stop_) {
    auto const on = some_lane(dice);
    session.rows("select unnest(bell($1))", on);
    dice.pause(20'000);
    session.rows("select unbell($1)", on);
    while (PGnotify* const message = PQnotifies(session.connection())) {
      ++notified_;
      PQfreemem(message);
    }
  }
}

void Torture::claim(Dice dice) {
  auto session = open();
  Hand worker(session, {.kinds = "{t0,t1,t2}"});
  while (!stop_) {
    if (dice.chance(0.3)) one_by_one(worker, dice);
    if (dice.chance(0.3)) fused(session, worker, dice);
    std::string const lane_list = dice.chance(0.5) ? some_lane(dice) : "";
    session.exec("begin");
    auto jobs = worker.claim(dice.from(1, 60), -1, lane_list);
    if (!lane_list.empty() && dice.chance(0.25)) {
      for (auto const& job : worker.claim(dice.from(1, 40), -1, lane_list)) jobs.push_back(job);
    }
    if (dice.chance(0.1)) {
      session.exec("rollback");
      continue;
    }
    session.exec("commit");
    ledger_.claimed(jobs);
    end(worker, jobs, dice);
    if (jobs.empty()) std::this_thread::sleep_for(3ms);
  }
}

void Torture::tend() {
  auto session = open();
  while (!stop_) {
    session.one("select promote()");
    session.one("select reap()");
    std::this_thread::sleep_for(5ms);
  }
}

TEST_F(Torture, EachCommittedJobSucceedsOnceAndNoOtherIsSeen) {
  char const* const wanted = std::getenv("POSTHOUSE_TEST_SEEDS");
  bool const extended = std::getenv("POSTHOUSE_TEST_LONG") != nullptr;
  int const seeds = wanted != nullptr ? std::max(1, std::atoi(wanted)) : extended ? 20 : 3;
  for (int i = 0; i < lanes; ++i) {
    enqueue(kind(i));
    lanes_.push_back(lane(kind(i)));
  }
  Hand first(sql, {.kinds = "{t0,t1,t2}"});
  for (auto const& job : first.claim(10)) first.finish(job.token);
  Seed base;
  for (int i = 0; i < seeds; ++i) {
    Seed seed(base.value() + static_cast<std::uint64_t>(i));
    ledger_.clear();
    stop_ = false;
    produce_until_ = std::chrono::steady_clock::now() + 3s;
    threads_.clear();
    for (int n = 0; n < 10; ++n) start([this, n, dice = Dice(seed.fork())] { produce(n, dice); });
    start([this, dice = Dice(seed.fork())] { copy(dice); });
    std::size_t const producers = threads_.size();
    for (int n = 0; n < 4; ++n) start([this, dice = Dice(seed.fork())] { claim(dice); });
    start([this] { tend(); });
    start([this, dice = Dice(seed.fork())] { sleep_and_listen(dice); });
    for (std::size_t n = 0; n < producers; ++n) threads_[n].join();
    EXPECT_TRUE(eventually([&] { return ledger_.all_done(); }, 30s));
    std::this_thread::sleep_for(100ms);  // for what would come a second time
    stop_ = true;
    for (std::size_t n = producers; n < threads_.size(); ++n) threads_[n].join();
    EXPECT_THAT(ledger_.verdict(), IsEmpty());
    EXPECT_GT(ledger_.size(), 100U);
    EXPECT_GT(ledger_.retries(), 0U);
    EXPECT_GT(notified_.exchange(0), 0);
    EXPECT_EQ(
        sql.column("select concat_ws(' ', queue, kind, state, jobs) from counts() order by 1"),
        sql.column(
            "select concat_ws(' ', queue, kind, state, count(*)) from jobs group by queue, kind, state order by 1"));
    EXPECT_EQ(sql.number("select count(*) from jobs where state <> 'succeeded'"), 0);
    std::printf("[   LEDGER ] seed %llu: %zu jobs committed, %zu retries, %s late batches of %s\n",
                static_cast<unsigned long long>(seed.value()), ledger_.size(), ledger_.retries(),
                sql.one("select count(*) from batch where pos_txid < pg_snapshot_xmax(lo)").c_str(),
                sql.one("select count(*) from batch").c_str());
    if (HasFailure()) break;
  }
}

}  // namespace
}  // namespace posthouse::test
