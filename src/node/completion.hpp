// SPDX-License-Identifier: Apache-2.0
// Results on their way to the database, and Job::complete, which is the same in a worker and in its child processes.
//
// Thread safety: pure, but for what is logged and for the statement.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <posthouse/job.hpp>
#include <posthouse/transaction.hpp>
#include <string>

#include "base/log.hpp"
#include "execute/result.hpp"
#include "store/work.hpp"

namespace posthouse::node {

/// Nothing for nothing.
std::optional<store::JobResult> result_of(std::int64_t token, int position, std::int64_t id, execute::Kept const* kept);

/// Warns of a result that is missing or not whole.
void tell_problem(base::Log const& log, std::int64_t id, execute::Kept const& kept);

/// Behind Job::complete. Keeps a reference to `log`. What it makes throws LeaseLost.
std::function<void(Job const&, Transaction const&, execute::Kept const*)> completion(base::Log const& log,
                                                                                     std::string schema);

}  // namespace posthouse::node
