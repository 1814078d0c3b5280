// SPDX-License-Identifier: Apache-2.0
// Plain SQL for tests, by libpq and nothing of ours, so that a fault of our connection cannot hide behind itself.
//
//   Sql db(url);
//   db.exec("create table t (x int); insert into t values (1)");
//   EXPECT_EQ(db.one("select x from t where x = $1", 1), "1");
// Thread safety: one thread at a time.
#pragma once

#include <libpq-fe.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace posthouse::test {

class SqlError : public std::runtime_error {
 public:
  SqlError(std::string const& message, std::string sqlstate)
      : std::runtime_error(message), sqlstate_(std::move(sqlstate)) {}
  [[nodiscard]] std::string const& sqlstate() const noexcept { return sqlstate_; }

 private:
  std::string sqlstate_;
};

class Sql {
 public:
  using Value = std::optional<std::string>;
  using Row = std::vector<Value>;

  /// Connects; throws SqlError with the server's words. `wait` retries while the server is starting or out of reach.
  explicit Sql(std::string const& url, std::chrono::milliseconds wait = std::chrono::milliseconds(0));

  /// The one field of the one row; throws when there are more or fewer, or when it is null.
  template <class... P>
  std::string one(std::string const& sql, P const&... parameters) {
    return one_value(sql, {parameter(parameters)...});
  }
  template <class... P>
  std::int64_t number(std::string const& sql, P const&... parameters) {
    return std::stoll(one_value(sql, {parameter(parameters)...}));
  }
  template <class... P>
  bool truth(std::string const& sql, P const&... parameters) {
    return one_value(sql, {parameter(parameters)...}) == "t";
  }
  template <class... P>
  std::vector<Row> rows(std::string const& sql, P const&... parameters) {
    return query(sql, {parameter(parameters)...});
  }
  /// The first column of every row; null as an empty text.
  template <class... P>
  std::vector<std::string> column(std::string const& sql, P const&... parameters) {
    std::vector<std::string> result;
    for (auto& row : query(sql, {parameter(parameters)...})) result.push_back(row.at(0).value_or(""));
    return result;
  }
  /// Any number of statements, no parameters.
  void exec(std::string const& sql);

  /// SQLSTATE of the error that the statements end in; empty: none. For tests of refusals.
  std::string sqlstate_of(std::string const& sql);

  [[nodiscard]] PGconn* connection() noexcept { return connection_.get(); }
  [[nodiscard]] int backend_pid() const noexcept { return PQbackendPID(connection_.get()); }
  void close() { connection_.reset(); }

 private:
  struct Finish {
    void operator()(PGconn* connection) const noexcept { PQfinish(connection); }
  };

  template <class T>
  static Value parameter(T const& value) {
    if constexpr (std::is_same_v<T, std::nullopt_t>) {
      return std::nullopt;
    } else if constexpr (std::is_same_v<T, bool>) {
      return value ? "t" : "f";
    } else if constexpr (std::is_arithmetic_v<T>) {
      return std::to_string(value);
    } else {
      return Value(std::string(value));
    }
  }
  std::vector<Row> query(std::string const& sql, std::vector<Value> const& parameters);
  std::string one_value(std::string const& sql, std::vector<Value> const& parameters);

  std::unique_ptr<PGconn, Finish> connection_;
};

}  // namespace posthouse::test
