// SPDX-License-Identifier: Apache-2.0
#include "core/reconnect.hpp"

#include <algorithm>

namespace posthouse::core {

std::chrono::milliseconds ReconnectBackoff::next(double random) noexcept {
  auto const wait = static_cast<milliseconds::rep>(static_cast<double>(ceiling_.count()) * random);
  ceiling_ = std::min(ceiling_ * 2, cap_);
  ++failures_;
  return milliseconds(std::max<milliseconds::rep>(wait, 1));
}

void ReconnectBackoff::reset() noexcept {
  ceiling_ = initial_;
  failures_ = 0;
}

}  // namespace posthouse::core
