// SPDX-License-Identifier: Apache-2.0
// `posthouse bench`: what the engine does on this machine, each figure next to the limit that plain SQL reaches on the
// same tables in the same run.
//
// Everything happens in a schema of its own, which is removed at the end, after a signal too; what a killed run left is
// removed by the next one. Repetitions of ours and raw are interleaved; the figures are medians (figures.hpp).
// Thread safety: one run at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <posthouse/options.hpp>

namespace posthouse::bench {

struct Options {
  DatabaseOptions database{};          ///< its schema is ignored
  std::string scenario = "all";        ///< one of scenarios()
  std::optional<std::int64_t> jobs{};  ///< of one repetition, 1,000 to 100 million; default: the scenario's own
  int repetitions = 3;                 ///< 1 to 100
  int seconds = 60;                    ///< how long what is idle is watched, 1 to 3,600
  bool json = false;                   ///< one document on standard output instead of the table
  bool quiet = false;                  ///< no progress on standard error
};

struct Scenario {
  std::string name{};
  std::string description{};
};

/// throughput, single, enqueue, latency, held-snapshot, features, lanes, workers, idle, fleet, databases; backlog and rtt,
/// which are long; all is every one of these but those two.
std::vector<Scenario> const& scenarios();

/// Returns the exit status: 0; 1 when a scenario of `all` failed and the others were printed; 128 and the signal's number
/// when one came. Throws InvalidArgument, Unavailable, SchemaMissing, ServerError.
int run(Options const& options);

/// The body of a worker process that a scenario starts: drains the schema that its environment names until it is told to
/// stop, or its parent is gone.
int run_drain_process();

}  // namespace posthouse::bench
