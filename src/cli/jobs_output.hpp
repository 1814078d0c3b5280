// SPDX-License-Identifier: Apache-2.0
// What other commands share with those of jobs_commands.cpp.
//
// Thread safety: one thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "store/admin.hpp"

namespace posthouse::cli {

/// A table, or a JSON array; says how to get the next page.
void print_jobs(std::vector<JobInfo> const& jobs, int limit, bool json);

}  // namespace posthouse::cli
