// SPDX-License-Identifier: Apache-2.0
// `posthouse start`: a broker from flags and configuration, with signals, systemd and logs.
//
// Thread safety: one thread; signals are handled while it runs.
#pragma once

#include "node/flags.hpp"

namespace posthouse::node {

struct StartFlags {
  bool standby = false;
  bool install = false;
};

/// Until SIGTERM or SIGINT: drains, a second one stops at once. SIGHUP reads the configuration again. Returns the exit
/// status; throws Error when all databases are refused.
int start_broker(GlobalFlags const& global, StartFlags const& flags);

}  // namespace posthouse::node
