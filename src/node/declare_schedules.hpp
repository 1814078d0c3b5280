// SPDX-License-Identifier: Apache-2.0
// Makes the schedules of the configuration those of its application in the database.
//
// Thread safety: one thread at a time.
#pragma once

#include "base/log.hpp"
#include "node/config.hpp"
#include "pg/connection.hpp"

namespace posthouse::node {

/// What the server would refuse (a time zone that it does not know, a name that belongs to somebody else) is thrown as
/// ConfigError, all of it. Does nothing without `application`.
void verify_schedules(Config const& config, pg::Connection& connection);

/// Verifies, then declares in one transaction and logs what that changed.
void declare_schedules(Config const& config, base::Log const& log);

}  // namespace posthouse::node
