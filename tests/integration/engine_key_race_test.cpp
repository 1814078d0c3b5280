// SPDX-License-Identifier: Apache-2.0
// Keys with many workers at once: some are killed in the middle of a claim or a finish, some are lost with what they
// hold. Never more of a key than its limit, in order, and none forgotten.
#include <gmock/gmock.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "support/engine.hpp"
#include "support/seed.hpp"

namespace posthouse::test {
namespace {

constexpr int sessions = 16;
constexpr int keys = 8;
constexpr int jobs_a_key = 40;

class EngineKeyRace : public EngineTest {
 protected:
  /// Members of open batches whose claim went by this limit, of the key that has the most of them.
  std::int64_t most_of_a_key(Sql& observer) {
    return observer.number(
        "select coalesce(max(n), 0) from (select count(*) as n from batch b join worker w on w.id = b.worker, "
        "unnest(b.ids, b.keys) with ordinality i(id, key, ord) where b.closed_at is null and w.reaped_at is null and "
        "(b.acked is null or get_bit(b.acked, i.ord::int - 1) = 0) group by i.key) q");
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
          auto const n = static_cast<int>(seed.between(1, 6));
          if (seed.chance(0.03)) {
            // Killed before the commit.
            session.exec("begin");
            hand.claim(n);
            open().rows("select pg_terminate_backend($1)", session.backend_pid());
          }
          auto const claimed = hand.claim(n);
          if (seed.chance(0.03)) {
            Sql other = open();
            expire(other, hand.id());
            break;
          }
          for (auto const& job : claimed) finish_one(seed, session, hand, job, claimed);
        }
      } catch (std::exception const&) {
        // The connection is gone, and with it whatever was not committed; its worker is lost.
        Sql other = open();
        if (worker != 0) expire(other, worker);
      }
    }
  }

  void finish_one(Seed& seed, Sql& session, Hand& hand, Claimed const& job, std::vector<Claimed> const& all) {
    // Cumulative: what comes before in its batch has ended.
    std::string acked;
    for (auto const& other : all) {
      if (other.token == job.token) acked += other.position <= job.position ? '1' : '0';
    }
    std::string move;
    auto const dice = seed.between(0, 99);
    if (dice < 5) {
      move = "[" + move_of(job, "retry") + "]";
    } else if (dice < 10) {
      move = "[" + move_of(job, "release") + "]";
    } else if (dice < 13) {
      move = "[" + move_of(job, "fail") + "]";
    }
    if (seed.chance(0.01)) {
      session.exec("begin");
      hand.finish(job.token, acked, 100, move);
      open().rows("select pg_terminate_backend($1)", session.backend_pid());
    }
    hand.finish(job.token, acked, 100, move);
  }

  void run(int limit) {
    Seed seed;
    if (limit != 1) sql.rows("select set_limit('key', 'k', $1)", limit);
    std::atomic<bool> done = false;
    struct End {
      std::atomic<bool>& done;
      ~End() { done = true; }
    };
    std::vector<std::jthread> threads;
    for (int i = 0; i < sessions; ++i) {
      threads.emplace_back([this, &done, generator = seed.fork()] { work(generator, done); });
    }
    threads.emplace_back([&] {
      Sql session = open();
      for (int i = 0; i < jobs_a_key; ++i) {
        for (int key = 0; key < keys; ++key)
          session.rows("select enqueue('k', key => $1, max_attempts => 50)", std::to_string(key));
      }
    });
    std::jthread leader([&] {
      Sql session = open();
      while (!done) {
        session.rows("select promote()");
        session.rows("select reap()");
        session.rows("select tend_keys()");
      }
    });
    End const end{done};  // also when something below throws: the threads above are joined
    Sql observer = open();
    std::int64_t most = 0;
    bool const drained = eventually(
        [&] {
          most = std::max(most, most_of_a_key(observer));
          return observer.number(
                     "select (select coalesce(sum(n - moved), 0) from batch where closed_at is not null) + (select "
                     "count(*) from "
                     "dead)") >= keys * jobs_a_key &&
                 observer.number("select count(*) from jobs where state not in ('succeeded', 'failed')") == 0;
        },
        std::chrono::seconds(120));
    done = true;
    threads.clear();
    leader.join();
    EXPECT_TRUE(drained);
    EXPECT_LE(most, limit);
    EXPECT_EQ(sql.number("select count(distinct id) from jobs"), keys * jobs_a_key);
    EXPECT_EQ(sql.number("select count(*) from parked"), 0);
    sql.rows("select reap(), tend_keys()");
    EXPECT_EQ(sql.number("select count(*) from (select distinct on (kind, key) holders from key_turn order by kind, "
                         "key, seq desc) q where holders <> '{}'"),
              0);
  }
};

TEST_F(EngineKeyRace, OneAtOnceAndInOrder) {
  run(1);
  // Of one key, claims are in the order of the ids, but for the same job once more.
  EXPECT_EQ(
      sql.number(
          "select count(*) from (select i.id, lag(i.id) over (partition by i.key order by b.claimed_at) as before "
          "from batch b, unnest(b.ids, b.keys) i(id, key)) q where id < before"),
      0);
}

TEST_F(EngineKeyRace, ThreeAtOnce) { run(3); }

}  // namespace
}  // namespace posthouse::test
