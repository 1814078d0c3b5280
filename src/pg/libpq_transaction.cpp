// SPDX-License-Identifier: Apache-2.0
// The caller's own libpq connection as an Executor.
#include <libpq-fe.h>

#include <cstring>

#include <posthouse/error.hpp>
#include <posthouse/transaction.hpp>

#include "pg/connection_impl.hpp"
#include "pg/error.hpp"
#include "pg/text.hpp"

namespace posthouse {
namespace {

class LibpqExecutor final : public Executor {
 public:
  explicit LibpqExecutor(PGconn* connection) : connection_(connection) {
    if (connection == nullptr) throw InvalidArgument("the PGconn of the transaction is null");
  }

  std::vector<Row> query(std::string const& sql, std::vector<std::optional<std::string>> const& values) override {
    check(sql);
    std::vector<char const*> texts;
    texts.reserve(values.size());
    for (auto const& value : values) {
      if (value) pg::check_text(*value);
      texts.push_back(value ? value->c_str() : nullptr);
    }
    bool const in_doubt = PQtransactionStatus(connection_) == PQTRANS_IDLE;
    pg::ResultPtr const result(PQexecParams(connection_, sql.c_str(), static_cast<int>(texts.size()), nullptr,
                                            texts.data(), nullptr, nullptr, 0));
    auto const status = PQresultStatus(result.get());
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
      pg::ServerMessage message = pg::message_of(result.get());
      if (!result) message.text = PQerrorMessage(connection_);
      pg::throw_error(std::move(message), PQstatus(connection_) == CONNECTION_BAD, in_doubt, {});
    }
    std::vector<Row> rows(static_cast<std::size_t>(PQntuples(result.get())));
    int const columns = PQnfields(result.get());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      int const row = static_cast<int>(i);
      for (int column = 0; column < columns; ++column) {
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

 private:
  /// What would fail on the server and abort the caller's transaction is found here.
  void check(std::string const& sql) const {
    switch (PQtransactionStatus(connection_)) {
      case PQTRANS_INERROR:
        if (sql.starts_with("rollback to ")) break;  // the one way out of it
        throw InvalidArgument("the transaction has already failed: roll it back (or back to a savepoint) first");
      case PQTRANS_ACTIVE:
        throw InvalidArgument("the connection is in the middle of another statement: fetch its results first");
      case PQTRANS_UNKNOWN:
        throw Unavailable("the connection of the transaction is broken");
      default:
        break;
    }
    char const* encoding = pg_encoding_to_char(PQclientEncoding(connection_));
    if (encoding == nullptr || (std::strcmp(encoding, "UTF8") != 0 && std::strcmp(encoding, "SQL_ASCII") != 0)) {
      throw InvalidArgument(std::string("the connection's client_encoding is ") +
                            (encoding == nullptr ? "unknown" : encoding) +
                            "; it must be UTF8: call PQsetClientEncoding(connection, \"UTF8\")");
    }
  }

  PGconn* connection_;
};

}  // namespace

void throw_server_error(std::string const& sqlstate, std::string const& message, bool connection_lost, bool in_doubt) {
  // Other libraries hand the server's report over as one text: "ERROR:  message\nDETAIL:  …\n".
  std::string text = message;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (text.rfind("ERROR:  ", 0) == 0) text.erase(0, 8);
  std::size_t const line = text.find('\n');
  std::string const detail = line == std::string::npos ? std::string() : text.substr(line + 1);
  pg::throw_error({.sqlstate = sqlstate, .text = text.substr(0, line), .detail = detail}, connection_lost, in_doubt,
                  {});
}

Transaction::Transaction(pg_conn* connection) : executor_(std::make_shared<LibpqExecutor>(connection)) {}

}  // namespace posthouse
