// SPDX-License-Identifier: Apache-2.0
#include "pg/lineage.hpp"

#include <map>
#include <mutex>
#include <utility>

namespace posthouse::pg {

std::shared_ptr<Lineage> Lineage::of(std::string const& url, std::int64_t cluster) {
  static std::mutex mutex;
  static std::map<std::pair<std::size_t, std::int64_t>, std::shared_ptr<Lineage>> known;
  // A hash, since the URL may hold a password.
  std::pair const key(std::hash<std::string>{}(url), cluster);
  std::lock_guard const lock(mutex);
  auto& lineage = known[key];
  if (!lineage) lineage = std::make_shared<Lineage>();
  return lineage;
}

bool Lineage::meet(std::int64_t timeline) noexcept {
  auto before = highest_.load(std::memory_order_relaxed);
  while (before < timeline && !highest_.compare_exchange_weak(before, timeline, std::memory_order_relaxed)) {
  }
  return before <= timeline;
}

std::string former_primary(std::int64_t timeline, std::int64_t highest) {
  return "this server is on timeline " + std::to_string(timeline) + ", and timeline " + std::to_string(highest) +
         " of the same cluster has been seen: it is a former primary that does not know what has happened since";
}

}  // namespace posthouse::pg
