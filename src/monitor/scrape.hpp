// SPDX-License-Identifier: Apache-2.0
// The bodies of /metrics and /readyz.
//
// Thread safety: pure functions, as far as the functions of the sources are.
#pragma once

#include <string>

#include "monitor/measurer.hpp"
#include "monitor/source.hpp"

namespace posthouse::monitor {

/// At most so many pairs of queue and kind a family and database; the rest is summed up as "(other)".
inline constexpr std::size_t max_series = 300;

std::string metrics_text(Sources const& sources, Measurer const& measurer);

struct Readiness {
  bool ready = false;
  std::string json{};
};
Readiness readiness(Sources const& sources);

}  // namespace posthouse::monitor
