// SPDX-License-Identifier: Apache-2.0
#include "base/random.hpp"

#include <cstdint>
#include <random>

namespace posthouse::base {

double random_unit() {
  thread_local std::random_device source;
  std::uint64_t const bits = (static_cast<std::uint64_t>(source()) << 32) | source();
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

}  // namespace posthouse::base
