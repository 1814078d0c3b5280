// SPDX-License-Identifier: Apache-2.0
// Finishing a job inside its handler's own transaction.
//
// Thread safety: as that of the transaction.
#pragma once

#include <cstdint>
#include <string>

#include <posthouse/transaction.hpp>

#include "store/work.hpp"

namespace posthouse::store {

/// False when the lease is lost; then nothing was written. A result is stored in the same transaction.
bool complete(Transaction const& transaction, std::string const& schema, std::int64_t worker, std::int64_t token,
              int position, std::int64_t job, JobResult const* result = nullptr);

}  // namespace posthouse::store
