// SPDX-License-Identifier: Apache-2.0
// A PgBouncer in front of the shared test server, for the runs in which everybody goes through one.
//
// Thread safety: every function may be called from any thread.
#pragma once

#include <memory>
#include <string>

#include "dev/pooler.hpp"

namespace posthouse::test {

/// In front of the shared server; null: pgbouncer is not installed. It serves every database of the server.
std::unique_ptr<dev::Pooler> make_pooler(int pool_size);
/// As libpq takes it.
std::string url_through(dev::Pooler const& pooler, std::string const& database);

/// With POSTHOUSE_TEST_POOLER=N: the URL of this database through this process's own pooler of N server connections;
/// empty: without. Throws when it is asked for and pgbouncer is not installed.
std::string pooled_url(std::string const& database);

}  // namespace posthouse::test
