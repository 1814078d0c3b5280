// SPDX-License-Identifier: Apache-2.0
// One function a scenario: what it leaves in the log is cleared after it. Options::jobs is set by then.
//
// Thread safety: one at a time.
#pragma once

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "bench/bench.hpp"
#include "bench/figures.hpp"
#include "bench/site.hpp"

namespace posthouse::bench {

void throughput(Site& site, Options const& options, Figures& figures);
void single(Site& site, Options const& options, Figures& figures);
void enqueue(Site& site, Options const& options, Figures& figures);
void latency(Site& site, Options const& options, Figures& figures);
void held_snapshot(Site& site, Options const& options, Figures& figures);
void features(Site& site, Options const& options, Figures& figures);
void lanes(Site& site, Options const& options, Figures& figures);
void workers(Site& site, Options const& options, Figures& figures);
void idle(Site& site, Options const& options, Figures& figures);
void fleet(Site& site, Options const& options, Figures& figures);
void databases(Site& site, Options const& options, Figures& figures);
void backlog(Site& site, Options const& options, Figures& figures);
void rtt(Site& site, Options const& options, Figures& figures);

/// What each of some idle workers asks of the server.
struct IdleCost {
  double asked_per_s = 0;  ///< statements that the workers say they sent; upkeep's own connection is not among them
  double transactions_per_s = 0;  ///< by the server's count of the database, ours taken off: the median of slices
  double client_cpu_percent = 0;
  std::optional<double> server_cpu_percent{};
  [[nodiscard]] double queries_per_s() const { return std::max(asked_per_s, transactions_per_s); }
};
IdleCost idle_cost(Site& site, std::vector<std::unique_ptr<Worker>> const& workers, std::chrono::seconds time);

}  // namespace posthouse::bench
