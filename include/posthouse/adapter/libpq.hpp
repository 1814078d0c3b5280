// SPDX-License-Identifier: Apache-2.0
// Jobs inside a transaction of libpq's.
//
// A PGconn* is a posthouse::Transaction as it is:
//
//   PQexec(connection, "begin");
//   client.enqueue(connection, "send_welcome", posthouse::json{R"({"user": 42})"});
//   PQexec(connection, "commit");
//
// The connection must speak UTF8 and not be in the middle of another statement. Statements run by PQexecParams, which
// blocks, whatever PQsetnonblocking says. Rolling back to a savepoint takes back the jobs enqueued after it.
// Thread safety: as that of the PGconn: one thread at a time.
#pragma once

#include <posthouse/transaction.hpp>
