// SPDX-License-Identifier: Apache-2.0
// A public BrokerConfig from and to what is read, for `posthouse start`.
//
// Thread safety: pure functions.
#pragma once

#include <posthouse/broker.hpp>

#include "node/config.hpp"

namespace posthouse {

struct BrokerDoor {
  static BrokerConfig wrap(node::Config config);
  static node::Config const& unwrap(BrokerConfig const& config);
};

}  // namespace posthouse
