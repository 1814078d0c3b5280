// SPDX-License-Identifier: Apache-2.0
// A client that enqueues in every way there is, and writes down before and after what it asked for and what it was told.
#include <atomic>
#include <csignal>
#include <iterator>
#include <posthouse/adapter/libpq.hpp>
#include <posthouse/posthouse.hpp>
#include <random>
#include <thread>

#include "concurrency/chaos_history.hpp"
#include "concurrency/programs/chaos.hpp"
#include "support/sql.hpp"

namespace posthouse::test::chaos {
namespace {

using namespace std::chrono_literals;

std::atomic<bool> leaving{false};  // lock-free, so the signal's handler may set it

class Enqueuer {
 public:
  Enqueuer(std::string url, Client& client, History& history, std::uint64_t seed, std::int64_t first)
      : url_(std::move(url)), client_(client), history_(history), random_(seed), next_(first) {}

  void run(int pause_ms) {
    while (!leaving) {
      auto const dice = between(1, 100);
      if (dice <= 30) {
        single(wish());
      } else if (dice <= 50) {
        // Several that get into each other's way.
        auto const sort = between(1, 3);
        auto const key = std::to_string(between(1, 3));
        for (auto count = between(1, 6); count > 0; --count) single(special(sort, key));
      } else if (dice <= 93) {
        business();
      } else {
        many();
      }
      std::this_thread::sleep_for(milliseconds(between(pause_ms / 4, pause_ms * 2)));
    }
  }

 private:
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(random_);
  }
  bool chance(int percent) { return between(1, 100) <= percent; }

  struct Wanted : Request {
    std::int64_t u = 0;
    bool doomed = false;  ///< its handler always fails
  };
  Wanted wish() {
    Wanted made;
    made.kind = "plain";
    auto const u = made.u = next_++;
    std::int64_t ms = between(0, 5);
    std::int64_t fails = 0;
    std::string how = "plain";
    auto const dice = between(1, 100);
    if (dice <= 35) {
      made.kind = how = "ledger";
    } else if (dice <= 42) {
      made.kind = "nap";
      how = "snooze";
    } else if (dice <= 48) {
      made.kind = chance(50) ? "slow" : "ledger";
      how = made.kind == "slow" ? "plain" : "ledger";
      ms = between(200, 2000);
    } else if (dice <= 58) {
      fails = between(1, 2);
    } else if (dice <= 62) {
      made.doomed = true;
      fails = 99;
      made.options.max_attempts = 3;
    } else if (dice <= 64) {
      how = "discard";
    }
    made.payload = json(R"({"u": )" + std::to_string(u) + R"(, "ms": )" + std::to_string(ms) + R"(, "fails": )" +
                        std::to_string(fails) + R"(, "how": ")" + how + R"("})");
    made.options.priority = static_cast<int>(between(-1, 1)) * 5;
    if (chance(20)) made.options.queue = "side";
    if (chance(15)) made.options.delay = milliseconds(between(1, 1500));
    return made;
  }

  /// A job of a kind that is limited, of a key, or of a dedupe key.
  Wanted special(std::int64_t sort, std::string const& key) {
    Wanted made;
    auto const u = made.u = next_++;
    std::int64_t ms = between(0, 60);
    if (sort == 1) {
      made.kind = "limited";
      ms = between(50, 300);
    } else if (sort == 2) {
      made.kind = "keyed";
      made.options.key = key;
    } else {
      made.kind = "unique";
      made.options.dedupe_key = key;
      ms = between(50, 300);
    }
    made.payload = json(R"({"u": )" + std::to_string(u) + R"(, "ms": )" + std::to_string(ms) + "}");
    return made;
  }

