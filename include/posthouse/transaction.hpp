// SPDX-License-Identifier: Apache-2.0
// The caller's own transaction, whatever library it comes from.
//
// A Transaction never begins, commits or rolls back anything, and never owns the connection. A refused enqueue is
// found before anything is sent, so it does not abort the caller's transaction.
// Thread safety: as that of the connection behind it: one thread at a time.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

struct pg_conn;  // libpq's PGconn

namespace posthouse {

/// The one thing we need of a database library: run one statement with text parameters inside the open transaction.
class Executor {
 public:
  using Row = std::vector<std::optional<std::string>>;

  Executor() = default;
  Executor(Executor const&) = delete;
  Executor& operator=(Executor const&) = delete;
  virtual ~Executor() = default;

  /// `sql` has parameters $1…$n; values are text in UTF-8 without NUL bytes, nullopt is SQL null.
  /// Throws posthouse::Error when the server refuses.
  virtual std::vector<Row> query(std::string const& sql, std::vector<std::optional<std::string>> const& values) = 0;
};

/// For adapters: throws the posthouse::Error that fits an error of the server. `connection_lost` decides first, the
/// five characters of the SQLSTATE second; `in_doubt` says that the statement would have committed by itself.
[[noreturn]] void throw_server_error(std::string const& sqlstate, std::string const& message, bool connection_lost,
                                     bool in_doubt);

/// Specialised by adapters: `static std::unique_ptr<Executor> make(T&)`.
template <class T>
struct executor_for;

class Transaction {
 public:
  /// A libpq connection that is inside a transaction (or not: then each call commits by itself). Calls block without a
  /// deadline of ours; savepoints are the caller's. Its client_encoding must be UTF8.
  Transaction(pg_conn* connection);  // NOLINT(google-explicit-constructor)

  /// Anything with an adapter, for example a pqxx::work after `#include <posthouse/adapter/pqxx.hpp>`.
  template <class T>
  requires requires(T& t) { executor_for<T>::make(t); }
  Transaction(T& transaction)  // NOLINT(google-explicit-constructor)
      : executor_(executor_for<T>::make(transaction)) {}

  [[nodiscard]] Executor& executor() const noexcept { return *executor_; }

 private:
  std::shared_ptr<Executor> executor_;
};

}  // namespace posthouse
