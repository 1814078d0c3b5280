// SPDX-License-Identifier: Apache-2.0
// One function a scenario. Each leaves the site as it found it.
//
// Thread safety: one at a time.
#pragma once

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

}  // namespace posthouse::bench
