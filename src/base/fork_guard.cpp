// SPDX-License-Identifier: Apache-2.0
#include "base/fork_guard.hpp"

#include <unistd.h>

#include <posthouse/error.hpp>
#include <utility>

namespace posthouse::base {

ForkGuard::ForkGuard(std::string what) : what_(std::move(what)), owner_(::getpid()) {}

void ForkGuard::check() const {
  if (::getpid() == owner_) return;
  throw InvalidArgument(what_ + " of process " + std::to_string(owner_) + " is used in process " +
                            std::to_string(::getpid()) + " after fork()",
                        {.hint = "Build a new " + what_ + " in the child."});
}

}  // namespace posthouse::base
