// SPDX-License-Identifier: Apache-2.0
// The engine's SQL functions as tests call them: a worker played by hand, statements that run beside the test, waiting
// for one session to wait for another.
//
// Thread safety: one thread at a time for each object; free functions from any.
#pragma once

#include <algorithm>
#include <cstdint>
#include <future>
#include <string>
#include <utility>
#include <vector>

#include "support/database.hpp"
#include "support/eventually.hpp"
#include "support/sql.hpp"

namespace posthouse::test {

using Ids = std::vector<std::int64_t>;

/// An array literal: {1,2,3}.
inline std::string array(Ids const& values) {
  std::string text = "{";
  for (auto const value : values) {
    if (text.size() > 1) text += ',';
    text += std::to_string(value);
  }
  text += '}';
  return text;
}

inline Ids sorted(Ids values) {
  std::sort(values.begin(), values.end());
  return values;
}

inline Ids numbers(std::vector<std::string> const& column) {
  Ids result;
  for (auto const& value : column) result.push_back(std::stoll(value));
  return result;
}

/// Statements find the engine's functions without their schema, and one that waits for ever fails instead.
inline void prepare_session(Sql& sql) { sql.exec("set search_path = posthouse; set statement_timeout = '30s'"); }

inline Sql engine_session(std::string const& url) {
  Sql sql(url);
  prepare_session(sql);
  return sql;
}

struct Claimed {
  std::int64_t token = 0;
  std::int64_t lane = 0;
  int position = 0;
  std::int64_t id = 0;
  int attempt = 0;
};

inline Ids ids(std::vector<Claimed> const& jobs) {
  Ids result;
  for (auto const& job : jobs) result.push_back(job.id);
  return result;
}

inline std::vector<Claimed> claimed_rows(std::vector<Sql::Row> const& rows) {
  std::vector<Claimed> jobs;
  for (auto const& row : rows) {
    jobs.push_back(
        {std::stoll(*row[0]), std::stoll(*row[1]), std::stoi(*row[2]), std::stoll(*row[3]), std::stoi(*row[4])});
  }
  return jobs;
}

/// One incarnation, on a connection of the test's.
class Hand {
 public:
  struct Options {
    std::string kinds = "{k}";
    std::string queues = "{}";
    int lease_ms = 30000;
    std::string max_attempts{};  ///< an array literal, one a kind; empty: the default
  };

  explicit Hand(Sql& sql) : Hand(sql, Options{}) {}
  Hand(Sql& sql, Options const& options)
      : sql_(&sql),
        id_(sql.number(
            "select posthouse.register_worker('hand', 'here', 1, '0', $1, $2, $3, 10, nullif($4, '')::int[])",
            options.queues, options.kinds, options.lease_ms, options.max_attempts)) {}

  [[nodiscard]] std::int64_t id() const { return id_; }
  [[nodiscard]] std::int64_t next_token() const { return token_; }
  /// From now on its calls go over this connection.
  void use(Sql& sql) { sql_ = &sql; }

  /// `lanes`: an array literal; empty: the engine looks. Without the rows that say what a limit holds back.
  std::vector<Claimed> claim(int n, int start = -1, std::string const& lanes = {}) {
    auto const token = take_token();
    return claimed_rows(
        sql_->rows("select token, lane, pos, id, attempt from posthouse.claim($1, $2, nullif($3, '')::bigint[], $4, "
                   "$5) where pos >= 0",
                   id_, token, lanes, n, start < 0 ? n : start));
  }

  /// One job of the lane, and the end of the batch `done` (0: none).
  std::vector<Claimed> claim_one(std::int64_t lane, std::int64_t done = 0) {
    auto const token = take_token();
    return claimed_rows(sql_->rows(
        "select token, lane, pos, id, attempt from posthouse.finish_and_claim_one($1, nullif($2, 0), $3, $4)", id_,
        done, token, lane));
  }

  /// Returns the tokens whose lease is lost. `acked` as the function takes it; nullopt closes the batch.
  Ids finish(std::int64_t token, std::optional<std::string> const& acked = {}, int started = 0,
             std::string const& moves = {}) {
    std::string const acks = acked ? "{" + *acked + "}" : "{null}";
    return numbers(sql_->column("select unnest(posthouse.finish($1, $2, $3, $4, nullif($5, '')::jsonb))", id_,
                                array({token}), acks, array({started}), moves));
  }

