// SPDX-License-Identifier: Apache-2.0
// Two or more sessions that want the same job, worker or lane at the same moment, many times over. Judged by what the
// clients were told.
#include <gmock/gmock.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "support/engine.hpp"
#include "support/seed.hpp"

namespace posthouse::test {
namespace {

using namespace std::chrono_literals;
using ::testing::IsEmpty;

class Race : public EngineTest {
 protected:
  /// Runs the functions in a thread each, from one moment on; what they throw fails the test.
  void together(std::vector<std::function<void()>> const& works) {
    std::atomic<std::size_t> ready{0};
    std::mutex mutex;
    std::vector<std::string> errors;
    std::vector<std::thread> threads;
    for (auto const& work : works) {
      threads.emplace_back([&] {
        ++ready;
        while (ready < works.size()) std::this_thread::yield();
        try {
          work();
        } catch (std::exception const& error) {
          std::lock_guard const lock(mutex);
          errors.emplace_back(error.what());
        }
      });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_THAT(errors, IsEmpty());
  }
  /// What a fresh worker gets until nothing is left: how often each job came.
  std::map<std::int64_t, int> drain(std::string const& kinds = "{k}") {
    Hand worker(sql, {.kinds = kinds});
    std::map<std::int64_t, int> count;
    for (;;) {
      auto const jobs = worker.claim(500);
      if (jobs.empty()) return count;
      std::set<std::int64_t> tokens;
      for (auto const& job : jobs) {
        ++count[job.id];
        tokens.insert(job.token);
      }
      for (auto const token : tokens) worker.finish(token);
    }
  }

  Seed seed_;
};

// What was acknowledged stays done, what was refused comes back: never both, never neither.
TEST_F(Race, FinishAgainstReap) {
  for (int round = 0; round < 12; ++round) {
    auto const jobs = enqueue_some(60);
    auto session = open();
    auto reaper = open();
    Hand worker(session);
    auto const got = worker.claim(60);
    expire(sql, worker.id());
    std::set<std::int64_t> acked;
    auto const pause = std::chrono::microseconds(seed_.between(0, 15000));
    together({[&] {
                for (std::size_t i = 0; i < got.size(); ++i) {
                  std::string const bits = std::string(i + 1, '1') + std::string(got.size() - i - 1, '0');
                  if (!worker.finish(got.at(0).token, bits, 60).empty()) break;
                  acked.insert(got[i].id);
                }
              },
              [&] {
                std::this_thread::sleep_for(pause);
                while (reaper.number("select count(*) from worker where id = $1 and reaped_at is null", worker.id()) ==
                       1) {
                  reaper.one("select reap()");
                }
              }});
    auto const back = drain();
    for (auto const id : jobs) {
      auto const times = back.count(id) == 0 ? 0 : back.at(id);
      EXPECT_EQ(times, acked.count(id) == 0 ? 1 : 0) << "job " << id << " in round " << round;
    }
    if (HasFailure()) return;
  }
}

// The rescue of a large batch takes a while; completions commit in its middle.
TEST_F(Race, CompleteAgainstReap) {
  std::size_t in_between = 0;
  for (int round = 0; round < 12; ++round) {
    int const n = 1500;
    sql.rows("insert into job (lane) select lane_of('default', 'k', 0, false) from generate_series(1, $1)", n);
    enqueue();
    auto session = open();
    auto reaper = open();
    Hand worker(session);
    auto const got = worker.claim(n);
    ASSERT_EQ(got.size(), static_cast<std::size_t>(n));
    expire(sql, worker.id());
    std::set<std::int64_t> completed;
    std::atomic<bool> reaping{false};
    together({[&] {
                std::size_t refused = 0;
                for (auto job = got.rbegin(); job != got.rend() && refused < 3; ++job) {
                  if (worker.complete(session, *job)) {
                    completed.insert(job->id);
                  } else {
                    ++refused;
                  }
                  if (!reaping && completed.size() >= 20) reaping = true;
                }
                reaping = true;
              },
              [&] {
                while (!reaping) std::this_thread::yield();
                while (reaper.number("select count(*) from worker where id = $1 and reaped_at is null", worker.id()) ==
                       1) {
                  reaper.one("select reap()");
                }
              }});
    if (completed.size() > 20) ++in_between;
    auto const back = numbers(sql.column("select id from jobs where state = 'available'"));
    std::set<std::int64_t> const again(back.begin(), back.end());
    std::size_t both = 0;
    std::size_t neither = 0;
    for (auto const& job : got) {
      bool const done = completed.count(job.id) != 0;
      bool const returned = again.count(job.id) != 0;
      both += done && returned ? 1 : 0;
      neither += !done && !returned ? 1 : 0;
    }
    EXPECT_EQ(both, 0U) << "completed and run again, in round " << round;
    EXPECT_EQ(neither, 0U) << "lost, in round " << round;
    if (HasFailure()) return;
    sql.exec("truncate job; update worker set reaped_at = now() where reaped_at is null");
  }
  EXPECT_GT(in_between, 0U) << "the race did not take place";
}

TEST_F(Race, CancelAgainstClaim) {
  for (int round = 0; round < 6; ++round) {
    auto const jobs = enqueue_some(150);
    auto canceller = open();
    auto first = open();
    auto second = open();
    std::set<std::int64_t> cancelled;
    std::vector<Ids> claimed(2);
    auto const claim = [&](Sql& session, Ids& mine) {
      Hand worker(session);
      for (int i = 0; i < 60; ++i) {
        for (auto const& job : worker.claim(3)) mine.push_back(job.id);
      }
      for (;;) {
        auto const rest = worker.claim(100);
        if (rest.empty()) break;
        for (auto const& job : rest) mine.push_back(job.id);
      }
    };
    together({[&] {
                for (auto id = jobs.rbegin(); id != jobs.rend(); ++id) {
                  auto const answer = canceller.one("select cancel($1)", *id);
                  if (answer == "cancelled") cancelled.insert(*id);
                  if (answer == "not_found") throw std::runtime_error("not_found");
                }
              },
              [&] { claim(first, claimed[0]); }, [&] { claim(second, claimed[1]); }});
    std::map<std::int64_t, int> times;
    for (auto const& mine : claimed) {
      for (auto const id : mine) ++times[id];
    }
    for (auto const& [id, n] : drain()) times[id] += n;
    for (auto const id : jobs) EXPECT_EQ(times[id], cancelled.count(id) == 0 ? 1 : 0) << id;
    if (HasFailure()) return;
  }
}

TEST_F(Race, PromoteAgainstPromoteAndRetry) {
  auto const jobs = numbers(sql.column("select enqueue('k', delay => '1 hour') from generate_series(1, 400)"));
  sql.exec("update deferred set due_at = now() - interval '1 minute'");
  std::vector<Sql> sessions;
  for (int i = 0; i < 4; ++i) sessions.push_back(open());
  std::atomic<std::int64_t> moved{0};
  std::vector<std::function<void()>> works;
  for (std::size_t i = 0; i < 3; ++i) {
    works.emplace_back([&, i] {
      for (int quiet = 0; quiet < 3;) {
        auto const n = sessions[i].number("select promote('-infinity', 7)");
        moved += n;
        quiet = n == 0 ? quiet + 1 : 0;
      }
    });
  }
  works.emplace_back([&] {
    for (std::size_t i = 0; i < jobs.size(); i += 3) moved += sessions[3].truth("select retry($1)", jobs[i]) ? 1 : 0;
  });
  together(works);
  EXPECT_EQ(moved + sql.number("select promote()"), 400);
  auto const back = drain();
  EXPECT_EQ(back.size(), 400U);
  for (auto const& [id, n] : back) EXPECT_EQ(n, 1) << id;
}

// Nothing rests on there being one leader: everybody reaps and promotes at once.
TEST_F(Race, EverybodyRescuesAtOnce) {
  for (int i = 0; i < 12; ++i) {
    enqueue_some(10);
    Hand dead(sql);
    EXPECT_EQ(dead.claim(10, 6).size(), 10U);
    expire(sql, dead.id());
  }
  std::vector<Sql> sessions;
  for (int i = 0; i < 4; ++i) sessions.push_back(open());
  std::atomic<std::int64_t> rescued{0};
  std::vector<std::function<void()>> works;
  for (auto& session : sessions) {
    works.emplace_back([&] {
      for (int i = 0; i < 10; ++i) rescued += session.number("select reap()");
    });
  }
  together(works);
  EXPECT_EQ(rescued, 120);
  EXPECT_EQ(sql.number("select count(*) from jobs where state = 'available' and attempt = 1"), 72);
  EXPECT_EQ(sql.number("select count(*) from jobs where state = 'available' and attempt = 0"), 48);
  EXPECT_EQ(sql.number("select count(*) from attempt_error"), 72);
}

TEST_F(Race, EachTermHasOneLeader) {
  std::vector<Sql> sessions;
  std::vector<Hand> workers;
  sessions.reserve(4);
  for (int i = 0; i < 4; ++i) {
    sessions.push_back(open());
    workers.emplace_back(sessions.back());
  }
  std::mutex mutex;
  std::map<std::int64_t, std::set<std::int64_t>> leaders;
  std::vector<std::function<void()>> works;
  for (std::size_t i = 0; i < 4; ++i) {
    works.emplace_back([&, i] {
      for (int n = 0; n < 150; ++n) {
        auto const term = sessions[i].number("select lead($1::bigint)", workers[i].id());
        if (term == 0) continue;
        {
          std::lock_guard const lock(mutex);
          leaders[term].insert(workers[i].id());
        }
        sessions[i].exec("update leader set at = at - interval '11 s' where id = (select max(id) from leader)");
      }
    });
  }
  together(works);
  EXPECT_GT(leaders.size(), 10U);
  for (auto const& [term, who] : leaders) EXPECT_EQ(who.size(), 1U) << "term " << term;
  EXPECT_EQ(leaders.rbegin()->first, static_cast<std::int64_t>(leaders.size())) << "terms without a gap";
}

// New lanes all the time, some of them rolled back, while workers fold them: no deadlock, nothing lost.
TEST_F(Race, FoldAgainstEnqueueAndLook) {
  std::vector<Sql> sessions;
  for (int i = 0; i < 7; ++i) sessions.push_back(open());
  std::mutex mutex;
  std::map<std::int64_t, int> times;
  std::set<std::int64_t> committed;
  std::atomic<int> producing{4};
  std::string kinds = "{";
  for (int i = 0; i < 80; ++i) kinds += (i == 0 ? "n" : ",n") + std::to_string(i);
  kinds += "}";
  std::vector<std::function<void()>> works;
  for (std::size_t i = 0; i < 4; ++i) {
    works.emplace_back([&, i, generator = seed_.fork()]() mutable {
      // Also when it throws: the workers must come to an end.
      std::shared_ptr<void> const ended(nullptr, [&](void*) { --producing; });
      for (int n = 0; n < 80; ++n) {
        sessions[i].exec("begin");
        Ids jobs;
        // All meet the same new pair of kinds, every other one in the opposite order.
        int const pair = n / 2 * 2;
        for (int const k : {i % 2 == 0 ? pair : pair + 1, i % 2 == 0 ? pair + 1 : pair}) {
          if (!jobs.empty()) std::this_thread::sleep_for(2ms);
          jobs.push_back(sessions[i].number("select enqueue($1)", "n" + std::to_string(k)));
          if (generator() % 4 == 0)
            jobs.push_back(sessions[i].number("select enqueue($1, delay => '1 h')", "n" + std::to_string(k)));
        }
        if (generator() % 5 == 0) {
          sessions[i].exec("rollback");
          continue;
        }
        if (jobs.size() > 2) sessions[i].rows("select retry(id) from unnest($1::bigint[]) id", array(jobs));
        sessions[i].exec("commit");
        std::lock_guard const lock(mutex);
        committed.insert(jobs.begin(), jobs.end());
      }
    });
  }
  for (std::size_t i = 4; i < 7; ++i) {
    works.emplace_back([&, i] {
      Hand worker(sessions[i], {.kinds = kinds});
      for (int quiet = 0; quiet < 3;) {
        bool const last = producing == 0;
        sessions[i].exec(
            "update deferred set due_at = now() where id in (select id from deferred limit 5 for update skip locked)");
        sessions[i].one("select promote('-infinity', 10)");
        auto const jobs = worker.claim(20);
        {
          std::lock_guard const lock(mutex);
          for (auto const& job : jobs) ++times[job.id];
        }
        std::set<std::int64_t> tokens;
        for (auto const& job : jobs) tokens.insert(job.token);
        for (auto const token : tokens) worker.finish(token);
        quiet = jobs.empty() && last ? quiet + 1 : 0;
      }
    });
  }
  together(works);
  sql.exec("update deferred set due_at = now(); select promote()");
  for (auto const& [id, n] : drain(kinds)) times[id] += n;
  EXPECT_EQ(times.size(), committed.size());
  for (auto const id : committed) EXPECT_EQ(times[id], 1) << id;
}

}  // namespace
}  // namespace posthouse::test
