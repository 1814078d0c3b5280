// SPDX-License-Identifier: Apache-2.0
// Dependencies with many sessions at once: producers whose transactions stay open for a moment or roll back, workers that
// fail jobs, are killed in the middle or are lost, and a leader. No job is claimed before what it waits for has ended, each
// becomes available once, and none is forgotten.
#include <gmock/gmock.h>

#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "support/engine.hpp"
#include "support/seed.hpp"

namespace posthouse::test {
namespace {

using ::testing::IsEmpty;

constexpr int workers = 6;
constexpr int producers = 4;
constexpr int jobs_a_producer = 150;

class DependsRace : public EngineTest {
 protected:
  struct Child {
    Ids parents{};
    bool all_ok = true;
  };

  void produce(Seed::Generator generator) {
    Seed seed(generator());
    Sql session = open();
    for (int made = 0; made < jobs_a_producer;) {
      bool const block = seed.chance(0.5);
      bool const keep = !block || seed.chance(0.85);
      if (block) session.exec("begin");
      std::map<std::int64_t, Child> mine;
      Ids own;
      for (int i = static_cast<int>(seed.between(1, 4)); i > 0; --i) {
        Child child{.all_ok = seed.chance(0.7)};
        for (int n = static_cast<int>(seed.between(0, 3)); n > 0; --n) {
          if (!own.empty() && seed.chance(0.3)) {
            child.parents.push_back(own[static_cast<std::size_t>(seed.between(0, std::ssize(own) - 1))]);
          } else if (auto const other = recent(seed)) {
            child.parents.push_back(*other);
          }
        }
        bool const named = !child.parents.empty();
        auto const id =
            session.number("select enqueue('k', depends_on => nullif($1, '{}')::bigint[], depends_on_all_ok => $2)",
                           array(child.parents), child.all_ok || !named);
        own.push_back(id);
        mine.emplace(id, std::move(child));
      }
      if (block && seed.chance(0.5)) std::this_thread::sleep_for(std::chrono::milliseconds(seed.between(1, 20)));
      if (block) session.exec(keep ? "commit" : "rollback");
      if (!keep) continue;
      made += static_cast<int>(mine.size());
      std::lock_guard const lock(mutex_);
      for (auto& [id, child] : mine) {
        known_.push_back(id);
        children_.emplace(id, std::move(child));
      }
    }
  }

  std::optional<std::int64_t> recent(Seed& seed) {
    std::lock_guard const lock(mutex_);
    if (known_.empty()) return std::nullopt;
    auto const from = std::max<std::int64_t>(0, std::ssize(known_) - 12);
    return known_[static_cast<std::size_t>(seed.between(from, std::ssize(known_) - 1))];
  }

  /// One session that works until all is done. Losing the connection is part of it.
  void work(Seed::Generator generator, std::atomic<bool> const& done) {
    Seed seed(generator());
    while (!done) {
      Sql session = open();
      std::int64_t worker = 0;
      try {
        Hand hand(session);
        worker = hand.id();
        while (!done) {
          auto const claimed = hand.claim(static_cast<int>(seed.between(1, 3)));
          for (auto const& job : claimed) {
            {
              std::lock_guard const lock(mutex_);
              claimed_.push_back({job.id, ended_});
            }
            if (seed.chance(0.02)) {
              Sql other = open();
              expire(other, hand.id());
              throw std::runtime_error("lost");
            }
            finish(seed, session, hand, job, claimed);
          }
        }
      } catch (std::exception const&) {
        Sql other = open();
        if (worker != 0) expire(other, worker);
      }
    }
  }

