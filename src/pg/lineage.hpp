// SPDX-License-Identifier: Apache-2.0
// Which timeline of a cluster this process has seen, so that a former primary which comes back after a failover is known
// for what it is.
//
// A promotion begins a new timeline with a higher number. Whoever has been connected to it never again works with a
// server of the same cluster that is still on a lower one: that server does not know what has happened since. The memory
// is that of the process, one entry a URL and cluster; a server that was set up anew is another cluster.
// Private to src/pg. Thread safety: every function may be called from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

namespace posthouse::pg {

class Lineage {
 public:
  /// The one of this URL and cluster (system_identifier); made at first use, never forgotten.
  static std::shared_ptr<Lineage> of(std::string const& url, std::int64_t cluster);

  /// A connection to a server on this timeline. False: a higher one is known.
  bool meet(std::int64_t timeline) noexcept;
  [[nodiscard]] std::int64_t highest() const noexcept { return highest_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::int64_t> highest_{0};
};

/// What is said of a server that is refused.
std::string former_primary(std::int64_t timeline, std::int64_t highest);

}  // namespace posthouse::pg
