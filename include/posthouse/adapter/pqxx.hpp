// SPDX-License-Identifier: Apache-2.0
// Jobs inside a transaction of libpqxx's (6.4 or later), savepoints (pqxx::subtransaction) included; and the
// application's own connections of libpqxx for clients.
//
//   pqxx::work work{connection};
//   client.enqueue(work, "send_welcome", posthouse::json{R"({"user": 42})"});
//   work.commit();
//
// Errors of the server come as posthouse::Error with the SQLSTATE, as everywhere; libpqxx then holds the transaction
// for failed, as the server does. The connection must speak UTF8.
//
// An application that has connections of libpqxx lends them:
//
//   auto const pool = std::make_shared<posthouse::Pool>(
//       posthouse::PoolOptions{.name = "mine"}, posthouse::pqxx_connections([&](auto timeout) { return mine.take(timeout); }));
//   posthouse::Client client({.pool = pool});
//
// libpqxx shows no PGconn: statements go through pqxx::nontransaction, many jobs by the function instead of COPY, there
// are no deadlines of ours (set statement_timeout), and nothing can LISTEN there.
// Thread safety: as that of the transaction.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <pqxx/pqxx>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <posthouse/error.hpp>
#include <posthouse/pool.hpp>
#include <posthouse/transaction.hpp>

namespace posthouse {
namespace detail {

class PqxxExecutor final : public Executor {
 public:
  explicit PqxxExecutor(pqxx::transaction_base& transaction) : transaction_(transaction) {}

  std::vector<Row> query(std::string const& sql, std::vector<std::optional<std::string>> const& values) override {
    // Pointers are parameters that libpqxx 6 and 7 both know to be null.
    std::vector<char const*> texts;
    texts.reserve(values.size());
    for (auto const& value : values) texts.push_back(value ? value->c_str() : nullptr);
    try {
      auto const result = run(sql, texts);
      std::vector<Row> rows;
      rows.reserve(static_cast<std::size_t>(result.size()));
      for (auto const& from : result) {
        Row row;
        for (auto const& field : from) {
          if (field.is_null()) {
            row.emplace_back();
          } else {
            row.emplace_back(std::in_place, field.c_str(), static_cast<std::size_t>(field.size()));
          }
        }
        rows.push_back(std::move(row));
      }
      return rows;
    } catch (pqxx::broken_connection const& error) {
      // Alone a nontransaction commits each statement by itself.
      throw_server_error({}, error.what(), true, dynamic_cast<pqxx::nontransaction*>(&transaction_) != nullptr);
    } catch (pqxx::sql_error const& error) {
      throw_server_error(error.sqlstate(), error.what(), false, false);
    }
  }

 private:
  pqxx::result run(std::string const& sql, std::vector<char const*> const& texts) {
#if PQXX_VERSION_MAJOR >= 7
    pqxx::params parameters;
    for (char const* text : texts) parameters.append(text);
    return transaction_.exec_params(sql, parameters);
#else
    // libpqxx 6 sets a subtransaction's savepoint at its first exec(), and exec_params() does not count as one.
    if (dynamic_cast<pqxx::subtransaction*>(&transaction_) != nullptr) transaction_.exec("");
    return transaction_.exec_params(sql, pqxx::prepare::make_dynamic_params(texts));
#endif
  }

  pqxx::transaction_base& transaction_;
};

}  // namespace detail

#if PQXX_VERSION_MAJOR >= 7
using PqxxConnection = pqxx::connection;
#else
using PqxxConnection = pqxx::connection_base;
#endif

namespace detail {

class PqxxConnections final : public ConnectionSource {
 public:
  using Acquire = std::function<std::shared_ptr<PqxxConnection>(std::chrono::milliseconds)>;
  explicit PqxxConnections(Acquire acquire) : acquire_(std::move(acquire)) {}

  std::unique_ptr<Borrowed> borrow(std::chrono::milliseconds timeout) override {
    auto connection = acquire_(timeout);
    if (!connection) throw Timeout("the application's pool had no free connection in time");
    return std::make_unique<One>(std::move(connection));
  }

 private:
  class One final : public Borrowed {
   public:
    explicit One(std::shared_ptr<PqxxConnection> connection) : connection_(std::move(connection)) {}
    Executor* executor() noexcept override { return &executor_; }

   private:
    std::shared_ptr<PqxxConnection> connection_;
    pqxx::nontransaction plain_{*connection_};
    PqxxExecutor executor_{plain_};
  };
  Acquire acquire_;
};

}  // namespace detail

/// `acquire` waits at most so long for a connection that nobody else uses, and returns null when none is free. Letting go
/// of the pointer gives it back, so a pool hands out pointers with a deleter; look at is_open() there.
inline std::shared_ptr<ConnectionSource> pqxx_connections(
    std::function<std::shared_ptr<PqxxConnection>(std::chrono::milliseconds timeout)> acquire) {
  return std::make_shared<detail::PqxxConnections>(std::move(acquire));
}

/// pqxx::work, read_transaction, nontransaction, subtransaction and the like.
template <class T>
requires std::is_base_of_v<pqxx::transaction_base, T>
struct executor_for<T> {
  static std::unique_ptr<Executor> make(T& transaction) { return std::make_unique<detail::PqxxExecutor>(transaction); }
};

}  // namespace posthouse
