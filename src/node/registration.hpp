// SPDX-License-Identifier: Apache-2.0
// A worker's entry in the database: one incarnation, which holds its leases.
//
// Thread safety: pure, but for the statement.
#pragma once

#include <cstdint>
#include <string>

#include "node/worker_core.hpp"
#include "store/work.hpp"

namespace posthouse::node {

/// Of this machine; "unknown" when it has none.
std::string host_name();

/// Registers a new incarnation. Throws Error.
std::int64_t register_incarnation(WorkerCore& core, store::Work& work);

/// Tells the database the limits of our kinds, of the queues that the options name, and of the whole. Throws Error.
void declare_limits(WorkerCore const& core, pg::Connection& connection);
/// The same for what else they say of their kinds.
void declare_kinds(WorkerCore const& core, pg::Connection& connection);

/// What workers with the same lanes have in common: at most one of them is the keeper of their bells.
std::string profile_of(WorkerCore const& core);

}  // namespace posthouse::node