  void finish(Seed& seed, Sql& session, Hand& hand, Claimed const& job, std::vector<Claimed> const& all) {
    // Cumulative: what comes before in its batch has ended.
    std::string acks;
    for (auto const& other : all) {
      if (other.token == job.token) acks += other.position <= job.position ? '1' : '0';
    }
    std::string move;
    auto const dice = seed.between(0, 99);
    if (dice < 6) {
      move = "[" + move_of(job, "retry") + "]";
    } else if (dice < 9) {
      move = "[" + move_of(job, "release") + "]";
    } else if (dice < 17) {
      move = "[" + move_of(job, "fail") + "]";
    }
    bool const ends = move.empty() || dice >= 9;
    if (ends) {
      // Told before the call, since others may see its effect before it returns.
      std::lock_guard const lock(mutex_);
      ended_.insert(job.id);
    }
    bool const slow = seed.chance(0.15);
    if (slow) {
      session.exec("begin");
      hand.finish(job.token, acks, 100, move);
      if (seed.chance(0.15)) {
        open().rows("select pg_terminate_backend($1)", session.backend_pid());
      } else {
        std::this_thread::sleep_for(std::chrono::milliseconds(seed.between(1, 30)));
      }
      session.exec("commit");
    } else if (move.empty() && acks.size() == 1 && seed.chance(0.3)) {
      auto const next = hand.claim_one(job.lane, job.token);
      if (!next.empty()) hand.give_back({next[0].token});
    } else {
      hand.finish(job.token, acks, 100, move);
    }
    if (seed.chance(0.1)) hand.finish(job.token, acks, 100, move);  // as after a lost reply
  }

  std::mutex mutex_;
  Ids known_{};
  std::map<std::int64_t, Child> children_{};
  std::set<std::int64_t> ended_{};
  std::vector<std::pair<std::int64_t, std::set<std::int64_t>>> claimed_{};  ///< and what had ended by then
};

TEST_F(DependsRace, NoneIsEarlyDoubledOrForgotten) {
  Seed seed;
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < workers; ++i) {
    threads.emplace_back([this, &done, generator = seed.fork()] { work(generator, done); });
  }
  std::vector<std::thread> enqueuing;
  for (int i = 0; i < producers; ++i) {
    enqueuing.emplace_back([this, generator = seed.fork()] { produce(generator); });
  }
  std::thread leader([&] {
    Sql session = open();
    while (!done) {
      session.rows("select promote(), reap(), tend_children()");
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  });
  for (auto& thread : enqueuing) thread.join();
  bool const all = eventually([&] {
    return sql.number("select count(*) from jobs where state not in ('succeeded', 'failed', 'cancelled')") == 0;
  });
  done = true;
  for (auto& thread : threads) thread.join();
  leader.join();
  EXPECT_TRUE(all) << sql.one(
      "select coalesce(string_agg(id || ' ' || state || ' ' || coalesce(waits_for::text, ''), ', '), '') "
      "from jobs where state not in ('succeeded', 'failed', 'cancelled')");
  EXPECT_EQ(sql.number("select count(*) from dependency"), 0);
  std::map<std::int64_t, std::string> states;
  for (auto const& row : sql.rows("select id, state from jobs")) states.emplace(std::stoll(*row[0]), *row[1]);
  EXPECT_EQ(states.size(), children_.size());
  std::vector<std::string> wrong;
  for (auto const& [id, child] : children_) {
    bool fails = false;
    for (auto const parent : child.parents) fails = fails || states[parent] != "succeeded";
    bool const cancelled = states[id] == "cancelled";
    if (cancelled != (fails && child.all_ok)) wrong.push_back("job " + std::to_string(id) + " is " + states[id]);
  }
  for (auto const& [id, ended] : claimed_) {
    for (auto const parent : children_[id].parents) {
      if (!ended.contains(parent) && states[parent] != "cancelled" && states[parent] != "failed") {
        wrong.push_back("job " + std::to_string(id) + " was claimed before " + std::to_string(parent) + " had ended");
      }
    }
  }
  EXPECT_THAT(wrong, IsEmpty());
  EXPECT_EQ(sql.number("select count(*) from (select id from job group by id having count(*) > 1) q"), 0);
}

}  // namespace
}  // namespace posthouse::test
