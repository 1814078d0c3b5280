// SPDX-License-Identifier: Apache-2.0
// Compares what clients and handlers wrote down with what the engine says, and names every contradiction.
//
// Pure: no I/O, so that it is tested with histories made up. Thread safety: free functions on plain values.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "concurrency/chaos_history.hpp"

namespace posthouse::test::chaos {

struct EngineJob {
  std::int64_t id = 0;
  std::int64_t u = 0;
  std::string state{};
  int attempt = 0;  ///< made so far, the accepted one included
};
struct EngineError {
  std::int64_t job = 0;
  int attempt = 0;
  std::string type{};
  std::int64_t worker = 0;
};
struct Effect {
  std::int64_t u = 0;
  std::int64_t job = 0;
  int attempt = 0;
  std::string token{};
  std::string how{};  ///< auto, tx or snooze
};

/// A job of a schedule.
struct Ticked {
  std::string tick{};
  std::string state{};
};

struct Evidence {
  // The independent record
  std::vector<Event> history{};
  std::vector<Effect> effects{};
  std::set<std::int64_t> orders{};  ///< committed with their jobs
  // What the engine says
  std::vector<EngineJob> jobs{};
  std::vector<EngineError> errors{};
  std::map<std::int64_t, std::string> ends{};     ///< why each incarnation ended
  std::map<std::int64_t, std::string> results{};  ///< SHA-256 of each stored one, by job
  std::map<std::int64_t, Ticked> ticked{};
  std::string last_tick{};  ///< that the schedule has fired; empty: there was none
};

struct Verdict {
  std::vector<std::string> violations{};
  std::map<std::string, std::int64_t> counts{};

  [[nodiscard]] std::string summary() const;
};

/// For a run that is over: no worker left, every job ended.
Verdict judge(Evidence const& evidence);

}  // namespace posthouse::test::chaos
