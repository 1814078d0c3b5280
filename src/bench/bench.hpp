// SPDX-License-Identifier: Apache-2.0
// `posthouse bench`: what the engine does on this machine, each figure next to the limit that plain SQL reaches on the
// same tables in the same run.
//
// Everything happens in a schema of its own, which is removed at the end. Repetitions of ours and raw are interleaved;
// the figures are medians.
// Thread safety: one run at a time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <posthouse/options.hpp>

namespace posthouse::bench {

struct Options {
  DatabaseOptions database{};    ///< its schema is ignored
  std::string scenario = "all";  ///< one of scenarios()
  std::int64_t jobs = 300'000;   ///< jobs of one repetition, 1,000 to 100 million
  int repetitions = 3;           ///< 1 to 100
  int seconds = 60;              ///< length of the idle scenario
  bool json = false;             ///< one document on standard output instead of the table
  bool quiet = false;            ///< no progress on standard error
};

struct Scenario {
  std::string name{};
  std::string description{};
};

/// throughput, enqueue, latency, held-snapshot, single, lanes, workers, idle; all is every one of them.
std::vector<Scenario> const& scenarios();

/// Returns the exit status. Throws InvalidArgument, Unavailable, SchemaMissing.
int run(Options const& options);

/// The body of a worker process that the scenario `workers` starts: drains `schema` until `jobs` are done or the
/// process is told to stop.
int run_drain_process(DatabaseOptions const& database, std::string const& kind, int prefetch);

}  // namespace posthouse::bench
