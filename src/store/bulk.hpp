// SPDX-License-Identifier: Apache-2.0
// Jobs that arrive piece by piece and are all enqueued or none, in one transaction that may wait for its input.
//
// Thread safety: as the Connection behind it, one thread at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "pg/connection.hpp"
#include "store/block.hpp"
#include "store/produce.hpp"

namespace posthouse::store {

/// Rolled back unless committed.
class Bulk {
 public:
  explicit Bulk(pg::Connection& connection);
  std::vector<EnqueueOutcome> add(JobList const& jobs) { return copy_many(connection_, jobs); }
  void commit() { block_.commit(); }

 private:
  pg::Connection& connection_;
  Block block_;
};

}  // namespace posthouse::store
