// SPDX-License-Identifier: Apache-2.0
// COPY … FROM STDIN.
#include <poll.h>

#include <cstdlib>
#include <exception>

#include "pg/connection_impl.hpp"

namespace posthouse::pg {

std::int64_t Connection::copy_in(std::string const& sql, std::function<std::string_view()> const& produce) {
  return impl_->echoed(sql, 0, [&] { return copy_in_now(sql, produce); });
}

std::int64_t Connection::copy_in_now(std::string const& sql, std::function<std::string_view()> const& produce) {
  Impl& impl = *impl_;
  impl.check_usable();
  if (!can_copy()) throw InvalidArgument("COPY is not possible on a connection that is reached through an Executor");
  bool const in_doubt = !impl.in_block();  // asked before, as a COPY that runs hides the block around it
  ResultPtr const start = impl.run([&] { return PQsendQuery(impl.conn, sql.c_str()); });
  if (PQresultStatus(start.get()) != PGRES_COPY_IN) {
    throw InvalidArgument("not a COPY … FROM STDIN statement: " + sql.substr(0, 80));
  }
  // The deadline is one of progress: it starts anew with each chunk that the server has taken.
  auto const put = [&](auto&& send) {
    auto const until = Clock::now() + impl.deadline;
    for (;;) {
      int const state = send();
      if (state > 0) break;
      if (state < 0) impl.lost(in_doubt);
      if (!wait_socket(PQsocket(impl.conn), POLLOUT, until)) impl.too_late(in_doubt);
    }
    impl.flush(until, in_doubt);
  };
  std::exception_ptr failure;
  try {
    for (std::string_view chunk = produce(); !chunk.empty(); chunk = produce()) {
      put([&] { return PQputCopyData(impl.conn, chunk.data(), static_cast<int>(chunk.size())); });
    }
  } catch (Error const&) {
    if (impl.conn == nullptr) throw;
    failure = std::current_exception();
  } catch (...) {
    failure = std::current_exception();
  }
  put([&] { return PQputCopyEnd(impl.conn, failure ? "the program stopped the copy" : nullptr); });
  auto const until = Clock::now() + impl.deadline;
  if (failure) {
    try {
      impl.collect(until, false);
    } catch (Error const&) {
      // The server only repeats that we stopped; what counts is why.
    }
    std::rethrow_exception(failure);
  }
  ResultPtr const result = impl.collect(until, in_doubt);
  return std::strtoll(PQcmdTuples(result.get()), nullptr, 10);
}

}  // namespace posthouse::pg