  /// Acks and moves of one batch, and the claim of up to n jobs, in one call; throws away which leases are lost.
  std::vector<Claimed> finish_and_claim(std::int64_t done, std::string const& acked, std::string const& moves, int n,
                                        std::string const& lanes = {}) {
    auto const token = take_token();
    return claimed_rows(
        sql_->rows("select token, lane, pos, id, attempt from posthouse.finish_and_claim($1, $2, $3, '{10000}', "
                   "nullif($4, '')::jsonb, $5, nullif($6, '')::bigint[], $7, $7) where pos >= 0",
                   id_, array({done}), "{" + acked + "}", moves, token, lanes, n));
  }

  void beat(std::int64_t low_token = 0) { sql_->rows("select posthouse.beat($1, $2, 1, 1)", id_, low_token); }
  bool complete(Sql& transaction, Claimed const& job) {
    return transaction.truth("select posthouse.complete($1, $2, $3, $4)", id_, job.token, job.position, job.id);
  }
  void leave() { sql_->rows("select posthouse.leave($1)", id_); }
  std::int64_t give_back(Ids const& tokens) {
    return sql_->number("select posthouse.give_back($1, $2)", id_, array(tokens));
  }
  std::int64_t take_token() { return std::exchange(token_, token_ + 16); }

 private:
  Sql* sql_;
  std::int64_t id_;
  std::int64_t token_ = 16;
};

/// One element of finish's moves.
inline std::string move_of(Claimed const& job, std::string const& outcome, int delay_ms = 0,
                           std::string const& message = "oops") {
  return R"({"token": )" + std::to_string(job.token) + R"(, "pos": )" + std::to_string(job.position) + R"(, "id": )" +
         std::to_string(job.id) + R"(, "outcome": ")" + outcome + R"(", "delay_ms": )" + std::to_string(delay_ms) +
         R"(, "type": "Error", "message": ")" + message + R"("})";
}

/// True as soon as the backend waits for a lock.
inline ::testing::AssertionResult waits_for_lock(Sql& observer, int backend) {
  return eventually([&] {
    return observer.number("select count(*) from pg_stat_activity where pid = $1 and wait_event_type = 'Lock'",
                           backend) == 1;
  });
}

/// A statement that runs beside the test. get() gives its one field, or throws what it threw.
inline std::future<std::string> beside(Sql& sql, std::string statement) {
  return std::async(std::launch::async, [&sql, statement = std::move(statement)] { return sql.one(statement); });
}

/// Ends the lease of a worker as time would: its signs of life become an hour old.
inline void expire(Sql& sql, std::int64_t worker) {
  sql.rows("update posthouse.heartbeat set at = at - interval '1 hour' where worker = $1", worker);
  sql.rows(
      "update posthouse.worker set started_at = started_at - interval '1 hour', lease = interval '1 ms' where id = $1",
      worker);
}

class EngineTest : public DatabaseTest {
 protected:
  EngineTest() { prepare_session(sql); }

  [[nodiscard]] Sql open() const { return engine_session(url()); }
  std::int64_t enqueue(std::string const& kind = "k") { return sql.number("select enqueue($1)", kind); }
  Ids enqueue_some(int n, std::string const& kind = "k") {
    return numbers(sql.column("select enqueue($1) from generate_series(1, $2)", kind, n));
  }
  /// "SQLSTATE message", or "accepted".
  std::string refusal_of(std::string const& statement) {
    try {
      sql.exec(statement);
    } catch (SqlError const& error) {
      return error.sqlstate() + " " + error.what();
    }
    return "accepted";
  }
  std::string state(std::int64_t id) { return sql.one("select state from jobs where id = $1", id); }
  std::int64_t attempt(std::int64_t id) { return sql.number("select attempt from jobs where id = $1", id); }
  std::int64_t lane(std::string const& kind = "k", int priority = 0, bool express = false,
                    std::string const& queue = "default") {
    return sql.number("select lane_of($1, $2, $3, $4)", queue, kind, priority, express);
  }
};

}  // namespace posthouse::test