  std::string invoke(char const* how, std::vector<Wanted> const& wanted) {
    std::vector<std::int64_t> all, doomed;
    for (auto const& one : wanted) {
      all.push_back(one.u);
      if (one.doomed) doomed.push_back(one.u);
    }
    auto op = std::to_string(all.front());
    history_.note("invoke", {{"op", op},
                             {"how", how},
                             {"u", joined(all)},
                             {"doomed", joined(doomed)},
                             {"key", wanted.front().options.key},
                             {"dedupe", wanted.front().options.dedupe_key}});
    return op;
  }
  void tell(char const* what, std::string const& op, std::string const& why = {}) {
    history_.note(what, {{"op", op}, {"why", why.substr(0, 160)}});
  }
  void ok(std::string const& op, std::vector<std::int64_t> const& ids) {
    history_.note("ok", {{"op", op}, {"ids", joined(ids)}});
  }
  void error(std::string const& op, Error const& error) {
    tell(error.in_doubt() ? "doubt" : "refused", op, error.what());
  }

  void single(Wanted const& wanted) {
    auto const op = invoke("single", {wanted});
    try {
      auto const outcome = client_.enqueue(wanted.kind, wanted.payload, wanted.options);
      if (outcome.status == EnqueueStatus::duplicate) return tell("duplicate", op, "of " + std::to_string(outcome.id));
      ok(op, {outcome.id});
    } catch (Error const& refusal) {
      error(op, refusal);
    }
  }

  void many() {
    std::vector<Wanted> wanted;
    for (auto count = between(5, 40); count > 0; --count) wanted.push_back(wish());
    auto const op = invoke("many", wanted);
    try {
      std::vector<Request> const requests(wanted.begin(), wanted.end());
      std::vector<std::int64_t> ids;
      for (auto const& outcome : client_.enqueue_many(requests)) ids.push_back(outcome.id);
      ok(op, ids);
    } catch (Error const& refusal) {
      error(op, refusal);
    }
  }

  /// Orders and their jobs in one transaction; a part may be rolled back to a savepoint.
  void business() {
    std::vector<Wanted> wanted;
    std::vector<std::int64_t> ids;
    std::string op;
    try {
      Sql sql(url_);
      sql.exec("begin");
      for (auto count = between(1, 3); count > 0; --count) wanted.push_back(wish());
      op = invoke("transaction", wanted);
      for (auto const& one : wanted) ids.push_back(order(sql, one));
      if (chance(20)) {
        auto const undone = wish();
        auto const part = invoke("savepoint", {undone});
        sql.exec("savepoint s");
        order(sql, undone);
        sql.exec("rollback to s");
        tell("rolled_back", part);
      }
      std::this_thread::sleep_for(milliseconds(chance(80) ? between(0, 15) : between(50, 300)));
      if (chance(10)) {
        sql.exec("rollback");
        return tell("rolled_back", op);
      }
      try {
        sql.exec("commit");
      } catch (SqlError const& failure) {
        return tell("doubt", op, failure.what());
      }
      ok(op, ids);
    } catch (std::exception const& failure) {
      // Before the commit was sent: whatever went wrong, the transaction has gone with its connection.
      if (!op.empty()) tell("rolled_back", op, failure.what());
      std::this_thread::sleep_for(50ms);
    }
  }
  std::int64_t order(Sql& sql, Wanted const& wanted) {
    sql.rows("insert into chaos.orders (u) values ($1)", wanted.u);
    return client_.enqueue(sql.connection(), wanted.kind, wanted.payload, wanted.options).id;
  }

  std::string const url_;
  Client& client_;
  History& history_;
  std::mt19937_64 random_;
  std::int64_t next_;
};

}  // namespace

int run_client(Arguments const& arguments) {
  std::signal(SIGTERM, [](int) { leaving = true; });
  History history(arguments.text("history"));
  auto const url = arguments.text("url");
  ClientOptions options;
  options.database_url = url;
  options.database.connect_timeout = options.database.statement_timeout = 3s;
  Client client(options);
  auto const seed = std::stoull(arguments.text("seed"));
  auto const first = std::stoll(arguments.text("first"));
  int const pause = arguments.number("pause");
  std::vector<std::jthread> threads;
  for (int i = 0; i < arguments.number("threads"); ++i) {
    auto const number = static_cast<std::uint64_t>(i);
    threads.emplace_back([&, number] {
      Enqueuer(url, client, history, seed + number, first + static_cast<std::int64_t>(number) * 100'000).run(pause);
    });
  }
  return 0;
}

}  // namespace posthouse::test::chaos
