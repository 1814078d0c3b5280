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
      " pg_catalog.set_config('posthouse.result', '', true), pg_catalog.set_config('posthouse.row_count', '0', true), "
      "pg_catalog.set_config('posthouse.rows', '', true)",
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

namespace {

// plpgsql's EXECUTE takes several statements and refuses those that would end the transaction, so that effects and
// completion cannot be torn apart by a COMMIT in the middle.
constexpr std::string_view execute_alone = R"sql(
    execute pg_catalog.current_setting('posthouse.statement');
    get diagnostics n = row_count;
)sql";

// A cursor can be opened for what returns rows and is alone. The server says before it runs anything when it cannot; for
// the rest see above. A row of one column is its value.
constexpr std::string_view fetch_or_execute = R"sql(
    begin
      open c no scroll for execute pg_catalog.current_setting('posthouse.statement');
      opened := true;
    exception when invalid_cursor_definition then
    end;
    if opened then
      loop
        fetch c into r;
        exit when not found;
        n := n + 1;
        one := pg_catalog.row_to_json(r);
        if n = 1 then
          select pg_catalog.count(*), pg_catalog.min(k) into fields, field from pg_catalog.json_object_keys(one) k;
        end if;
        if fields = 1 then one := one -> field; end if;
        list := pg_catalog.array_append(list, one::pg_catalog.text);
        size := size + pg_catalog.octet_length(one::pg_catalog.text) + 2;
        exit when size > row_bytes + 2;
      end loop;
      if size > row_bytes + 2 then
        move forward all from c;
        get diagnostics rest = row_count;
        n := n + rest;
      end if;
      close c;
      perform pg_catalog.set_config('posthouse.rows',
        case when n = 1 then list[1] else '[' || pg_catalog.array_to_string(list, ', ') || ']' end, true);
    else
      execute pg_catalog.current_setting('posthouse.statement');
      get diagnostics n = row_count;
    end if;
)sql";

}  // namespace

void UserSql::run(std::string_view statements, std::chrono::milliseconds timeout, std::size_t row_bytes) {
  connection_.query(
      "select pg_catalog.set_config('posthouse.statement', $1, true), "
      "pg_catalog.set_config('statement_timeout', $2, true)",
      pg::Params().text(statements).text(std::to_string(timeout.count())));
  auto const milliseconds = std::to_string(timeout.count());
  connection_.query(
      "do $posthouse$ declare n pg_catalog.int8 := 0; rest pg_catalog.int8; row_bytes pg_catalog.int8 := " +
      std::to_string(row_bytes) +
      "; c pg_catalog.refcursor; opened pg_catalog.bool := false; r record; one pg_catalog.json; "
      "fields pg_catalog.int8; field pg_catalog.text; list pg_catalog.text[] := '{}'; size pg_catalog.int8 := 0; "
      "begin " +
      std::string(row_bytes > 0 ? fetch_or_execute : execute_alone) +
      "perform pg_catalog.set_config('posthouse.row_count', n::pg_catalog.text, true); "
      "perform pg_catalog.set_config('statement_timeout', '" +
      milliseconds + "', true); end $posthouse$");
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
      "select coalesce(nullif(pg_catalog.current_setting('posthouse.result', true), ''), "
      "nullif(pg_catalog.current_setting('posthouse.rows', true), '')), "
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
