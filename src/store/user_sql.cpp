// SPDX-License-Identifier: Apache-2.0
#include "store/user_sql.hpp"

#include <charconv>
#include <memory>
#include <optional>
#include <vector>

namespace posthouse::store {
namespace {

class ConnectionExecutor final : public Executor {
 public:
  explicit ConnectionExecutor(pg::Connection& connection) : connection_(connection) {}

  std::vector<Row> query(std::string const& sql, std::vector<std::optional<std::string>> const& values) override {
    pg::Params params;
    for (auto const& value : values) params.text(value);
    auto const result = connection_.query(sql, params);
    std::vector<Row> rows(static_cast<std::size_t>(result.rows()));
    for (int row = 0; row < result.rows(); ++row) {
      for (int column = 0; column < result.columns(); ++column) {
        rows[static_cast<std::size_t>(row)].push_back(result.maybe(row, column));
      }
    }
    return rows;
  }

 private:
  pg::Connection& connection_;
};

}  // namespace
}  // namespace posthouse::store

template <>
struct posthouse::executor_for<posthouse::pg::Connection> {
  static std::unique_ptr<Executor> make(pg::Connection& connection) {
    return std::make_unique<store::ConnectionExecutor>(connection);
  }
};

namespace posthouse::store {

int UserSql::begin(UserSqlFacts const& facts) {
  connection_.begin();
  auto const result = connection_.query(
      "select pg_catalog.pg_backend_pid(), pg_catalog.set_config('posthouse.job_id', $1, true),"
      " pg_catalog.set_config('posthouse.kind', $2, true), pg_catalog.set_config('posthouse.queue', $3, true),"
      " pg_catalog.set_config('posthouse.attempt', $4, true), pg_catalog.set_config('posthouse.payload', $5, true),"
      " pg_catalog.set_config('posthouse.headers', $6, true), pg_catalog.set_config('posthouse.user_login', $7, true),"
      " pg_catalog.set_config('posthouse.result', '', true), pg_catalog.set_config('posthouse.row_count', '0', true)",
      pg::Params()
          .text(std::to_string(facts.job_id))
          .text(facts.kind)
          .text(facts.queue)
          .text(std::to_string(facts.attempt))
          .text(facts.payload)
          .text(facts.headers)
          .text(facts.user_login));
  if (!facts.user_login.empty()) {
    connection_.query("select pg_catalog.set_config('application_name', $1, true)",
                      pg::Params().text(facts.user_login));
  }
  return static_cast<int>(result.int8(0, 0));
}

void UserSql::run(std::string_view statements, std::chrono::milliseconds timeout) {
  connection_.query(
      "select pg_catalog.set_config('posthouse.statement', $1, true), "
      "pg_catalog.set_config('statement_timeout', $2, true)",
      pg::Params().text(statements).text(std::to_string(timeout.count())));
  // plpgsql's EXECUTE takes several statements and refuses those that would end the transaction, so that effects and
  // completion cannot be torn apart by a COMMIT in the middle.
  connection_.query(
      "do $posthouse$ declare n pg_catalog.int8; begin execute pg_catalog.current_setting('posthouse.statement'); "
      "get diagnostics n = row_count; perform pg_catalog.set_config('posthouse.row_count', n::pg_catalog.text, true); "
      "perform pg_catalog.set_config('statement_timeout', '" +
      std::to_string(timeout.count()) + "', true); end $posthouse$");
}

void UserSql::settle() { connection_.script("set constraints all immediate; close all"); }

std::optional<std::int64_t> UserSql::row_count() {
  auto const row = connection_.query("select pg_catalog.current_setting('posthouse.row_count', true)");
  if (row.is_null(0, 0)) return std::nullopt;
  auto const text = row.field(0, 0);
  std::int64_t count = 0;
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return count;
}

std::string UserSql::result() {
  auto const row = connection_.query(
      "select nullif(pg_catalog.current_setting('posthouse.result', true), ''), "
      "pg_catalog.current_setting('posthouse.row_count', true)");
  if (!row.is_null(0, 0)) return row.text(0, 0);
  return "{\"row_count\": " + row.text(0, 1) + "}";
}

Transaction UserSql::transaction() const { return {connection_}; }

void UserSql::commit() { connection_.commit(); }

void UserSql::leave(bool session_is_ours) noexcept {
  if (!connection_.ok()) return;
  if (connection_.in_transaction()) connection_.rollback();
  if (!session_is_ours || !connection_.ok()) return;
  try {
    connection_.script("discard all");
  } catch (...) {  // NOLINT(bugprone-empty-catch)
    // The pool finds out that the connection is broken, or the next job begins with a setting too many.
  }
}

bool cancel_backend(pg::Connection& other, int backend_pid) {
  auto const result =
      other.query("select pg_catalog.pg_cancel_backend($1::pg_catalog.int4)", pg::Params().int8(backend_pid));
  return result.rows() == 1 && result.field(0, 0) == "t";
}

bool terminate_backend(pg::Connection& other, int backend_pid) {
  auto const result =
      other.query("select pg_catalog.pg_terminate_backend($1::pg_catalog.int4)", pg::Params().int8(backend_pid));
  return result.rows() == 1 && result.field(0, 0) == "t";
}

}  // namespace posthouse::store
