// SPDX-License-Identifier: Apache-2.0
// What the operating system says of this process, under the names that every Prometheus client uses.
//
// Thread safety: pure functions.
#pragma once

#include <string>

#include "monitor/exposition.hpp"

namespace posthouse::monitor {

void process_metrics(Exposition& out);

/// "0.005", "1", "1800": the shortest text.
std::string plain_number(double value);

}  // namespace posthouse::monitor
