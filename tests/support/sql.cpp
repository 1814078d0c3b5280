// SPDX-License-Identifier: Apache-2.0
#include "support/sql.hpp"

#include <thread>

namespace posthouse::test {
namespace {

struct Clear {
  void operator()(PGresult* result) const noexcept { PQclear(result); }
};
using Result = std::unique_ptr<PGresult, Clear>;

std::string shortened(std::string const& sql) { return sql.size() <= 300 ? sql : sql.substr(0, 300) + "…"; }

void check(PGconn* connection, PGresult* result, std::string const& sql) {
  auto const status = PQresultStatus(result);
  if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK || status == PGRES_EMPTY_QUERY) return;
  char const* const state = result != nullptr ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : nullptr;
  throw SqlError(std::string(result != nullptr ? PQresultErrorMessage(result) : PQerrorMessage(connection)) +
                     "in: " + shortened(sql),
                 state != nullptr ? state : "");
}

}  // namespace

Sql::Sql(std::string const& url, std::chrono::milliseconds wait) {
  auto const end = std::chrono::steady_clock::now() + wait;
  for (;;) {
    connection_.reset(PQconnectdb(url.c_str()));
    if (PQstatus(connection_.get()) == CONNECTION_OK) break;
    if (std::chrono::steady_clock::now() >= end) {
      throw SqlError(std::string("cannot connect to ") + url + ": " + PQerrorMessage(connection_.get()), "");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  PQsetNoticeProcessor(
      connection_.get(), [](void*, char const*) {}, nullptr);
}

void Sql::exec(std::string const& sql) {
  Result const result(PQexec(connection_.get(), sql.c_str()));
  check(connection_.get(), result.get(), sql);
}

std::string Sql::sqlstate_of(std::string const& sql) {
  try {
    exec(sql);
  } catch (SqlError const& error) {
    return error.sqlstate();
  }
  return "";
}

std::vector<Sql::Row> Sql::query(std::string const& sql, std::vector<Value> const& parameters) {
  std::vector<char const*> values;
  values.reserve(parameters.size());
  for (auto const& parameter : parameters) values.push_back(parameter ? parameter->c_str() : nullptr);
  Result const result(PQexecParams(connection_.get(), sql.c_str(), static_cast<int>(values.size()), nullptr,
                                   values.data(), nullptr, nullptr, 0));
  check(connection_.get(), result.get(), sql);
  std::vector<Row> rows(static_cast<std::size_t>(PQntuples(result.get())));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    int const row = static_cast<int>(i);
    for (int column = 0; column < PQnfields(result.get()); ++column) {
      if (PQgetisnull(result.get(), row, column) != 0) {
        rows[i].emplace_back();
      } else {
        rows[i].emplace_back(std::in_place, PQgetvalue(result.get(), row, column),
                             static_cast<std::size_t>(PQgetlength(result.get(), row, column)));
      }
    }
  }
  return rows;
}

std::string Sql::one_value(std::string const& sql, std::vector<Value> const& parameters) {
  auto const rows = query(sql, parameters);
  if (rows.size() != 1 || rows[0].size() != 1) {
    throw SqlError("expected one row of one column, got " + std::to_string(rows.size()) + " rows of " +
                       std::to_string(rows.empty() ? 0 : rows[0].size()) + " columns in: " + shortened(sql),
                   "");
  }
  if (!rows[0][0]) throw SqlError("the value is null in: " + shortened(sql), "");
  return *rows[0][0];
}

}  // namespace posthouse::test
