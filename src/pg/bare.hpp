// SPDX-License-Identifier: Apache-2.0
// Plain blocking libpq, as the shortest program would have it: what `posthouse bench` measures the engine against.
//
// No deadlines, no retries, no draining of notices: PQprepare, PQexecPrepared, PQputCopyData. For the benchmark alone;
// everything else uses Connection. What fails throws posthouse::Error.
// Thread safety: one thread at a time.
#pragma once

#include <chrono>
#include <span>
#include <string>
#include <string_view>

#include <posthouse/options.hpp>

#include "pg/connection.hpp"

namespace posthouse::pg {

class Bare {
 public:
  explicit Bare(DatabaseOptions const& options);
  ~Bare();
  Bare(Bare const&) = delete;
  Bare& operator=(Bare const&) = delete;

  /// One statement without parameters.
  Result execute(char const* sql);
  void prepare(char const* name, std::string const& sql);
  /// A prepared one; parameters are text, nullptr is NULL.
  Result execute_prepared(char const* name, std::span<char const* const> values, Format format = Format::text);
  /// COPY … FROM STDIN: begin, what is sent, end.
  void begin_copy(std::string const& sql);
  void put_copy(std::string_view bytes);
  void end_copy();
  /// Waits for one notification; false: none came in that time.
  bool wait_notification(std::chrono::milliseconds most);

 private:
  Result take(pg_result* result);
  [[noreturn]] void fail();
  pg_conn* conn_ = nullptr;
};

}  // namespace posthouse::pg
